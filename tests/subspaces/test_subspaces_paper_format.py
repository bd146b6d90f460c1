"""The paper's space file: its keys, and what cannot be expressed in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorasub.errors import ArtefactError, ConfigError
from lorasub.subspaces import LayerSubspace, SubspaceBasis, read_paper_format, write_paper_format

PATH = "aggregator.frame_blocks.3.attn.qkv"


def test_keys_and_shapes(tmp_path: Path) -> None:
    layer = LayerSubspace(U=torch.eye(6)[:, :2], V=torch.eye(4)[:, 2:])
    write_paper_format(SubspaceBasis(layers={PATH: layer}), tmp_path / "space.safetensors")
    tensors = load_file(tmp_path / "space.safetensors")
    assert set(tensors) == {"frame_blocks.attn.qkv.3.A", "frame_blocks.attn.qkv.3.B"}
    assert torch.equal(tensors["frame_blocks.attn.qkv.3.A"], torch.eye(4)[:, 2:].T)
    assert torch.equal(tensors["frame_blocks.attn.qkv.3.B"], torch.eye(6)[:, :2])


def test_read(tmp_path: Path) -> None:
    A, B = torch.randn(2, 4), torch.randn(6, 2)
    save_file({"decoder.mlp.fc1.0.A": A, "decoder.mlp.fc1.0.B": B}, tmp_path / "space.safetensors")
    basis = read_paper_format(tmp_path / "space.safetensors", prefix="")
    assert list(basis.layers) == ["decoder.0.mlp.fc1"]
    assert torch.equal(basis.layers["decoder.0.mlp.fc1"].V, A.T)
    assert torch.equal(basis.layers["decoder.0.mlp.fc1"].U, B)
    assert basis.scaled
    assert basis.method == "imported"


def test_orthonormal_columns_are_seen(tmp_path: Path) -> None:
    layer = LayerSubspace(U=torch.eye(6)[:, :2], V=torch.eye(4)[:, 2:])
    write_paper_format(SubspaceBasis(layers={PATH: layer}), tmp_path / "space.safetensors")
    assert not read_paper_format(tmp_path / "space.safetensors").scaled


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"frame_blocks.attn.qkv.0.A": torch.zeros(2, 4)},
        {"frame_blocks.attn.qkv.0.A": torch.zeros(2, 4), "frame_blocks.attn.qkv.0.B": torch.zeros(6, 3)},
        {"blocks.0.qkv.A": torch.zeros(2, 4), "blocks.0.qkv.B": torch.zeros(6, 2)},
        {"weight": torch.zeros(2, 4)},
    ],
)
def test_other_files_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, tmp_path / "space.safetensors")
    with pytest.raises(ArtefactError, match=r"space\.safetensors"):
        read_paper_format(tmp_path / "space.safetensors")


def test_unlike_dimensions_are_refused(tmp_path: Path) -> None:
    basis = SubspaceBasis(layers={PATH: LayerSubspace(U=torch.eye(6)[:, :3], V=torch.eye(4)[:, 2:])})
    with pytest.raises(ConfigError, match="3 output and 2 input"):
        write_paper_format(basis, tmp_path / "space.safetensors")


def test_other_layer_names_are_refused(tmp_path: Path) -> None:
    basis = SubspaceBasis(layers={"head.proj": LayerSubspace(U=torch.eye(6)[:, :2], V=torch.eye(4)[:, 2:])})
    with pytest.raises(ConfigError, match=r"head\.proj"):
        write_paper_format(basis, tmp_path / "space.safetensors")
    assert not list(tmp_path.iterdir())

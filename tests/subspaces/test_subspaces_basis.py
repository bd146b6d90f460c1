"""The basis artefact: what was saved comes back, and every kind of damage is told by file and layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lorasub import files
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_tensors, write_tensors
from lorasub.subspaces import AdapterSource, LayerSubspace, MiningRecord, SubspaceBasis


def frame(n: int, d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, d, generator=generator, dtype=torch.float64)).Q.float()


@pytest.fixture
def basis() -> SubspaceBasis:
    record = MiningRecord(
        spectrum=torch.tensor([3.0, 1.0, 1 / 3], dtype=torch.float64),
        null=torch.tensor([[0.9, 0.8, 0.7], [1.0, 0.9, 0.8], [1.1, 1.05, 0.1]], dtype=torch.float64),
        weights=torch.tensor([0.7, 0.3], dtype=torch.float64),
        objective=torch.tensor([2.0, 1.5], dtype=torch.float64),
        explained=torch.tensor([0.6, 0.4], dtype=torch.float64),
    )
    mined = LayerSubspace(U=frame(7, 2, 0), V=frame(5, 2, 1), S=torch.tensor([3.0, 1.0]).double(), record=record)
    mixed = LayerSubspace(U=frame(6, 3, 2), V=frame(4, 2, 3), U_attributes=("a", "b", "a"), V_attributes=("a", "b"))
    empty = LayerSubspace(U=torch.zeros(3, 0), V=torch.zeros(2, 0))
    return SubspaceBasis(
        layers={"blocks.0.qkv": mined, "blocks.0.proj": mixed, "blocks.1.qkv": empty},
        base_model_hash="b" * 64,
        base_model_id="org/model: v2",
        attributes=("a", "b"),
        sources=(AdapterSource(name="runs/a/0", hash="c" * 64, attribute="a"),),
        options={"alpha": 1.0, "dim": "energy:0.9"},
    )


@pytest.fixture
def folder(basis: SubspaceBasis, tmp_path: Path) -> Path:
    return basis.save(tmp_path / "basis")


def test_round_trip(basis: SubspaceBasis, folder: Path) -> None:
    loaded = SubspaceBasis.load(folder)
    assert loaded.hash() == basis.hash()
    assert loaded.dims == {"blocks.0.qkv": (2, 2), "blocks.0.proj": (3, 2), "blocks.1.qkv": (0, 0)}
    for name in ("base_model_hash", "base_model_id", "method", "attributes", "sources", "options", "scaled"):
        assert getattr(loaded, name) == getattr(basis, name)
    for path, layer in basis.layers.items():
        for name in ("U", "V"):
            assert torch.equal(getattr(loaded.layers[path], name), getattr(layer, name))
        assert loaded.layers[path].U_attributes == layer.U_attributes
    record, expected = loaded.layers["blocks.0.qkv"].record, basis.layers["blocks.0.qkv"].record
    assert record is not None
    assert expected is not None
    assert record.to_dict() == expected.to_dict()
    assert record.spectrum.dtype == torch.float64


def test_beyond_chance_counts_leading_values_only(basis: SubspaceBasis) -> None:
    record = basis.layers["blocks.0.qkv"].record
    assert record is not None
    assert record.beyond_chance == 1  # the third exceeds its null, but the second does not


def test_hash_is_of_the_columns(basis: SubspaceBasis) -> None:
    changed = dict(basis.layers)
    changed["blocks.0.qkv"] = LayerSubspace(U=-basis.layers["blocks.0.qkv"].U, V=basis.layers["blocks.0.qkv"].V)
    assert SubspaceBasis(layers=changed).hash() != basis.hash()
    assert SubspaceBasis(layers=dict(reversed(basis.layers.items()))).hash() == basis.hash()


def test_card_is_front_matter_and_facts(folder: Path, basis: SubspaceBasis) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = card.split("---")[1]
    assert 'base_model: "org/model: v2"' in head
    assert basis.hash() in card
    assert "0 to 3 x 0 to 2" in card


def edit(folder: Path, **changes: object) -> None:
    path = folder / "basis.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no basis at .*nowhere"):
        SubspaceBasis.load(tmp_path / "nowhere")


def test_truncated_tensors(folder: Path) -> None:
    file = folder / "basis.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ArtefactError, match=r"basis\.safetensors is not the file that basis\.json describes"):
        SubspaceBasis.load(folder)
    edit(folder, files={})  # as earlier versions wrote it: without the file's hash
    with pytest.raises(ArtefactError, match=r"basis\.safetensors is not a whole"):
        SubspaceBasis.load(folder)


def test_truncated_description(folder: Path) -> None:
    file = folder / "basis.json"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(ArtefactError, match=r"basis\.json is not valid JSON"):
        SubspaceBasis.load(folder)


def test_newer_format(folder: Path) -> None:
    edit(folder, format_version=2)
    with pytest.raises(ArtefactError, match=r"format version 2.*reads 1"):
        SubspaceBasis.load(folder)


def test_lost_field(folder: Path) -> None:
    edit(folder, layers={"blocks.0.qkv": {"U": [7, 2]}})
    with pytest.raises(ArtefactError, match=r"lacks or garbles a field \(KeyError"):
        SubspaceBasis.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.0.qkv.V"), r"lacks V of layer 'blocks\.0\.qkv'"),
        (lambda t: t.update({"blocks.9.qkv.U": torch.zeros(3, 1)}), r"does not name: \['blocks\.9\.qkv\.U'\]"),
        (lambda t: t.update({"blocks.0.qkv.U": frame(7, 1, 0)}), r"U of layer 'blocks\.0\.qkv' has shape \[7, 1\]"),
        (
            lambda t: t.update({"blocks.0.qkv.U": 2 * frame(7, 2, 0)}),
            r"U of layer 'blocks\.0\.qkv' are not orthonormal",
        ),
        (lambda t: t.update({"blocks.0.qkv.U": frame(7, 2, 9)}), r"is not the file that basis\.json describes"),
        (lambda t: t["blocks.0.qkv.U"].fill_(float("nan")), r"'blocks\.0\.qkv\.U' holds NaN"),
        (lambda t: t.update({"blocks.0.qkv.S": torch.ones(3)}), r"layer 'blocks\.0\.qkv': S has shape \(3,\)"),
    ],
)
def test_damage_is_named(folder: Path, change: object, message: str) -> None:
    file = folder / "basis.safetensors"
    tensors = read_tensors(file)
    change(tensors)  # type: ignore[operator]
    write_tensors(file, tensors)
    with pytest.raises(ArtefactError, match=r"is not the file that basis\.json describes"):
        SubspaceBasis.load(folder)
    edit(folder, files={})  # as earlier versions wrote it: without the file's hash
    with pytest.raises(ArtefactError, match=message):
        SubspaceBasis.load(folder)


def test_a_failed_save_leaves_the_old_basis(
    basis: SubspaceBasis, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full_disk)
    other = SubspaceBasis(layers={"blocks.0.qkv": LayerSubspace(U=frame(7, 2, 5), V=frame(5, 2, 6))})
    with pytest.raises(OSError, match="No space"):
        other.save(folder)
    assert SubspaceBasis.load(folder).hash() == basis.hash()
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "basis.json", "basis.safetensors"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"U": torch.zeros(3), "V": torch.zeros(2, 1)}, "needs U"),
        ({"U": torch.zeros(3, 4), "V": torch.zeros(2, 1)}, "U has 4 columns in only 3"),
        ({"U": torch.zeros(3, 1), "V": torch.zeros(2, 1), "S": torch.zeros(2)}, "S has shape"),
        ({"U": torch.zeros(3, 1), "V": torch.zeros(2, 1), "U_attributes": ("a", "b")}, "U_attributes names 2"),
    ],
)
def test_impossible_layers_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LayerSubspace(**fields)  # type: ignore[arg-type]

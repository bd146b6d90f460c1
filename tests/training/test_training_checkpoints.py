"""What a checkpoint says of itself, and that damage to it is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lorasub.errors import ArtefactError
from lorasub.training.checkpoints import AtomicCheckpointIO, find_checkpoint, read_checkpoint, run_of


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The last checkpoint of a run."""
    path = tmp_path / "geometry" / "0" / "checkpoints" / "last.ckpt"
    content: dict[str, Any] = {
        "state_dict": {"a": torch.arange(400.0)},
        "global_step": 7,
        "optimizer_states": [{}],
        "loops": {},
        "hyper_parameters": {"_class_path": "lorasub.GeometryTask", "warmup": 0.1, "_instantiator": "x"},
    }
    AtomicCheckpointIO().save_checkpoint(content, path)
    (path.parents[1] / "config.yaml").write_text("model: {}")
    return path


def test_it_is_found_by_file_run_and_name(checkpoint: Path, tmp_path: Path) -> None:
    runs, run = tmp_path / "geometry", checkpoint.parents[1]
    for wanted in (str(checkpoint), str(run), str(checkpoint.parent), "last", "auto"):
        assert find_checkpoint(wanted, runs) == checkpoint
    assert find_checkpoint("last", runs, "0") == checkpoint
    assert find_checkpoint("auto", runs, "1") is None
    assert run_of(checkpoint) == run
    assert run_of(tmp_path / "alone.ckpt") is None


def test_it_says_its_step_and_its_task(checkpoint: Path) -> None:
    info = read_checkpoint(checkpoint)
    assert (info.step, info.resumable) == (7, True)
    assert info.recipe == {"class_path": "lorasub.GeometryTask", "init_args": {"warmup": 0.1}}


def test_one_flipped_bit_in_a_weight_is_seen(checkpoint: Path) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[content.index(torch.arange(400.0).numpy().tobytes()) + 100] ^= 1
    checkpoint.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match=r"last\.ckpt is damaged: the checksum"):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [b"", b"no archive", {"weights": 1}])
def test_what_is_no_checkpoint_is_told(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "mine.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ArtefactError, match=r"mine\.ckpt"):
        read_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": lambda: 0}, checkpoint)
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.safetensors", b"\x10\0\0\0\0\0\0\0{}", "it is a safetensors file"),
        ("a.ckpt", b"\x10\0\0\0\0\0\0\0{}", "it is a safetensors file"),
        ("a.ckpt", b"\x80\x02\x8a\x0al\xfc", "before version 1.6"),
        ("a.ckpt", b"", "the file is empty"),
        ("a.ckpt", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("a.ckpt", b"<!DOCTYPE html>", "web page"),
    ],
)
def test_a_whole_file_of_another_kind_is_not_called_damaged(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=says) as told:
        read_checkpoint(tmp_path / name)
    assert name in str(told.value)
    assert "damaged" not in str(told.value)

"""Weights of other tools, and files that only stand for weights, are called what they are."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lorasub.backbones.loading import read_weights
from lorasub.errors import ArtefactError


def in_memory(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def zipped(file: io.BytesIO) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "x")


def tarred(file: io.BytesIO) -> None:
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("notes.txt"))


WEIGHTS = in_memory(lambda file: torch.save({"a": torch.ones(2)}, file))
HEADER = json.dumps({"a": {"dtype": "F3_X", "shape": [2], "data_offsets": [0, 1]}}).encode()
FILES = {
    "m.onnx": (b"\x08\x07\x12\x07pytorch" + bytes(200), "an ONNX program"),
    "m.bin": (b"GGUF\x03" + bytes(200), "a GGUF file"),
    "m.h5": (b"\x89HDF\r\n\x1a\n" + bytes(200), "an HDF5 file"),
    "m.npz": (in_memory(lambda file: np.savez(file, a=np.ones(3))), "an archive of numpy arrays"),
    "m.npy": (in_memory(lambda file: np.save(file, np.ones(3))), "a numpy array"),
    "m.pt": (gzip.compress(WEIGHTS), "gzip: unpack it"),
    "m.tar": (in_memory(tarred), r"tar\): unpack"),
    "m.zip": (in_memory(zipped), "zip.* of other files"),
    "empty.pth": (b"", "the file is empty"),
    "pointer.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
    "page.pt": (b"<!DOCTYPE html><html>", "a web page"),
    "empty.safetensors": (b"", "the file is empty"),
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
    "page.safetensors": (b"<html>", "a web page"),
    "zip.safetensors": (in_memory(zipped), "an archive"),
    "new.safetensors": (len(HEADER).to_bytes(8, "little") + HEADER + bytes(1), r"does not know \(F3_X\)"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_of_another_kind_is_called_what_it_is(tmp_path: Path, name: str) -> None:
    content, says = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtefactError, match=says) as told:
        read_weights(tmp_path / name)
    assert name in str(told.value)
    assert "weights_only" not in str(told.value)
    assert "not a whole" not in str(told.value)


@pytest.mark.parametrize("old", [False, True])
def test_weights_of_torch_are_read(tmp_path: Path, old: bool) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "m.pt", _use_new_zipfile_serialization=not old)
    assert torch.equal(read_weights(tmp_path / "m.pt")["a"], torch.ones(2))


def test_damage_is_told_without_advice_to_run_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(bytes(200))
    with pytest.raises(ArtefactError, match=r"m\.pt is damaged, or no file of PyTorch; copy it again"):
        read_weights(tmp_path / "m.pt")

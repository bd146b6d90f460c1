"""Files are whole or absent, and damage is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from lorasub.errors import ArtefactError
from lorasub.files import (
    atomic_path,
    hash_tensors,
    read_json,
    read_metadata,
    read_tensors,
    write_csv,
    write_json,
    write_tensors,
)


def test_round_trip_with_metadata(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(1, dtype=torch.int64)}
    write_tensors(tmp_path / "deep" / "t.safetensors", tensors, {"who": "me"})
    back = read_tensors(tmp_path / "deep" / "t.safetensors")
    assert set(back) == {"a", "b"}
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert read_metadata(tmp_path / "deep" / "t.safetensors") == {"who": "me"}


def test_failure_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def fail_halfway() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail_halfway()
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_truncation_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ArtefactError, match=r"t\.safetensors"):
        read_tensors(path)
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_tensors(tmp_path / "missing.safetensors")


def test_non_finite_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"fine": torch.ones(2), "bad": torch.tensor([1.0, float("nan")])})
    with pytest.raises(ArtefactError, match="'bad'"):
        read_tensors(path)
    assert torch.isnan(read_tensors(path, finite=False)["bad"]).any()


def test_json_never_holds_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": [float("nan"), 1.5, float("inf")], "b": (1, 2)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.5, None], "b": [1, 2]}
    (tmp_path / "x.json").write_text('{"a": [1,')
    with pytest.raises(ArtefactError, match="truncated"):
        read_json(tmp_path / "x.json")


def test_hash_is_about_content_only() -> None:
    a, b = torch.randn(3, 4), torch.randn(2)
    assert hash_tensors({"a": a, "b": b}) == hash_tensors({"b": b.clone(), "a": a.T.contiguous().T})
    changed = a.clone()
    changed[0, 0] = torch.nextafter(changed[0, 0], torch.tensor(9.0))
    assert hash_tensors({"a": a}) != hash_tensors({"a": changed})
    assert hash_tensors({"a": a}) != hash_tensors({"c": a})
    assert hash_tensors({"a": a}) != hash_tensors({"a": a.reshape(4, 3)})
    assert hash_tensors({"a": a.bfloat16()}) != hash_tensors({"a": a.half()})


def test_csv_has_every_name_once_and_leaves_gaps_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "deep" / "rows.csv", [{"a": 1, "b": "x, y"}, {"c": 2.5, "a": 3}])
    with (tmp_path / "deep" / "rows.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["a", "b", "c"], ["1", "x, y", ""], ["3", "", "2.5"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_json_of_every_editor_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes('{"é": 1}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"é": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a": [1, 2', "is the file truncated"),
        (b'{"a": "b', "is the file truncated"),
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"{'a': 1}", "Expecting property name"),
        (b'{"a": 1} 2', "Extra data"),
        (b'{"a": \xff}', "byte 6 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_json_is_called_truncated_only_if_it_ends_too_early(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=says) as told:
        read_json(tmp_path / "a.json")
    assert ("file truncated?" in str(told.value)) == ("truncated" in says)

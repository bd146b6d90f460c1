"""The campaign of kills and damage in small, and that it would see what it looks for."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.damaged_inputs import DAMAGES
from benchmarks.reliability import JOBS, damaged_files
from lorasub.files import read_json, write_json, write_tensors


@pytest.mark.timeout(600)  # its own process gives up after 550 s
def test_every_killed_command_goes_on_to_the_same_bytes(repository: Path, tmp_path: Path) -> None:
    """One kill each. A process of its own: one with a pool of threads, as this may be, cannot be forked safely."""
    words = ["reliability", "--kills=1", "--inputs=0", "--json", str(tmp_path / "found.json")]
    subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=repository, check=True, timeout=550)
    kills = read_json(tmp_path / "found.json")["results"]["kills"]
    assert set(kills) == set(JOBS) == {"fit", "generate", "mine", "study run", "pre-training"}
    assert all(tally == {"kills": 1, "same": 1, "damaged": 0, "failed": 0} for tally in kills.values()), kills


def test_files_that_are_not_whole_are_found(tmp_path: Path) -> None:
    write_json(tmp_path / "good.json", {"a": 1})
    write_tensors(tmp_path / "good.safetensors", {"a": torch.ones(40)})
    torch.save({"state_dict": {"a": torch.ones(40)}}, tmp_path / "good.ckpt")
    assert damaged_files(tmp_path) == []
    (tmp_path / ".half.safetensors.tmp").write_bytes(b"half")  # hidden: nobody takes it for a result
    for path in list(tmp_path.glob("good.*")):
        (tmp_path / f"half{path.suffix}").write_bytes(path.read_bytes()[:-3])
    assert {path.name for path in damaged_files(tmp_path)} == {"half.json", "half.safetensors", "half.ckpt"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_changes_the_file(tmp_path: Path, damage: str) -> None:
    path, other = tmp_path / "mine.json", tmp_path / "other.json"
    path.write_text(json.dumps({"name": "mine", "values": list(range(40))}))
    other.write_text(json.dumps({"name": "other"}))
    before = path.read_bytes()
    DAMAGES[damage](path, other, random.Random(0))
    assert not path.exists() or path.read_bytes() != before
    assert other.exists()

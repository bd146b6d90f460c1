"""The documented commands for many GPUs, as far as they can be followed where there are none."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lorasub.cli.main import main


def documented(repository: Path, begin: str) -> list[str]:
    """The words of a command of docs/distribution.md that begins like this."""
    page = (repository / "docs" / "distribution.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (found,) = [line for line in page.splitlines() if line.startswith(f"$ lorasub {begin}")]
    return shlex.split(found.removeprefix("$ lorasub "), comments=True)


@pytest.mark.parametrize("more", [[], ["--trainer.strategy=fsdp2"]], ids=["ddp", "fsdp2"])
def test_vggt_1b_on_eight_cards_is_counted(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, more: list[str]
) -> None:
    """With frozen weights in bfloat16 it takes the memory that the page says, below 30 GiB."""
    monkeypatch.chdir(repository)
    words = documented(repository, "fit --config configs/geometry.yaml --model.backbone.name vggt-1b")
    assert main([*words, *more, "--trainer.precision=bf16-mixed", "--estimate"]) == 0
    printed = capsys.readouterr().out
    assert float(re.search(r"^total +([\d.]+) GiB", printed, re.MULTILINE)[1]) == pytest.approx(29.5, abs=0.3)
    assert "29.5 GiB for the command above" in (repository / "docs" / "distribution.md").read_text()

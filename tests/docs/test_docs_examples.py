"""What the pages promise, run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lorasub.cli.main import main

#: Pages whose code needs more than an empty folder have tests of their own, beside those of their subject.
ELSEWHERE = {"adapters", "backbone_recipes", "backbones", "data", "subspaces"}
PAGES = [
    page for page in sorted((Path(__file__).resolve().parents[2] / "docs").glob("*.md")) if page.stem not in ELSEWHERE
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def python_blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.stem)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec", dont_inherit=True), names)


def test_readme_python_block_names_exist(repository: Path) -> None:
    """The README's fit takes minutes; here its names and arguments are checked, on a fit of one step."""
    (block,) = python_blocks(repository / "README.md")
    short = block.replace("max_steps=300", "fast_dev_run=1, accelerator='cpu'")
    assert short != block
    exec(compile(short, "README.md", "exec"), {})


def test_the_task_page_runs_from_the_command_line(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository / "docs" / "tasks.md").read_text(encoding="utf-8")
    (module,) = (block for block in BLOCK.findall(page) if block.startswith("# mytask.py"))
    (tmp_path / "mytask.py").write_text(module, encoding="utf-8")
    (command,) = re.findall(r"^\$ lorasub (.*mytask.*)$", page, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = [str(repository / word) if word.startswith("configs/") else word for word in shlex.split(command)]
    small = ["--trainer.fast_dev_run=1", "--data.image_size=56", "--trainer.accelerator=cpu"]
    assert main([*words, *small]) == 0


@pytest.mark.slow
def test_the_tutorial_runs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the tutorial on the nano backbone, with shorter fits on smaller images."""
    page = (repository / "docs" / "tutorial.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ lorasub (.*)$", page, re.MULTILINE)
    assert [command.split()[0] for command in commands].count("fit") == 7
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(repository / "configs")
    short = ["--trainer.accelerator=cpu", "--trainer.max_steps=6", "--trainer.val_check_interval=6"]
    short += ["--data.image_size=56", "--data.val_scenes=2", "--trainer.enable_progress_bar=false"]
    for command in commands:
        words = shlex.split(command)
        assert main([*words, *(short if words[0] == "fit" else [])]) == 0, command
    assert (tmp_path / "overlap" / "phi.png").is_file()
    assert (tmp_path / "merged" / "model.safetensors").is_file()

"""Damages files that lorasub reads, and looks at what it says.

Each input is damaged in one way and given to a command that reads it. What is asked for: the command ends with exit
code 1 or 2, one line names the damaged file (or its folder) in words of lorasub's own, and no file has changed. Bytes
that were flipped inside a number leave a file that is whole in every respect; that is counted apart, as "read all the
same".
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import forked
from lorasub.files import hash_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Something that a command reads.

    Attributes:
        kind: what it is.
        folder: that holds it; copied for every damage.
        files: that may be damaged, below ``folder``.
        command: reads it; ``{}`` stands for the copy of ``folder``.
        swappable: whether that of another model is wrong here. Another config, other results and another
            backbone are as good as these.
    """

    kind: str
    folder: Path
    files: Sequence[str]
    command: Sequence[str]
    swappable: bool = True


def flip(path: Path, other: Path, draw: random.Random) -> None:
    """Other bits in sixteen places, two of them among the first bytes."""
    content = bytearray(path.read_bytes())
    places = [draw.randrange(min(64, len(content))) for _ in range(2)] + [
        draw.randrange(len(content)) for _ in range(14)
    ]
    for place in places:
        content[place] ^= draw.randrange(1, 256)
    path.write_bytes(bytes(content))


def truncate(path: Path, other: Path, draw: random.Random) -> None:
    """Only the beginning is left."""
    path.write_bytes(path.read_bytes()[: draw.randrange(1, max(2, path.stat().st_size))])


def empty(path: Path, other: Path, draw: random.Random) -> None:
    """Nothing is left."""
    path.write_bytes(b"")


def rename(path: Path, other: Path, draw: random.Random) -> None:
    """It is not there under its name."""
    path.rename(path.with_name(f"old_{path.name}"))


def swap(path: Path, other: Path, draw: random.Random) -> None:
    """That of another model."""
    shutil.copyfile(other, path)


DAMAGES: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "flipped": flip,
    "truncated": truncate,
    "emptied": empty,
    "renamed": rename,
    "swapped": swap,
}


def make_inputs(workplace: Path) -> tuple[list[Input], dict[str, Input]]:
    """Makes inputs of every kind for one tiny model, and the same for another."""
    from benchmarks import reliability

    both: list[dict[str, Input]] = []
    for name, width in (("one", 16), ("other", 32)):
        place = workplace / name
        place.mkdir()
        weights = reliability.save_backbone(place / "backbone", seed=width, width=width)
        for partition in (0, 1):
            _call(reliability.fit_words(weights, f"--data.partition={partition}", steps=2), place)
        _call(["test", "--ckpt_path=runs/geometry/0", *reliability.QUIET], place)
        _call(["mine", "runs/geometry/0", "runs/geometry/1", "--dim=2", "--out=basis"], place)
        sizes = ["--data.num_scenes=1", "--data.val_scenes=1", "--data.num_views=3", "--data.image_size=56"]
        sizes.append(f"--data.seed={width}")  # the other scene shows something else
        _call(["generate", "--data.attribute=all", *sizes, "--layout=nerfstudio", "--out=scenes"], place)
        both.append({item.kind: item for item in _inputs(place, weights)})
    return list(both[0].values()), both[1]


def _inputs(place: Path, weights: Path) -> list[Input]:
    from benchmarks import reliability

    run, scene = place / "runs" / "geometry" / "0", place / "scenes" / "train" / "000000"
    frames = [str(path.relative_to(scene)) for path in sorted(scene.rglob("*")) if path.suffix in (".json", ".png")]
    config = place / "config"
    config.mkdir()
    shutil.copyfile(run / "config.yaml", config / "mine.yaml")
    base = ["--model.backbone=lorasub.VGGT.from_pretrained"]
    quick = [*reliability.QUIET, "--trainer.fast_dev_run=1"]
    return [
        Input(
            kind="capture",
            folder=scene,
            files=[name for name in frames if name != "scene.json"],
            command=["data", "check", "{}"],
        ),
        Input(
            kind="config",
            folder=config,
            files=["mine.yaml"],
            command=["fit", "--config={}/mine.yaml", *quick],
            swappable=False,
        ),
        Input(
            kind="adapter",
            folder=run / "adapter",
            files=["adapter_model.safetensors", "adapter_config.json"],
            command=["merge", "{}", f"--base={weights}", "--out=merged"],
        ),
        Input(
            kind="basis",
            folder=place / "basis",
            files=["basis.safetensors", "basis.json"],
            command=[
                *("fit", f"--config={config / 'mine.yaml'}", *quick, "--model.adapter=ProjectedLoRA"),
                *("--model.adapter.basis={}", "--model.adapter.targets=blocks"),
            ],
        ),
        Input(
            kind="checkpoint",
            folder=run / "checkpoints",
            files=["last.ckpt"],
            command=["test", "--ckpt_path={}/last.ckpt", f"--config={config / 'mine.yaml'}", *quick],
        ),
        Input(
            kind="results",
            folder=place / "runs" / "geometry" / "0_test",
            files=["results.json"],
            command=["compare", f"first={place / 'runs' / 'geometry' / '0_test'}", "second={}", "--resamples=200"],
            swappable=False,
        ),
        Input(
            kind="backbone",
            folder=weights.parent,
            files=[weights.name],
            command=["fit", f"--config={config / 'mine.yaml'}", *quick, *base, "--model.backbone.source={}"],
            swappable=False,
        ),
    ]


def damage_inputs(workplace: Path, count: int, seed: int) -> list[dict[str, str]]:
    """Damages inputs one at a time, kinds and damages in turn, and returns what came of each."""
    inputs, others = make_inputs(workplace)
    draw = random.Random(f"{seed} inputs")
    rows = []
    combinations = [(item, damage) for damage in DAMAGES for item in inputs if damage != "swapped" or item.swappable]
    for number in range(count):
        item, damage = combinations[number % len(combinations)]
        name = draw.choice(list(item.files))
        outcome, said = _damaged(item, others[item.kind], name, damage, workplace / f"input_{number}", draw)
        rows.append({"input": item.kind, "file": name, "damage": damage, "outcome": outcome, "said": said})
        if outcome not in ("told", "told in a note", "read all the same"):
            print(f"  {item.kind}, {name} {damage}: {outcome}: {said}", flush=True)
    return rows


def _damaged(item: Input, other: Input, name: str, damage: str, place: Path, draw: random.Random) -> tuple[str, str]:
    """Damages one file of a copy, runs the command, and says what came of it."""
    copy = place / item.folder.name
    shutil.copytree(item.folder, copy)
    DAMAGES[damage](copy / name, other.folder / name, draw)
    before = _hashes(copy)
    ended = forked.run([word.replace("{}", str(copy)) for word in item.command], place)
    lines = [line for line in ended.said.splitlines() if line.startswith("lorasub: ")] or ended.said.splitlines()[-8:]
    said = "\n".join(lines)
    if _hashes(copy) != before:
        outcome = "changed the input"
    elif ended.code == 0:
        noted = any(
            mark in line and name in line for line in ended.said.splitlines() for mark in ("note", "not provable")
        )
        outcome = "told in a note" if noted else "read all the same"
    elif "Traceback" in ended.said or "--debug" in ended.said or ended.code not in (1, 2):
        outcome = "error without words"
    elif not any(word in ended.said for word in (name, Path(name).name, copy.name)):
        outcome = "file not named"
    else:
        outcome = "told"
    shutil.rmtree(place)
    return outcome, said


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path): hash_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _call(words: Sequence[str], folder: Path) -> None:
    ended = forked.run(words, folder)
    if ended.code != 0:
        raise SystemExit(f"{json.dumps(list(words))} failed:\n{ended.said[-3000:]}")

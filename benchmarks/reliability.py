"""Kills runs at random moments and damages their inputs: is everything there that was promised?

    python -m benchmarks reliability
    python -m benchmarks reliability --kills 50 --inputs 200 --json reliability.json
    python -m benchmarks reliability --only fit generate --kills 5 --inputs 0

A command is killed with SIGKILL, with all of its processes, at a moment that is drawn uniformly between its first file
and its end; whatever is there under its final name must be whole; then the command that resumes it runs to its end, and
what it leaves is compared with an undisturbed run, byte for byte. Models are tiny, so that the time goes into the code
under test. The kinds of damage are in ``benchmarks/damaged_inputs.py``.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open

from benchmarks import forked
from benchmarks.damaged_inputs import damage_inputs
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.files import hash_file
from lorasub.packaged_configs import config_folder

#: Sizes of a backbone whose steps take milliseconds.
TINY: dict[str, Any] = {
    "image_size": 28,
    "embed_dim": 16,
    "num_heads": 2,
    "encoder_depth": 1,
    "num_pairs": 4,
    "taps": (0, 1, 2, 3),
    "camera_heads": 2,
    "camera_depth": 1,
    "camera_iterations": 2,
    "dense_features": 8,
    "dense_channels": (8, 8, 8, 8),
}
SCENES = {"num_views": 2, "batch_size": 2, "image_size": 28, "antialias": False, "shadow_samples": 1}
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.precision=32-true"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A command that is killed.

    Attributes:
        command: its words, which are also those that resume it unless ``resume`` has others.
        results: patterns of the files that must come out the same, byte for byte.
        resume: the words that go on after a kill.
    """

    command: list[str]
    results: tuple[str, ...]
    resume: list[str] | None = None

    def found(self, folder: Path) -> dict[str, str]:
        """File -> hash of everything that is compared."""
        paths = sorted(path for pattern in self.results for path in folder.glob(pattern))
        return {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}


def save_backbone(folder: Path, *, seed: int, width: int = 16) -> Path:
    """Writes a tiny backbone with random weights, and returns its file."""
    torch.manual_seed(seed)
    sizes = VGGTConfig(**{**TINY, "embed_dim": width})
    return Path(VGGT(sizes).save_pretrained(folder))


def fit_words(weights: Path, *more: str, steps: int = 12) -> list[str]:
    """A fit of the tiny backbone with a checkpoint every other step."""
    sizes = {**SCENES, "num_scenes": 8, "val_scenes": 2}
    data = [f"--data.{name}={json.dumps(value)}" for name, value in sizes.items()]
    tiny = ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={weights}"]
    often = ["--checkpoint.every_n_train_steps=2", "--panels.scenes=0", "--overlap.references={}"]
    config = str(config_folder() / "geometry.yaml")
    length = [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
    return ["fit", "--config", config, *tiny, *data, *QUIET, *often, *length, *more]


def fit_job(workplace: Path) -> Job:
    """An adapter."""
    weights = save_backbone(workplace / "tiny", seed=3)
    command = fit_words(weights, "--ckpt_path=auto", "--run.version=it", "--run.overwrite=true")
    return Job(
        command=command, results=("runs/geometry/it/adapter/*.safetensors", "runs/geometry/it/before_after.json")
    )


def generate_job(workplace: Path) -> Job:
    """A data set on disk."""
    sizes = {**SCENES, "num_scenes": 12, "val_scenes": 4}
    data = [f"--data.{name}={json.dumps(value)}" for name, value in sizes.items()]
    return Job(command=["generate", "--data.attribute=geometry", *data, "--out=scenes"], results=("scenes/**/*.*",))


def mine_job(workplace: Path) -> Job:
    """A basis of two adapters."""
    weights = save_backbone(workplace / "tiny", seed=3)
    folders = []
    for partition in range(2):
        folder = workplace / f"adapter_{partition}"
        folder.mkdir()
        ended = forked.run(fit_words(weights, f"--data.partition={partition}", steps=2), folder)
        assert ended.code == 0, ended.said
        folders.append(str(folder / "runs" / "geometry" / "0"))
    command = ["mine", *folders, "--dim=parallel", "--out=basis"]
    return Job(command=command, results=("basis/basis.*",), resume=[*command, "--overwrite"])


def study_job(workplace: Path) -> Job:
    """A study of one attribute, two partitions and two methods: few steps, each of a kind of its own."""
    weights = save_backbone(workplace / "tiny", seed=3)
    content = yaml.safe_load((config_folder() / "study" / "smoke.yaml").read_text(encoding="utf-8"))
    content["backbone"] = {"class_path": "lorasub.VGGT.from_pretrained", "init_args": {"source": str(weights)}}
    content["attributes"] = ["geometry"]
    content["methods"] = {name: content["methods"][name] for name in ("none", "mined")}
    content["methods"]["mined"] |= {"sweep": {"basis": ["combined"]}, "learning_rates": [1.0e-2]}
    content |= {"bases": {"combined": {}}, "ablations": {}, "seeds": [0], "folder": "study"}
    for section in ("removal", "primary", "gradient_test"):
        content.pop(section)
    content["adapters"]["data"]["init_args"] |= {**SCENES, "num_scenes": 4}
    content["adapters"]["steps"] = 2
    room = content["downstream"]["transparent"]
    room["data"]["init_args"] |= {**SCENES, "num_scenes": 4, "val_scenes": 2}
    room |= {"steps": 2, "tests": {}}
    file = workplace / "study.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    results = (
        "study/steps/*/*/run/adapter/*.safetensors",
        "study/steps/*/*/run/results.csv",
        "study/steps/*/*/basis/*",
    )
    return Job(command=["study", "run", str(file), "--jobs=0"], results=results)


def pretraining_job(workplace: Path) -> Job:
    """A backbone with averaged weights."""
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in TINY.items()}
    content = {
        "run": {"name": "pretrain", "version": "it"},
        "ckpt_path": "auto",
        "trainer": {
            "max_steps": 12,
            "val_check_interval": 6,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "callbacks": [
                {"class_path": "lorasub.callbacks.WarmWeightAveraging", "init_args": {"decay": 0.9}},
                {"class_path": "lorasub.callbacks.BackboneExport", "init_args": {"dtype": "float32"}},
            ],
        },
        "checkpoint": {"every_n_train_steps": 2},
        "model": {
            "class_path": "PretrainingTask",
            "init_args": {
                "backbone": {"class_path": "lorasub.VGGT", "init_args": {"config": plain}},
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3}},
                "warmup_steps": 2,
            },
        },
        "data": {
            "class_path": "PretrainingScenes",
            "init_args": {
                "stages": [{"from_step": 0, "image_size": 28, "views": [2, 2], "batch_size": 2}],
                "val_scenes": 2,
                "antialias": False,
                "shadow_samples": 1,
            },
        },
    }
    file = workplace / "pretrain.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = ["fit", "--config", str(file), *QUIET, "--panels.scenes=0", "--run.overwrite=true"]
    return Job(command=command, results=("runs/pretrain/it/backbone/model.safetensors",))


#: Name -> what makes a command, given a folder for what it needs.
JOBS: dict[str, Callable[[Path], Job]] = {
    "fit": fit_job,
    "generate": generate_job,
    "mine": mine_job,
    "study run": study_job,
    "pre-training": pretraining_job,
}


@dataclass(slots=True)
class Tally:
    """What a command's kills came to.

    Attributes:
        kills: that hit the command before its end.
        same: after which the resumed run left what the undisturbed one did.
        damaged: files under their final names that were not whole right after a kill.
        failed: resumed runs that ended with an error.
    """

    kills: int = 0
    same: int = 0
    damaged: int = 0
    failed: int = 0


def kill_campaign(job: Job, workplace: Path, kills: int, draw: random.Random) -> Tally:
    """Kills a command so many times, each time from the beginning."""
    whole, first, expected = _undisturbed(job, workplace)
    tally = Tally()
    for number in range(3 * kills + 3):  # some end before they are killed
        if tally.kills == kills:
            break
        folder = workplace / f"kill_{number}"
        folder.mkdir()
        wait = draw.uniform(0, whole - first)
        ended = forked.run(job.command, folder, kill_after=lambda folder=folder, wait=wait: _begun(folder, wait))
        if ended.code == -9:
            tally.kills += 1
            tally.damaged += len(damaged_files(folder))
            resumed = forked.run(job.resume or job.command, folder)
            tally.failed += resumed.code != 0
            same = resumed.code == 0 and job.found(folder) == expected
            tally.same += same
            then = "same bytes" if same else resumed.said[-600:]
            # each kill at once, so that a campaign that is stopped has not been for nothing
            print(
                f"  {' '.join(job.command[:2])} {tally.kills}: killed {wait:.2f} s after its first file; {then}",
                flush=True,
            )
        shutil.rmtree(folder)
    return tally


def _undisturbed(job: Job, workplace: Path) -> tuple[float, float, dict[str, str]]:
    """Seconds until its end and until its first file, and what it leaves."""
    folder = workplace / "undisturbed"
    folder.mkdir()
    seen: list[float] = []
    started = time.perf_counter()

    def watch() -> None:
        if not seen and _begun(folder, 0.0) is not None:
            seen.append(time.perf_counter() - started)

    ended = forked.run(job.command, folder, kill_after=watch)
    assert ended.code == 0, ended.said
    expected = job.found(folder)
    assert expected, f"{job.command[:2]} leaves nothing to compare"
    shutil.rmtree(folder)
    return ended.seconds, seen[0], expected


def _begun(folder: Path, wait: float) -> float | None:
    """The time to wait once the command has written something, else None."""
    return wait if any(path.name != forked.LOG for path in folder.iterdir()) else None


def damaged_files(folder: Path) -> list[Path]:
    """Files under final names that cannot be read as a whole."""
    readers: Mapping[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
        ".safetensors": _read_all,
        ".ckpt": lambda path: torch.load(path, weights_only=True, map_location="cpu"),
    }
    found = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in readers and path.is_file() and not hidden:
            try:
                readers[path.suffix](path)
            except Exception:
                found.append(path)
    return found


def _read_all(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
            file.get_tensor(name)


def main() -> None:
    """Kill, damage, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--inputs", type=int, default=200, help="damaged inputs")
    parser.add_argument("--only", nargs="*", choices=JOBS, default=list(JOBS), help="commands to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the damage")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process with a pool of threads cannot be forked safely
    with tempfile.TemporaryDirectory() as folder:
        workplace = Path(folder)
        kills = {}
        for name in options.only if options.kills else ():
            place = workplace / name.replace(" ", "_")
            place.mkdir()
            kills[name] = kill_campaign(
                JOBS[name](place), place, options.kills, random.Random(f"{options.seed} {name}")
            )
            print(name, kills[name], flush=True)
        inputs = damage_inputs(workplace, options.inputs, options.seed) if options.inputs else []
    print(kill_table(kills))
    print(input_table(inputs))
    from benchmarks.report import write_report

    rows = {name: {field: getattr(tally, field) for field in Tally.__slots__} for name, tally in kills.items()}
    write_report(options.json, "reliability", {"kills": rows, "inputs": inputs})


def kill_table(kills: Mapping[str, Tally]) -> str:
    """One line for each command, in Markdown."""
    lines = ["| command | kills | same bytes after resuming | damaged files | failed |", "|---" * 5 + "|"]
    lines += [f"| {name} | {t.kills} | {t.same} | {t.damaged} | {t.failed} |" for name, t in kills.items()]
    return "\n".join(lines)


def input_table(inputs: Sequence[Mapping[str, str]]) -> str:
    """Kinds of input by what came of them, in Markdown."""
    outcomes = list(dict.fromkeys(row["outcome"] for row in inputs))
    lines = ["| input | " + " | ".join(outcomes) + " |", "|---" * (len(outcomes) + 1) + "|"]
    for kind in dict.fromkeys(row["input"] for row in inputs):
        counts = [sum(row["input"] == kind and row["outcome"] == outcome for row in inputs) for outcome in outcomes]
        lines.append(f"| {kind} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

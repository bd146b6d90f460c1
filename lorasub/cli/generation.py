"""Writes synthetic data sets to disk, several scenes at a time, so that a kill at any moment costs only what was begun.

A scene is written into a hidden folder, which takes its name when all of it is there: a folder with a name is finished.
``manifest.json`` says what the scenes were made from; a run that goes on must agree with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data import DataLoader, Dataset

from lorasub._version import __version__
from lorasub.cli.arguments import progress, show, verb_parser
from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ArtefactError, ConfigError
from lorasub.exports.scene_folders import LAYOUTS, Layout, write_scene
from lorasub.files import hash_file, hash_tensors, plain, read_json, write_json
from lorasub.packaged_configs import find_config
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.presets import SceneSampler
from lorasub.training.sources import read_yaml

MANIFEST = "manifest.json"
#: Beside every scene: its name, label and the hashes of its files.
SCENE = "scene.json"
VERSION = 1
_UNFINISHED = ".unfinished-"


@dataclass(frozen=True, slots=True)
class Job:
    """One scene to write: which split, and which index in it."""

    split: str
    index: int

    @property
    def folder(self) -> str:
        """Its folder below the data set's."""
        return f"{self.split}/{self.index:06d}"


def generate(
    data: SyntheticScenes,
    out: str | os.PathLike[str],
    *,
    layout: Layout = "lorasub",
    workers: int = 0,
    device: str = "cpu",
) -> Path:
    """Write the training and validation scenes of a data module.

    Scenes that are already there are kept, so the same call goes on where another one was stopped, and a larger
    ``num_scenes`` adds to what is there.

    Args:
        data: what to write.
        out: folder of the data set, made if it is missing: ``manifest.json``, ``train/000000``, ``validation/000000``,
            and so on.
        layout: of each scene, see :func:`~lorasub.exports.scene_folders.write_scene`.
        workers: processes that render and write, 0 for this one alone.
        device: that renders.

    Returns:
        The manifest's path.

    Raises:
        ConfigError: ``out`` holds other files or scenes that were made in another way, or workers and a GPU.
    """
    if workers and torch.device(device).type != "cpu":
        raise ConfigError(f"workers is {workers} and device is {device}; several processes render on the CPU only")
    root = Path(out)
    made_from = _made_from(data, layout)
    _begin(root, made_from)
    jobs = [Job("train", index) for index in range(data.num_scenes)]
    jobs += [Job("validation", index) for index in range(data.val_scenes)]
    missing = [job for job in jobs if not (root / job.folder).is_dir()]
    batches = [
        [job for job in missing if job.split == split][first : first + data.batch_size]
        for split in ("train", "validation")
        for first in range(0, sum(job.split == split for job in missing), data.batch_size)
    ]
    # torch's loader brings errors home from its workers, and its workers die with the process that has begun them
    _ = data.renderer  # pictures that it needs are made here once, not in every worker
    writers = DataLoader(_Writers(data, batches, root, layout, device), batch_size=None, num_workers=workers)
    with progress(unit="scene", total=len(jobs), initial=len(jobs) - len(missing), leave=True) as bar:
        for written in writers:
            bar.update(written)
    scenes = [_finished(root, job) for job in jobs]
    write_json(root / MANIFEST, {"version": VERSION, "complete": True, "made_from": made_from, "scenes": scenes})
    return root / MANIFEST


class _Writers(Dataset[int]):
    """Item i renders and writes batch i, and is the number of its scenes."""

    def __init__(
        self, data: SyntheticScenes, batches: Sequence[list[Job]], root: Path, layout: Layout, device: str
    ) -> None:
        self.data, self.batches, self.root, self.layout, self.device = data, batches, root, layout, device

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> int:
        jobs = self.batches[index]
        sampler = self.data.train_sampler if jobs[0].split == "train" else self.data.val_sampler
        described = sampler.sample([job.index for job in jobs])
        batch = self.data.on_after_batch_transfer(described.to(self.device), 0).to("cpu")
        for number, job in enumerate(jobs):
            target = self.root / job.folder
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f"{_UNFINISHED}{target.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            write_scene(unfinished, batch, scene=number, layout=self.layout)
            files = sorted(path for path in unfinished.rglob("*") if path.is_file())
            content = {
                "scene_id": batch.scene_ids[number],
                "label": None if batch.labels is None else int(batch.labels[number]),
                "files": {path.relative_to(unfinished).as_posix(): hash_file(path) for path in files},
            }
            write_json(unfinished / SCENE, content)
            unfinished.replace(target)
        return len(jobs)


def _made_from(data: SyntheticScenes, layout: Layout) -> dict[str, Any]:
    """Returns all settings that decide what a scene looks like, in plain values; their number is not one of them."""
    sampler: SceneSampler = data.train_sampler
    settings = dataclasses.asdict(sampler) | {"ranges": dataclasses.asdict(sampler.drawn_from)}
    folder = sampler.drawn_from.texture.images
    made_from = settings | {
        "image_size": list(data.image_size),
        "antialias": data.antialias,
        "shadow_samples": data.shadow_samples,
        "sensor": None if data.sensor is None else dataclasses.asdict(data.sensor),
        "images_hash": None if folder is None else hash_tensors({"texels": ImageAtlas.from_folder(folder).texels}),
        "layout": layout,
        "lorasub": __version__,
    }
    del made_from["stream"]
    described: dict[str, Any] = plain(made_from)
    return described


def _begin(root: Path, made_from: Mapping[str, Any]) -> None:
    """Write a manifest that says that the data set is not complete, or agree with the one that is there."""
    path = root / MANIFEST
    if path.is_file():
        before = read_json(path).get("made_from", {})
        if changed := sorted(_differences(before, made_from)):
            raise ConfigError(f"{path} was made with other settings: {'; '.join(changed)}. Choose another folder")
    elif root.exists() and any(root.iterdir()):
        raise ConfigError(f"{root} holds other files and no {MANIFEST}; choose an empty folder")
    write_json(path, {"version": VERSION, "complete": False, "made_from": made_from})
    for rest in root.glob(f"*/{_UNFINISHED}*"):
        shutil.rmtree(rest)


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = sorted({*before, *now})
        return [
            line
            for key in keys
            for line in _differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if before == now else [f"{name} was {before}, is {now}"]


def _finished(root: Path, job: Job) -> dict[str, Any]:
    """A finished scene's entry in the manifest."""
    try:
        content = read_json(root / job.folder / SCENE)
        files: dict[str, str] = content["files"]
        lines = "".join(f"{name} {files[name]}\n" for name in sorted(files))
        return {
            "folder": job.folder,
            "scene_id": content["scene_id"],
            "label": content["label"],
            "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        }
    except (ArtefactError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{root / job.folder} is damaged ({error}); remove it and run again") from error


def run(arguments: Sequence[str]) -> None:
    """Run the verb."""
    parser = verb_parser(
        "generate",
        "Write synthetic scenes to disk. Stopped, it goes on with the same command.",
        "lorasub generate --config configs/geometry.yaml --data.num_scenes 100 --out scenes",
    )
    parser.add_argument("--config", action="config", help="YAML file of a fit; its `data` is what is written")
    parser.add_class_arguments(SyntheticScenes, "data", skip={"num_workers"})
    parser.add_argument("--out", type=str, required=True, help="folder of the data set")
    parser.add_argument("--layout", type=Layout, default="lorasub", help=", ".join(LAYOUTS))
    parser.add_argument("--workers", type=int, default=0, help="processes that render and write")
    parser.add_argument("--device", type=str, default="cpu", help="cpu or cuda")
    with tempfile.TemporaryDirectory() as folder:
        parsed = parser.parse_args(_data_of_configs(arguments, Path(folder)))
    data: SyntheticScenes = parser.instantiate(parsed).data
    path = generate(data, parsed.out, layout=parsed.layout, workers=parsed.workers, device=parsed.device)
    result = {"manifest": str(path), "train": data.num_scenes, "validation": data.val_scenes}
    text = f"{data.num_scenes} training and {data.val_scenes} validation scenes: {path}"
    show(result, text, as_json=parsed.json)


def _data_of_configs(arguments: Sequence[str], folder: Path) -> list[str]:
    """The arguments with each config of a fit replaced by a file that holds the settings of its data alone."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    for place in [index + 1 for index, word in enumerate(words[:-1]) if word == "--config"]:
        given = find_config(words[place])
        data = read_yaml(given).get("data")
        if not isinstance(data, dict):
            raise ConfigError(f"{given} has no section 'data'")
        kind = str(data.get("class_path", "SyntheticScenes"))
        if kind.rpartition(".")[2] != "SyntheticScenes":
            raise ConfigError(f"the data of {given} is {kind}; only SyntheticScenes can be generated")
        settings = dict(data.get("init_args", {}) if "class_path" in data else data)
        settings.pop("num_workers", None)
        words[place] = str(folder / f"{place}.yaml")
        Path(words[place]).write_text(yaml.safe_dump({"data": settings}), encoding="utf-8")
    return words

"""Checkpoints of runs: finding the one that is meant, reading what it says of itself, writing it as a whole."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import atomic_path, content_fault

#: A run's folder of checkpoints, the last of them, and its settings.
CHECKPOINTS, LAST, SETTINGS = "checkpoints", "last.ckpt", "config.yaml"


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """Facts of a checkpoint that are read without loading its weights.

    Attributes:
        path: the file.
        step: optimiser steps that were taken.
        recipe: the ``class_path`` and ``init_args`` of its task; None if it has none.
        resumable: whether it holds the state of the optimiser and of the loops.
    """

    path: Path
    step: int
    recipe: Mapping[str, Any] | None
    resumable: bool


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its name and renames it, so that a kill leaves the old one or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes a checkpoint under a temporary name, then renames it."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint belongs to; None if it stands by itself."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent.name == CHECKPOINTS and (run / SETTINGS).is_file() else None


def find_checkpoint(wanted: str, runs: Path, version: str | None = None) -> Path | None:
    """The file that a value of ``--ckpt_path`` means.

    Args:
        wanted: a file; a run's folder, for its last checkpoint; ``last``, for that of the newest run; or ``auto``,
            which is ``last`` where there is one and None elsewhere.
        runs: folder of the runs among which the newest is looked for.
        version: only this run of them.

    Raises:
        ArtefactError: there is no such checkpoint.
        ConfigError: a word of Lightning's that means nothing between processes.
    """
    if wanted in ("last", "auto"):
        found = list(runs.glob(f"{version or '*'}/{CHECKPOINTS}/last*.ckpt"))
        if found:
            return max(found, key=lambda path: path.stat().st_mtime_ns)
        if wanted == "auto":
            return None
        raise ArtefactError(
            f"there is no last checkpoint in {runs / (version or '*') / CHECKPOINTS}; name a file or a run's folder "
            "with --ckpt_path, or leave it out to begin anew"
        )
    if wanted in ("best", "hpc") or wanted.startswith("registry"):
        raise ConfigError(f"--ckpt_path {wanted} cannot be found out here; name a file or a run's folder, or say last")
    path = Path(wanted)
    if not path.is_dir():
        if not path.is_file():
            raise ArtefactError(f"there is no checkpoint at {path}")
        return path
    inside = [path / CHECKPOINTS / LAST, path / LAST]
    for candidate in inside:
        if candidate.is_file():
            return candidate
    others = sorted(str(file) for file in path.rglob("*.ckpt"))[:3]
    hint = f"; name a file, such as {', '.join(others)}" if others else ""
    raise ArtefactError(f"{path} is a folder without {CHECKPOINTS}/{LAST}{hint}")


def _other_kind(path: Path) -> str:
    """Returns the kind of a whole file that is no checkpoint; empty if it may be one."""
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix == ".safetensors" or head[8:] == b"{":
        return "it is a safetensors file: weights or an adapter, without a run; give the run's folder or its last.ckpt"
    if head[:1] == b"\x80":
        return "it has torch's format from before version 1.6, which no run of lorasub has written"
    return ""


def read_checkpoint(path: Path) -> CheckpointInfo:
    """Read what a checkpoint says of itself; its tensors stay on disk.

    Raises:
        ArtefactError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise ArtefactError(f"there is no checkpoint at {path}")
    if fault := content_fault(path) or _other_kind(path):
        raise ArtefactError(f"{path} is no checkpoint of a run: {fault}")
    try:
        # torch does not compare the checksums that it wrote: flipped bits would pass for weights
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ArtefactError(f"{path} is damaged: the checksum of '{damaged}' in it is wrong; copy it again")
        # tensors and plain values only: a checkpoint that somebody was given must not run code
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except ArtefactError:
        raise
    except zipfile.BadZipFile as error:
        raise ArtefactError(f"{path} is not a whole checkpoint ({error}); copy or make it again") from error
    except pickle.UnpicklingError as error:
        raise ArtefactError(f"{path} holds more than tensors and plain values, or is damaged: {error}") from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to mean
        raise ArtefactError(f"{path} is not a whole checkpoint ({error}); copy or make it again") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ArtefactError(f"{path} is no checkpoint of a run: it has no 'state_dict'")
    recipe = dict(content.get("hyper_parameters", {}))
    recipe.pop("_instantiator", None)
    named = recipe.pop("_class_path", None)
    return CheckpointInfo(
        path=path,
        step=int(content.get("global_step", 0)),
        recipe=None if named is None else {"class_path": named, "init_args": recipe},
        resumable=bool(content.get("optimizer_states")) and "loops" in content,
    )

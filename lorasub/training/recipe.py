"""How to build a task again from its checkpoint, so that `test` and `predict` need nothing but `--ckpt_path`."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lorasub.errors import ArtefactError


def checkpoint_argument(arguments: Sequence[str]) -> Path | None:
    """The value of ``--ckpt_path`` among command-line words, None when it is absent or is no file's name."""
    for position, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name == "--ckpt_path":
            if not equals:
                value = arguments[position + 1] if position + 1 < len(arguments) else ""
            if value and value not in ("best", "last", "hpc", "registry", "null"):
                return Path(value)
    return None


def read_recipe(path: Path) -> dict[str, Any] | None:
    """The ``class_path`` and ``init_args`` of the task in a checkpoint; None when the checkpoint has none.

    Raises:
        ArtefactError: the file is missing, damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise ArtefactError(f"there is no checkpoint at {path}")
    try:
        # tensors and plain values only: a checkpoint that somebody was given must not run code
        checkpoint = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except pickle.UnpicklingError as error:
        raise ArtefactError(f"{path} holds more than tensors and plain values, or is damaged: {error}") from error
    except (RuntimeError, OSError, EOFError) as error:
        raise ArtefactError(f"{path} is not a whole checkpoint ({error}); copy or make it again") from error
    recipe = dict(checkpoint.get("hyper_parameters", {}))
    recipe.pop("_instantiator", None)
    if "_class_path" not in recipe:
        return None
    return {"class_path": recipe.pop("_class_path"), "init_args": recipe}

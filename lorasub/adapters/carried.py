"""Bases that a checkpoint carries within, so that a task with projected adapters is built from that one file."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from lorasub.errors import ArtefactError
from lorasub.subspaces.basis import SubspaceBasis

_AT_HAND: ContextVar[Mapping[str, SubspaceBasis] | None] = ContextVar("bases at hand", default=None)


@contextlib.contextmanager
def bases_of_checkpoint(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Within the block, projected adapters take their basis from a checkpoint that carries it, not from its folder.

    Args:
        path: the checkpoint; None, or what is no checkpoint of a task, for nothing.
    """
    token = _AT_HAND.set({} if path is None else carried_bases(path))
    try:
        yield
    finally:
        _AT_HAND.reset(token)


def basis_at_hand(name: str) -> SubspaceBasis | None:
    """Returns the basis that was given under a name (the folder that it came from), where a checkpoint carries it."""
    return (_AT_HAND.get() or {}).get(name)


def carried_bases(path: str | os.PathLike[str]) -> dict[str, SubspaceBasis]:
    """Reads the bases in a checkpoint: name -> basis.

    Raises:
        ArtefactError: one of them is damaged.
    """
    if not Path(path).is_file():
        return {}
    try:
        checkpoint: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        stored: dict[str, Any] = checkpoint.get("lorasub", {}).get("bases", {})
    except (RuntimeError, OSError, EOFError, AttributeError, pickle.UnpicklingError):
        return {}  # whoever loads the checkpoint itself says what is wrong with it
    found = {}
    for name, content in stored.items():
        try:
            found[name] = SubspaceBasis.from_parts(content["description"], dict(content["tensors"]), where=str(path))
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"{path} carries the basis '{name}' in a damaged form ({error})") from error
    return found


def parts_of(bases: Mapping[str, SubspaceBasis]) -> dict[str, dict[str, Any]]:
    """Returns what a checkpoint holds of bases: plain values and tensors."""
    return {name: {"description": basis.to_dict(), "tensors": basis.tensors()} for name, basis in bases.items()}

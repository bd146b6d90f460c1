"""Bases that adapters rest on: from folders, from files of the paper's code, or carried within a checkpoint."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lorasub.adapters.config import LayerSpec
from lorasub.adapters.targets import shorten
from lorasub.artefacts import check_same
from lorasub.errors import ArtefactError, ConfigError
from lorasub.subspaces.basis import SubspaceBasis
from lorasub.subspaces.paper_format import read_paper_format

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


@dataclass(frozen=True, kw_only=True, eq=False)
class BasisSpec(LayerSpec):
    """Base of the kinds that rest on a basis from a file.

    Attributes:
        basis: the basis, the folder of one, or a space file of the paper's released code.
    """

    basis: SubspaceBasis | str | Path

    @cached_property
    def loaded_basis(self) -> SubspaceBasis:
        """The basis, read if need be."""
        return read_basis(self.basis)

    @cached_property
    def basis_hash(self) -> str:
        """Identity of the basis, which the adapter remembers."""
        return self.loaded_basis.hash()

    def carried_bases(self) -> dict[str, SubspaceBasis]:
        """See :meth:`LayerSpec.carried_bases`."""
        return {self.basis_hash if isinstance(self.basis, SubspaceBasis) else str(self.basis): self.loaded_basis}

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """The basis must have every layer and belong to the same base model.

        Raises:
            ConfigError: layers are missing.
            ArtefactError: it belongs to another base model.
        """
        check_same("the basis", "base model", self.loaded_basis.base_model_hash, base_model_hash)
        self._check_has("basis", self.loaded_basis.layers, paths)

    def _check_has(self, name: str, layers: Collection[str], paths: list[str]) -> None:
        if lacking := [path for path in paths if path not in layers]:
            raise ConfigError(
                f"{type(self).__name__}: {name} lacks {len(lacking)} of the {len(paths)} layers that targets="
                f"{self.targets!r} asks for: {shorten(lacking)}. Narrow targets, or use another adapter there"
            )


def read_basis(basis: SubspaceBasis | str | Path) -> SubspaceBasis:
    """Returns a basis itself, or reads it: the one that a checkpoint carries under this name before any file."""
    if isinstance(basis, SubspaceBasis):
        return basis
    if (carried := basis_at_hand(str(basis))) is not None:
        return carried
    return read_paper_format(basis) if Path(basis).is_file() else SubspaceBasis.load(basis)

"""Contracts between layers: protocols of data, models and tasks whose classes may not be imported.

Each contract is a :class:`typing.Protocol`: a class fulfils it by having the members, without naming it. What fulfils
none still works, and is asked for nothing.

``isinstance`` asks as Python 3.12 does, on every version: submodules, which :class:`torch.nn.Module` keeps apart from
attributes, are not seen. So no contract lists one as a member.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from typing_extensions import Protocol, runtime_checkable


class BatchShape(NamedTuple):
    """Size of a training batch: B scenes of S views with H x W pixels."""

    scenes: int
    views: int
    height: int
    width: int


@runtime_checkable
class SceneData(Protocol):
    """A data module that says what its batches are. :class:`lorasub.data.SceneDataModule` has a default for each."""

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names of the loaders of a test, in order; empty where there is one loader."""

    @property
    def images_change(self) -> bool:
        """Whether a training scene comes with other images in another epoch."""

    @property
    def scene_groups(self) -> int:
        """Equal groups of scenes in a training batch, one for each adapter of a bank."""

    @property
    def batch_shape(self) -> BatchShape | None:
        """The largest training batch of a process; None where it is not known."""

    @property
    def identities(self) -> tuple[str, ...]:
        """Names of the scenes of each group, different between data sets; empty where they are not known."""


class UnknownData:
    """Stands for data that says nothing of itself: plain loaders, or somebody's own LightningDataModule."""

    evaluation_names: tuple[str, ...] = ()
    images_change: bool = False
    scene_groups: int = 1
    batch_shape: BatchShape | None = None
    identities: tuple[str, ...] = ("",)


def described(data: object) -> SceneData:
    """Returns ``data`` itself where it fulfils :class:`SceneData`, else one that claims nothing."""
    return data if isinstance(data, SceneData) else UnknownData()


@runtime_checkable
class EvaluatedTask(Protocol):
    """A task that says under which name a loader's results are logged, as :class:`lorasub.SceneTask` does."""

    recipe: dict[str, Any] | None

    def evaluation_name(self, stage: str, dataloader_idx: int) -> str:
        """``val`` or ``test`` for the first loader, the data's own name for others."""

    def evaluation_metrics(self, name: str) -> nn.ModuleDict:
        """The torchmetrics ``MetricCollection`` that is logged under this name."""


@runtime_checkable
class BlockModel(Protocol):
    """A model that is made of repeated blocks: what is compiled, or sharded, one by one."""

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The blocks, in the order of their work."""


@runtime_checkable
class GroupedModel(Protocol):
    """A model that names groups of its modules, which adapters may target."""

    groups: Mapping[str, tuple[str, ...]]


@runtime_checkable
class NamedModel(Protocol):
    """A model whose weights have a name."""

    model_id: str


@runtime_checkable
class LicensedModel(Protocol):
    """A model that knows under which licence its weights are."""

    weights_license: str | None


@runtime_checkable
class HashedModel(Protocol):
    """A model that keeps the hash of the weights that it was loaded with."""

    def weights_hash(self) -> str:
        """SHA-256 of the base weights."""


class CacheReport(Protocol):
    """A cache that tells what it did."""

    def report(self) -> str:
        """One line for people."""


@runtime_checkable
class EncoderModel(Protocol):
    """A model whose encoder can be asked once for each image."""

    @property
    def encoder_trains(self) -> bool:
        """Whether the encoder's output changes while the model is fitted."""

    def cached_encoder(
        self, *, memory_mb: float, folder: str | None, disk_mb: float
    ) -> AbstractContextManager[CacheReport]:
        """Keeps the encoder's output within the block."""


@runtime_checkable
class SavableModel(Protocol):
    """A model that writes its own weights."""

    def save_pretrained(self, folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> Path:
        """Writes the weights and returns where."""


def backbone_of(task: nn.Module) -> object:
    """Returns the task's submodule ``backbone``; None where it has none."""
    try:
        return task.get_submodule("backbone")
    except AttributeError:
        return None

"""The settings of the adapters that subspaces are mined from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lorasub.errors import ConfigError
from lorasub.study.basis_specs import Spec, at_least

#: ``class_path`` and ``init_args``, as in a config of ``lorasub fit``.
ClassSettings = dict[str, Any]


def adamw() -> ClassSettings:
    """Returns the optimiser of every fit, unless a method has its own."""
    return {"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.05}}


def geometry_task() -> ClassSettings:
    """Returns the task of every fit, unless it is told another."""
    return {"class_path": "GeometryTask"}


@dataclass(frozen=True, kw_only=True)
class AlternateAdapter(Spec):
    """A second kind of adapter, with a learning rate of its own.

    Attributes:
        adapter: such as ``TruncatedFineTuning``: full fine-tuning, of which a truncated SVD is kept.
        learning_rate: of its fits.
    """

    adapter: ClassSettings
    learning_rate: float

    def __post_init__(self) -> None:
        _positive("adapters.alternate.learning_rate", self.learning_rate)


@dataclass(frozen=True, kw_only=True)
class UntilFlat(Spec):
    """Ends a fit when its validation loss is flat.

    Attributes:
        validate_every: optimiser steps between validations.
        patience: validations in a row without a lower loss than the lowest before, after which the fit ends.
    """

    validate_every: int
    patience: int = 3

    def __post_init__(self) -> None:
        at_least("adapters.until_flat.validate_every", self.validate_every, 1)
        at_least("adapters.until_flat.patience", self.patience, 1)

    def trainer(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns Lightning's settings with the validations, and with the callback that ends the fit."""
        arguments = {"monitor": "val/loss", "patience": self.patience}
        stop = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": arguments}
        callbacks = [*settings.get("callbacks", []), stop]
        return {**settings, "val_check_interval": self.validate_every, "callbacks": callbacks}


@dataclass(frozen=True, kw_only=True)
class AdapterFits(Spec):
    """Settings of the adapters that subspaces are mined from.

    Attributes:
        task: the LightningModule; backbone, adapter and optimiser are filled in.
        adapter: what is fitted.
        data: synthetic scenes; attribute and partition are filled in.
        learning_rate: of their fits.
        alternate: another kind of adapter for every second partition: what both kinds share is not of one kind alone.
        steps: optimiser steps of each.
        until_flat: end a fit early, when its validation loss is flat; None for all steps.
        seed: mixed with attribute and partition, so that no two adapters start alike.
        separate_seeds: add the partition's number to the data's ``seed``, so that partitions have no scenes in common.
        placebo: attributes are labels only: everything varies in all scenes (attribute ``all``), and every adapter
            has a partition of its own. What separates such labels separates any data sets.
        together: fit all adapters of an attribute in one step, as a :class:`~lorasub.LoRABank`.
    """

    task: ClassSettings = field(default_factory=geometry_task)
    adapter: ClassSettings = field(
        default_factory=lambda: {"class_path": "LoRA", "init_args": {"r": 16, "targets": "blocks"}}
    )
    data: ClassSettings = field(default_factory=lambda: {"class_path": "SyntheticScenes"})
    learning_rate: float = 1e-3
    alternate: AlternateAdapter | None = None
    steps: int = 300
    until_flat: UntilFlat | None = None
    seed: int = 0
    separate_seeds: bool = False
    placebo: bool = False
    together: bool = False

    def __post_init__(self) -> None:
        at_least("adapters.steps", self.steps, 1)
        _positive("adapters.learning_rate", self.learning_rate)
        if self.together and (kind := class_name(self.adapter)) != "LoRA":
            raise ConfigError(f"adapters.together fits LoRA adapters only, not {kind}: set it to false")
        if self.together and (self.alternate or self.until_flat):
            raise ConfigError("adapters.together fits adapters of one kind, for as long as each other: set it to false")

    def of_partition(self, partition: int) -> tuple[ClassSettings, float]:
        """Returns the adapter of a partition, and its learning rate."""
        if self.alternate and partition % 2:
            return self.alternate.adapter, self.alternate.learning_rate
        return self.adapter, self.learning_rate


def with_arguments(settings: Mapping[str, Any], **arguments: Any) -> ClassSettings:
    """Returns a copy of a ``class_path`` entry with further ``init_args``."""
    found = copy.deepcopy(dict(settings))
    if "class_path" not in found:
        raise ConfigError(f"this needs a class_path: {found}")
    return {**found, "init_args": {**found.get("init_args", {}), **arguments}} if arguments else found


def class_name(settings: Mapping[str, Any]) -> str:
    """Returns the last part of a ``class_path``."""
    return str(settings.get("class_path")).rpartition(".")[2]


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} must be above 0, not {value!r}")

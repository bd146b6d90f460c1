"""``study plan --dry_run``: every model of a study built without storage, its memory and arithmetic counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningDataModule

from lorasub.errors import ConfigError
from lorasub.study import Plan
from lorasub.study.specs import with_arguments
from lorasub.study.steps.training import AdapterChoice, FineTune, Fit, Training
from lorasub.tasks import SceneTask
from lorasub.training.memory import batch_of, estimate_memory
from lorasub.training.mistakes import SettingsParser
from lorasub.training.precision import precision_dtypes

_GIB = 2**30
_Made = TypeVar("_Made", SceneTask, LightningDataModule)


@dataclass
class Load:
    """Fits of a study that train the same model on batches of the same size.

    Attributes:
        name: of the first of them.
        fits: how many.
        steps: optimiser steps of all of them.
        parameters: trained.
        memory: bytes of one fit.
        flops: of one step.
    """

    name: str
    parameters: int
    memory: int
    flops: int
    fits: int = 0
    steps: float = 0.0
    names: list[str] = field(default_factory=list)

    @property
    def total_flops(self) -> float:
        """Of all steps of all fits."""
        return self.steps * self.flops


def dry_run(plan: Plan) -> list[Load]:
    """Build the model of every fit on the meta device, where nothing is loaded or allocated, and count.

    A basis that is yet to be mined is replaced by a random one of as many dimensions as its parts can have.

    Raises:
        ConfigError: a model cannot be built, or its data does not tell the size of a batch.
    """
    loads: dict[str, Load] = {}
    for step in plan.graph:
        if not isinstance(step.spec, Fit | FineTune):
            continue
        training = step.spec.training
        batch, precision = batch_of(_made(LightningDataModule, training.data)), training.trainer.get("precision")
        model = _model(plan, training)
        key = json.dumps([model, batch, precision], sort_keys=True)
        if key not in loads:
            autocast, dtype = precision_dtypes(precision or "32-true")
            try:
                with torch.device("meta"):
                    task = _made(SceneTask, model).to(dtype)
            except Exception as error:
                raise ConfigError(f"the model of '{step.name}' cannot be built: {error}") from error
            size = (batch.height, batch.width)
            found = estimate_memory(task, scenes=batch.scenes, views=batch.views, image_size=size, autocast=autocast)
            loads[key] = Load(
                name=step.name,
                parameters=found.parameters.trainable,
                memory=found.total,
                flops=found.activations.flops,
            )
        loads[key].fits += 1
        loads[key].steps += step.work
    return list(loads.values())


def load_rows(loads: list[Load]) -> list[dict[str, Any]]:
    """A table of them."""
    return [
        {
            "first of": load.name,
            "fits": load.fits,
            "trained": f"{load.parameters:,}",
            "memory": f"{load.memory / _GIB:.2f} GiB",
            "a step": f"{load.flops / 1e12:.3g} TFLOP",
            "all": f"{load.total_flops / 1e15:.3g} PFLOP",
        }
        for load in loads
    ]


def _model(plan: Plan, training: Training) -> dict[str, Any]:
    """The settings of a model, with something of the right shape in place of what earlier steps will have made."""
    adapters = [_without_basis(plan, choice) for choice in training.adapters]
    optimizer = with_arguments(training.optimizer, lr=1e-3)
    return with_arguments(training.task, backbone=training.backbone, adapter=adapters, optimizer=optimizer)


def _without_basis(plan: Plan, choice: AdapterChoice) -> Mapping[str, Any]:
    if choice.basis is None:
        return (
            with_arguments(choice.settings, seed=0)
            if "seed" in choice.settings.get("init_args", {})
            else choice.settings
        )
    if str(choice.settings["class_path"]).rpartition(".")[2] == "MeanAdapter":
        dim: int | str = 1  # as many trained numbers: one a layer
    else:
        dim = plan.dims[choice.basis.key]
    if not isinstance(dim, int):
        raise ConfigError(f"how many dimensions '{dim}' gives is known only when adapters are there: use a number")
    arguments = {**choice.settings.get("init_args", {}), "dim": dim}
    for made in ("basis", "init_from"):
        arguments.pop(made, None)
    return {"class_path": "RandomBasis", "init_args": arguments}


def _made(kind: type[_Made], settings: Mapping[str, Any]) -> _Made:
    """The object that settings stand for."""
    parser = SettingsParser()
    parser.add_subclass_arguments(kind, "made", fail_untyped=False)
    made = parser.instantiate(parser.parse_object({"made": dict(settings)})).made
    assert isinstance(made, kind)
    return made

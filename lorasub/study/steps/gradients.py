"""The step that makes a basis from the base model itself, where nothing is fitted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorasub.adapters.model_bases import model_basis as make_basis
from lorasub.data.loading import training_batches
from lorasub.study.adapter_specs import ClassSettings, with_arguments
from lorasub.study.artefacts import BASIS, Workplace
from lorasub.study.basis_specs import ActivationBasis, GradientBasis
from lorasub.study.steps.training import write_config
from lorasub.tasks import SceneTask, scene_losses


@dataclass(frozen=True, kw_only=True)
class ModelBasis:
    """Settings of :func:`model_basis`.

    Attributes:
        backbone: the model.
        task: its loss.
        data: attribute to its sets of scenes.
        basis: what the study's file says of it.
    """

    backbone: ClassSettings
    task: ClassSettings
    data: dict[str, tuple[ClassSettings, ...]]
    basis: ActivationBasis | GradientBasis


def model_basis(spec: ModelBasis, place: Workplace) -> dict[str, Any]:
    """Saves a basis from gradients or activations at the base model, over one epoch of each set."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    some = next(iter(spec.data.values()))[0]
    task = prepared(with_arguments(spec.task, backbone=spec.backbone), some, place).task.to(device)
    wanted = spec.basis
    basis = make_basis(
        task.backbone,
        {attribute: _losses(task, spec, sets, place) for attribute, sets in spec.data.items()},
        source=wanted.source,
        part=wanted.part,
        dim=wanted.dim,
        budget=wanted.budget,
        columns=wanted.columns,
        targets=wanted.targets,
    )
    basis.save(place.folder / BASIS)
    return basis.mean_dims()


def _losses(task: SceneTask, spec: ModelBasis, sets: Iterable[ClassSettings], place: Workplace) -> Iterator[Tensor]:
    """The losses of all batches of some sets, rendered as they are asked for."""
    plane = with_arguments(spec.task, backbone={"class_path": "lorasub.ConstantGeometry"})
    for data in sets:
        yield from scene_losses(task, training_batches(prepared(plane, data, place).data, task.device))


def prepared(model: ClassSettings, data: ClassSettings, place: Workplace) -> Any:
    """A task and its data, built from their settings; they are its ``task`` and ``data``."""
    import lorasub.training

    config = {"model": model, "data": data, "trainer": {"logger": False, "accelerator": "cpu"}}
    return lorasub.training.prepare("test", write_config(config, place))

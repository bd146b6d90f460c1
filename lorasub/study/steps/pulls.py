"""The steps of the gradient test: gather the gradients of sets of scenes, and compare them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lorasub.data.loading import training_batches
from lorasub.files import write_json
from lorasub.study.adapter_specs import ClassSettings, with_arguments
from lorasub.study.artefacts import Output, Workplace
from lorasub.study.gradient_specs import ShiftedSets
from lorasub.study.steps.gradients import prepared
from lorasub.subspaces.gradients import Halves, LayerGradients, StoredGradients, pull_cosines
from lorasub.tasks.gradients import visit_gradients

#: File of the comparison: labels of the sets and their cosines.
COSINES_FILE = "cosines.json"


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Settings of :func:`pull`.

    Attributes:
        backbone: the base model.
        task: its loss.
        data: sets of scenes.
        targets: which layers.
    """

    backbone: ClassSettings
    task: ClassSettings
    data: tuple[ClassSettings, ...]
    targets: str = "blocks"


@dataclass(frozen=True, kw_only=True)
class PulledSets:
    """Gradients that a step has gathered.

    Attributes:
        of: what the sets are.
        sets: how many.
        pull: the step.
    """

    of: ShiftedSets
    sets: int
    pull: Output


@dataclass(frozen=True, kw_only=True)
class ComparePulls:
    """Settings of :func:`compare_pulls`."""

    groups: tuple[PulledSets, ...]


def pull(spec: Pull, place: Workplace) -> dict[str, Any]:
    """Gathers the gradients of two halves of each set at the base model; batches go to the halves in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = prepared(with_arguments(spec.task, backbone=spec.backbone), spec.data[0], place).task.to(device)
    plane = with_arguments(spec.task, backbone={"class_path": "lorasub.ConstantGeometry"})
    losses = []
    for number, data in enumerate(spec.data):
        halves = LayerGradients(), LayerGradients()
        batches = training_batches(prepared(plane, data, place).data, device)
        losses.append(visit_gradients(task, batches, [half.add for half in halves], targets=spec.targets).loss)
        for half, gradients in enumerate(halves):
            gradients.save(place.folder / _file(number, half))
    return {"losses": losses}


def compare_pulls(spec: ComparePulls, place: Workplace) -> dict[str, Any]:
    """Writes the cosines of all sets; the report tests labels on them."""
    sets: list[Halves] = []
    labels = []
    for group in spec.groups:
        folder = place.of(group.pull)
        for number in range(group.sets):
            one, two = (StoredGradients(folder / _file(number, half)) for half in (0, 1))
            sets.append((one, two))
            labels.append(
                {"label": group.of.label, **{name: getattr(group.of, name) for name in ("attribute", "shift", "dose")}}
            )
    write_json(place.folder / COSINES_FILE, {"sets": labels, "cosines": pull_cosines(sets).tolist()})
    return {"sets": len(sets)}


def _file(number: int, half: int) -> str:
    return f"gradients_{number}_{half}.safetensors"

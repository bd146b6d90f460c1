"""The step that makes a model which does not look: the mean depth map and the mean poses of training scenes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lorasub.backbones import ConstantGeometry
from lorasub.data.loading import training_batches
from lorasub.study.adapter_specs import ClassSettings, with_arguments
from lorasub.study.artefacts import CONSTANT_FILE, Workplace
from lorasub.study.steps.gradients import prepared


@dataclass(frozen=True, kw_only=True)
class MeanScene:
    """Settings of :func:`mean_scene`: the task and the data that methods are trained on."""

    task: ClassSettings
    data: ClassSettings


def mean_scene(spec: MeanScene, place: Workplace) -> dict[str, Any]:
    """Saves the mean normalised depth of each pixel and the mean pose of each view over one epoch of training data."""
    plane = with_arguments(spec.task, backbone={"class_path": "lorasub.ConstantGeometry"})
    run = prepared(plane, spec.data, place)
    # as the task sees them: depth that it does not trust does not count
    batches = [run.task.prepare_batch(batch) for batch in training_batches(run.data, torch.device("cpu"))]
    ConstantGeometry.mean_of(batches).save(place.folder / CONSTANT_FILE)
    return {"scenes": sum(len(batch.scene_ids) for batch in batches)}

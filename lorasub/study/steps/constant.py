"""The step that makes a model which does not look: the mean depth map and the mean poses of training scenes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lorasub.backbones import ConstantGeometry
from lorasub.study.artefacts import CONSTANT_FILE, Workplace
from lorasub.study.specs import ClassSettings, with_arguments
from lorasub.study.steps.training import write_config


@dataclass(frozen=True, kw_only=True)
class MeanScene:
    """Settings of :func:`mean_scene`: the task and the data that methods are trained on."""

    task: ClassSettings
    data: ClassSettings


def mean_scene(spec: MeanScene, place: Workplace) -> dict[str, Any]:
    """Saves the mean normalised depth of each pixel and the mean pose of each view over one epoch of training data."""
    import lorasub.training

    plane = with_arguments(spec.task, backbone={"class_path": "lorasub.ConstantGeometry"})
    config = {"model": plane, "data": spec.data, "trainer": {"logger": False, "accelerator": "cpu"}}
    run = lorasub.training.prepare("test", write_config(config, place))
    run.data.prepare_data()
    run.data.setup("fit")
    batches = [
        # as the task sees them: depth that it does not trust does not count
        run.task.prepare_batch(run.data.on_after_batch_transfer(batch, 0))
        for batch in run.data.train_dataloader()
    ]
    ConstantGeometry.mean_of(batches).save(place.folder / CONSTANT_FILE)
    return {"scenes": sum(len(batch.scene_ids) for batch in batches)}

"""Writes what a test measured, with everything that is needed to know what the numbers mean."""

from __future__ import annotations

import importlib.metadata
import itertools
import logging
import platform
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics import Metric, MetricCollection

from lorasub._version import __version__
from lorasub.adapters import attached_adapters
from lorasub.callbacks.run_folder import run_folder
from lorasub.contracts import EvaluatedTask
from lorasub.errors import ConfigError
from lorasub.files import hash_tensors
from lorasub.metrics import SceneMetric
from lorasub.metrics.results import Results, SceneResult, SetResult

log = logging.getLogger(__name__)

_PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "scipy", "kornia")


class ResultsWriter(Callback):
    """Writes ``results.json`` and ``results.csv`` into the run's folder after ``test``.

    They hold, for every test set: the protocol of each result, the scenes with the names of their views, the value of
    each scene and overall; and the versions, the hashes of backbone, adapter and configuration. ``lorasub compare``
    reads them.

    Overall values are taken from the scenes, each of which counts once: where several processes share a test whose
    scenes do not divide evenly, Lightning hands some scenes out twice.

    Args:
        config: settings of the model and the data, in plain values; None takes the task's recipe, if it has one.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self.config = None if config is None else dict(config)
        self._scenes: dict[str, list[SceneResult]] = {}

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last test."""
        self._scenes = {}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what the metrics found in each scene of the batch."""
        scenes = outputs[0]
        task = _evaluated(pl_module)
        name = task.evaluation_name("test", dataloader_idx)
        metrics = _scene_metrics(_metrics_of(task, name))
        found = self._scenes.setdefault(name, [])
        brightness = scenes.images.float().mean(dim=(2, 3, 4)).tolist()
        for index, (scene, frames) in enumerate(zip(scenes.scene_ids, scenes.frame_ids, strict=True)):
            values: dict[str, float] = {}
            weights: dict[str, float] = {}
            notes: dict[str, list[str]] = {}
            for key, (metric, names) in metrics.items():
                scores = metric.last_scenes().get(index)
                for result, own in names.items():
                    weight = scores.weights.get(own, 0.0) if scores else 0.0
                    weights[result] = weight
                    values[result] = scores.sums[own] / weight if scores and weight else float("nan")
                if scores and scores.notes:
                    notes[key] = list(scores.notes)
            found.append(
                SceneResult(
                    scene=scene,
                    frames=frames,
                    values=values,
                    weights=weights,
                    notes=notes,
                    brightness=tuple(brightness[index]),
                )
            )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather from all processes and write."""
        task = _evaluated(pl_module)
        folder = run_folder(trainer)
        # test sets may come to some processes only when there are fewer scenes than processes
        names = sorted(set(itertools.chain.from_iterable(_gather(list(self._scenes)))))
        sets = {}
        for name in names:
            collection = _metrics_of(task, name)
            whole, protocols = _whole_results(collection)
            for metric, own_names in _scene_metrics(collection).values():
                protocols |= dict.fromkeys(own_names, _protocol(metric))
            scenes = _in_order(_gather(self._scenes.get(name, [])))
            sets[name] = SetResult(protocols=protocols, scenes=scenes, whole=whole)
        if folder is None or not trainer.is_global_zero or not sets:
            return
        recipe = task.recipe
        config = self.config if self.config is not None else (None if recipe is None else {"model": recipe})
        results = Results(sets=sets, model=_model(trainer, pl_module), config=config, versions=_versions())
        log.info("results: %s", results.save(folder))


def _evaluated(module: LightningModule) -> EvaluatedTask:
    if not isinstance(module, EvaluatedTask):
        raise ConfigError(
            f"ResultsWriter needs a task with recipe, evaluation_name and evaluation_metrics, as SceneTask has them; "
            f"{type(module).__name__} is none"
        )
    return module


def _metrics_of(task: EvaluatedTask, name: str) -> MetricCollection:
    metrics = task.evaluation_metrics(name)
    assert isinstance(metrics, MetricCollection)
    return metrics


def _scene_metrics(collection: MetricCollection) -> dict[str, tuple[SceneMetric, dict[str, str]]]:
    """Key -> metric, and how its results are called in the file -> how it calls them itself."""
    metrics = {
        str(key): metric
        for key, metric in collection.items(keep_base=True, copy_state=False)
        if isinstance(metric, SceneMetric)
    }
    names = [metric.full_name(own) for metric in metrics.values() for own in metric.names]
    # as torchmetrics does where names come twice: the keys tell them apart
    twice = len(set(names)) < len(names)
    return {
        key: (metric, {f"{key}_" * twice + metric.full_name(own): own for own in metric.names})
        for key, metric in metrics.items()
    }


def _whole_results(collection: MetricCollection) -> tuple[dict[str, float], dict[str, str]]:
    """Results that are no means over scenes, and how they are measured. A collective."""
    values: dict[str, float] = {}
    protocols: dict[str, str] = {}
    for key, metric in collection.items(keep_base=True, copy_state=False):
        means = {metric.full_name(own) for own in metric.names} if isinstance(metric, SceneMetric) else set()
        found = metric.compute()
        for name, value in (found if isinstance(found, Mapping) else {str(key): found}).items():
            if name in means:
                continue
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise ConfigError(f"metric '{key}' gives '{name}', which is no number; results files hold numbers")
            values[name] = float(value)
            protocols[name] = _protocol(metric)
    return values, protocols


def _protocol(metric: Metric) -> str:
    if isinstance(metric, SceneMetric) and metric.protocol_id:
        return f"{metric.protocol_id}: {metric.protocol}"
    protocol = getattr(metric, "protocol", None)
    return str(protocol) if protocol else type(metric).__name__


def _gather(own: Any) -> list[Any]:
    """The same object of every process, by rank."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [own]
    everybody: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everybody, own)
    return everybody


def _in_order(per_rank: list[list[SceneResult]]) -> tuple[SceneResult, ...]:
    """Scenes in the order of the data set, of which rank r of W had every W-th from the r-th on."""
    dealt = itertools.chain.from_iterable(itertools.zip_longest(*per_rank))
    scenes = [scene for scene in dealt if scene is not None]
    if len(per_rank) == 1:
        return tuple(scenes)
    once: dict[tuple[str, tuple[str, ...]], SceneResult] = {}
    for scene in scenes:
        once.setdefault((scene.scene, scene.frames), scene)
    return tuple(once.values())


def _model(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    adapters = attached_adapters(pl_module)
    state = {} if adapters is None else adapters.state_dict()
    return {
        "task": f"{type(pl_module).__module__}.{type(pl_module).__qualname__}",
        "base_model_id": None if adapters is None else adapters.base_model_id,
        "base_model_hash": None if adapters is None else adapters.base_model_hash,
        "adapter_hash": hash_tensors(state) if state else None,
        "adapter_layers": 0 if adapters is None else len(adapters.layers),
        "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
        "precision": str(trainer.precision),
    }


def _versions() -> dict[str, str]:
    found = {"lorasub": __version__, "python": platform.python_version()}
    return found | {package: importlib.metadata.version(package) for package in _PACKAGES}

"""The step that makes a basis from gradients at the base model, where nothing is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorasub.structures import SceneBatch
from lorasub.study.artefacts import BASIS, Workplace
from lorasub.study.specs import ClassSettings, with_arguments
from lorasub.study.steps.training import write_config
from lorasub.subspaces import LayerGradients, LayerSubspace, SubspaceBasis

#: Sides of more features are decomposed by random projections: all eigenvectors of 4,096 would take half a minute.
_SMALL = 1536


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """Settings of :func:`gradient_basis`: a loss, sets of scenes, and how many columns a side has."""

    backbone: ClassSettings
    task: ClassSettings
    data: tuple[ClassSettings, ...]
    dim: int
    targets: str = "blocks"


def gradient_basis(spec: Gradients, place: Workplace) -> dict[str, Any]:
    """Saves the leading eigenvectors of the sums of G G^T and G^T G over batches, one gradient a layer and batch.

    Each gradient counts with norm 1, so that no batch outweighs the others.
    """
    import lorasub.training
    from lorasub.tasks import visit_gradients

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = with_arguments(spec.task, backbone=spec.backbone)
    plane = with_arguments(spec.task, backbone={"class_path": "lorasub.ConstantGeometry"})
    gradients, task, batches = LayerGradients(moments=True), None, 0
    for data in spec.data:
        config = {"model": plane if task else model, "data": data, "trainer": {"logger": False, "accelerator": "cpu"}}
        run = lorasub.training.prepare("test", write_config(config, place))
        task = task or run.task.to(device)
        seen = visit_gradients(task, _batches(run.data, device), gradients.add, targets=spec.targets)
        batches += seen.batches
    assert task is not None, "the plan gives at least one set"
    layers = {
        path: LayerSubspace(
            U=_leading(gradients.output_moment[path], spec.dim), V=_leading(gradients.input_moment[path], spec.dim)
        )
        for path in gradients.total
    }
    basis = SubspaceBasis(
        layers=layers, base_model_hash=task.backbone.weights_hash(), method="gradients", options={"batches": batches}
    )
    basis.save(place.folder / BASIS)
    return {"layers": len(layers), "mean_d_out": float(spec.dim), "mean_d_in": float(spec.dim), "batches": batches}


def _batches(data: Any, device: str) -> Iterator[SceneBatch]:
    """One epoch of training data, without a trainer."""
    data.prepare_data()
    data.setup("fit")
    for batch in data.train_dataloader():
        yield data.on_after_batch_transfer(batch.to(device), 0)


def _leading(moment: Tensor, dim: int) -> Tensor:
    """``[n, dim]`` eigenvectors of the largest eigenvalues, the largest first."""
    vectors: Tensor
    if len(moment) <= _SMALL:
        vectors = torch.linalg.eigh(moment.double()).eigenvectors[:, -dim:].flip(1)
    else:
        with torch.random.fork_rng():  # Halko et al. 2011; nothing else may be drawn differently for it
            torch.manual_seed(0)
            vectors = torch.svd_lowrank(moment.double(), q=min(2 * dim + 16, len(moment)), niter=6)[0][:, :dim]
    return vectors.float().cpu().contiguous()

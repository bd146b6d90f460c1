"""Errors of point maps after the best similarity alignment."""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.errors import NumericalError
from lorasub.geometry import full_precision, umeyama


@full_precision
def point_map_error(prediction: Tensor, target: Tensor, valid: Tensor, scored: Tensor | None = None) -> Tensor:
    """Mean distance between corresponding points after Umeyama's Sim(3) alignment of the whole scene.

    Args:
        prediction: ``[..., 3]`` points, pixel by pixel the partners of ``target``, in any frame and unit.
        target: ``[..., 3]``.
        valid: ``[...]`` bool, the points that are aligned.
        scored: ``[...]`` bool, the points among them whose distances count; all by default.

    Returns:
        ``[]`` in the target's unit; NaN where the valid points do not determine an alignment (fewer than 3, or on a
        line) or no point is scored, infinite where a valid pixel's prediction is not finite.
    """
    source, goal = prediction[valid], target[valid]
    if not source.isfinite().all():
        return target.new_tensor(torch.inf)
    try:
        aligned = umeyama(source, goal).apply(source)
    except NumericalError:
        return target.new_tensor(torch.nan)
    distances: Tensor = torch.linalg.vector_norm(aligned - goal, dim=-1)
    return (distances if scored is None else distances[scored[valid]]).mean()

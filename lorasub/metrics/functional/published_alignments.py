"""Depth alignments as other projects' evaluation code computes them, step by step.

They are here so that numbers can stand beside published ones. For anything else
:func:`~lorasub.metrics.functional.align_depth` has exact solutions of the same problems.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.geometry import full_precision


def lower_median(values: Tensor, valid: Tensor) -> Tensor:
    """Median ``[...]`` of the valid ``[..., N]``; the lower of the two middle values, as ``torch.median``."""
    ordered = torch.where(valid, values, torch.inf).sort(dim=-1).values
    middle = ((valid.sum(-1, keepdim=True) - 1) // 2).clamp(min=0)
    return ordered.gather(-1, middle).squeeze(-1)


def recons_eval_scale(p: Tensor, g: Tensor, valid: Tensor) -> Tensor:
    """The scale of recons_eval and CUT3R: ten re-weighted steps from the ratio of means, held above 1e-3.

    Args:
        p: ``[..., N]`` prediction, 0 where not valid.
        g: ``[..., N]`` truth, 0 where not valid.
        valid: ``[..., N]`` bool.

    Returns:
        ``[...]``.
    """
    scale = g.sum(-1) / p.sum(-1)
    for _ in range(10):
        residual = (scale[..., None] * p - g).abs() + 1e-8
        weights = valid / residual
        scale = (weights * p * g).sum(-1) / (weights * p.square()).sum(-1)
    return scale.clamp(min=1e-3)


def lad2_line(
    p: Tensor, g: Tensor, valid: Tensor, start: Tensor, *, learning_rate: float, steps: int = 1000
) -> tuple[Tensor, Tensor]:
    """The line s p + t of CUT3R's "lad2": Adam on the sum of absolute errors, from s = ``start`` and t = 0.

    A row stops where its loss changes by less than 1e-6.

    Args:
        p: ``[..., N]`` what is moved, 0 where not valid.
        g: ``[..., N]`` what it is moved to, 0 where not valid.
        valid: ``[..., N]`` bool.
        start: ``[...]`` of the scale.
        learning_rate: about how far a number moves in each step.
        steps: of Adam at most.

    Returns:
        Scale and shift, ``[...]`` each.
    """
    line = torch.stack([start, torch.zeros_like(start)])
    first, second = torch.zeros_like(line), torch.zeros_like(line)
    before = torch.full_like(start, torch.inf)
    going = torch.ones_like(start, dtype=torch.bool)
    for step in range(1, steps + 1):
        residual = torch.where(valid, line[0, ..., None] * p + line[1, ..., None] - g, 0.0)
        loss, sign = residual.abs().sum(-1), residual.sign()
        gradient = torch.stack([(sign * p).sum(-1), sign.sum(-1)])
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        move = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        line = torch.where(going, line - learning_rate * move, line)  # the step is made, then it is looked at
        going = going & ((before - loss).abs() >= 1e-6)
        if not going.any():
            break
        before = loss
    return line[0], line[1]


@full_precision
def submining_truth(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The true depth moved onto the prediction, as the released evaluation of "Mining Attribute Subspaces" does it.

    "lad2" of each frame with learning rate 1e-3, begun from the ratio of medians over all pixels: those without true
    depth count there as 0. With more than half of them the ratio is infinite, and so is what comes out.

    Args:
        prediction: ``[..., N]``.
        target: ``[..., N]``, 0 where not valid.
        valid: ``[..., N]`` bool.

    Returns:
        ``[..., N]`` in the prediction's unit.
    """
    p, g = torch.where(valid, prediction, 0.0), torch.where(valid, target, 0.0)
    everywhere = torch.ones_like(valid)
    start = lower_median(prediction, everywhere) / lower_median(g, everywhere)
    scale, shift = lad2_line(g, p, valid, start, learning_rate=1e-3)
    return scale[..., None] * target + shift[..., None]

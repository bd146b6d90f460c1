"""Learning-rate schedules: VGGT's (a linear warm-up, then half a cosine), and one for fits without a planned end."""

from __future__ import annotations

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lorasub.errors import ConfigError


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.05) -> LambdaLR:
    """Scale every group's learning rate: up in the first ``warmup`` share of the steps, then down to zero.

    Args:
        optimizer: its groups' learning rates are the peaks.
        total_steps: optimiser steps of the whole fit.
        warmup: share of the steps spent on the way up, in [0, 1).

    Raises:
        ConfigError: ``warmup`` or ``total_steps`` is out of range.
    """
    if not 0.0 <= warmup < 1.0:
        raise ConfigError(f"warmup is the share of steps before the peak and must be in [0, 1), not {warmup}")
    if total_steps < 1:
        raise ConfigError(f"a schedule needs at least one step, not {total_steps}")
    return LambdaLR(optimizer, partial(_factor, total=total_steps, rise=round(warmup * total_steps)))


def _factor(step: int, total: int, rise: int) -> float:
    if step < rise:
        return (step + 1) / (rise + 1)
    progress = min((step - rise) / max(total - rise, 1), 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_hold_decay(step: int, *, warmup: int, decay: int = 0, last: int | None = None) -> float:
    """Factor of a schedule that can be prolonged at will: linear warm-up, constant, and a linear decay to zero.

    Args:
        step: optimiser steps taken so far.
        warmup: steps on the way up.
        decay: steps on the way down.
        last: the step at which zero is reached; None for no decay.
    """
    factor = min(1.0, (step + 1) / (warmup + 1))
    if last is None or decay <= 0:
        return factor
    return factor * min(1.0, max(0.0, (last - step) / decay))

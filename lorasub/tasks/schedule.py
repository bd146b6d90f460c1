"""Learning-rate schedules: VGGT's (a linear warm-up, then half a cosine), and a plateau that any end can follow.

The second is for fits that are limited by time, by steps, or by nothing.
"""

from __future__ import annotations

import math
from functools import partial

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer
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


#: A fit with an end has its full learning rate after this share of it at the latest, however long its warm-up is.
_LONGEST_WARMUP = 0.05


def warmup_hold_decay(step: int, *, warmup: int, decay: float = 0.0, progress: float | None = None) -> float:
    """Factor of the learning rate: linear warm-up, constant, and a linear decay to zero at the end of the fit.

    Args:
        step: optimiser steps taken so far.
        warmup: steps on the way up; fewer in a fit that is short of steps or time.
        decay: share of the fit that is spent on the way down, in [0, 1].
        progress: share of the fit that is over; None for a fit without an end.
    """
    up = (step + 1) / (warmup + 1)
    if progress is None or decay <= 0:
        return min(1.0, up)
    return min(1.0, max(up, progress / _LONGEST_WARMUP)) * min(1.0, max(0.0, (1.0 - progress) / decay))


class FitClock:
    """Tells how much of a fit is over: of its steps or of its time, whichever comes to its end first.

    Time is that of ``Trainer(max_time=...)``: seconds of training and validating, summed over all runs of the fit. A
    checkpoint holds the seconds up to its step. A fit that is resumed counts on from there; the time between the runs,
    and what was spent on steps that the checkpoint does not hold, is forgotten like those steps.

    Args:
        trainer: of the fit.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._timer = next((one for one in trainer.callbacks if isinstance(one, Timer)), None)  # type: ignore[attr-defined]
        self._read: tuple[int, float | None] = (-1, None)

    def progress(self, step: int) -> float | None:
        """Share of the fit that is over after ``step`` steps, in [0, 1]; None if the fit has no end."""
        if self._read[0] != step:  # once a step, so that all groups of parameters get the same rate
            self._read = step, self._time_share()
        shares = [] if self._read[1] is None else [self._read[1]]
        if self._trainer.max_steps > 0:
            shares.append(step / self._trainer.max_steps)
        return min(1.0, max(shares)) if shares else None

    def _time_share(self) -> float | None:
        if self._timer is None or (remaining := self._timer.time_remaining()) is None:
            return None
        elapsed = self._timer.time_elapsed()
        share = elapsed / (elapsed + remaining)
        if self._trainer.world_size == 1:
            return share
        # clocks of processes differ, and with them the weights would
        return float(self._trainer.strategy.broadcast(share))

"""Averaged weights that are good from the first validation on."""

from __future__ import annotations

from functools import partial

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lorasub.errors import ConfigError


class WarmWeightAveraging(WeightAveraging):
    """Lightning's weight averaging with an exponential moving average whose memory grows from nothing.

    With a constant decay of 0.998 the random weights of a fit's beginning still make up 60% of the average after 250
    steps. Here the decay after n updates is at most (1 + n) / (10 + n), as in TensorFlow's ``num_updates``.

    Validation sees the averaged weights, and ``state_dict`` of checkpoints holds them; see Lightning's base class.

    Args:
        decay: what the decay grows to, in (0, 1).

    Raises:
        ConfigError: the decay is out of range.
    """

    def __init__(self, decay: float = 0.998) -> None:
        if not 0 < decay < 1:
            raise ConfigError(f"WarmWeightAveraging decay is {decay}; it must be between 0 and 1")
        super().__init__(avg_fn=partial(warm_average, decay=decay))
        self._trained = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the averaged weights into the model."""
        self._trained = True
        super().on_train_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put them there, too, where a fit was resumed after its last step: then no training ends."""
        if not self._trained:
            super().on_train_end(trainer, pl_module)


@torch.no_grad()
def warm_average(average: Tensor, current: Tensor, updates: Tensor | int, *, decay: float) -> Tensor:
    """The next average of a tensor.

    Args:
        average: so far.
        current: what is added.
        updates: how many have been added before.
        decay: the most that is kept of the average.
    """
    kept = min(decay, (1 + int(updates)) / (10 + int(updates)))
    return torch.lerp(current, average, kept) if average.is_floating_point() else current

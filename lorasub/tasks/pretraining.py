"""Training a backbone from nothing: all of its weights, with a loss that tells it which patches match."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lorasub.adapters import AdapterSet, AdapterSpec, FullFineTuning, inject_adapters
from lorasub.backbones import VGGT, Backbone
from lorasub.errors import ConfigError
from lorasub.losses import LossTerms, VGGTLoss, matching_loss, patch_matches
from lorasub.structures import Predictions, SceneBatch
from lorasub.tasks.geometry import GeometryTask
from lorasub.tasks.schedule import warmup_hold_decay

#: Makes the optimiser from parameter groups: the first holds weight matrices, the second what no weight decay suits.
GroupedOptimizerFactory = Callable[[Iterable[dict[str, Any]]], Optimizer]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchablePredictions(Predictions):
    """Predictions, and the patch tokens from within the backbone that matching is learnt on.

    Attributes:
        patch_tokens: ``[B, S, P, C]`` without the special tokens.
    """

    patch_tokens: Tensor


class PretrainingTask(GeometryTask):
    """Train every weight of a VGGT on cameras, depth, points and patch correspondence.

    The learning rate rises over ``warmup_steps``, stays, and goes down to zero over the last ``decay_steps`` before
    ``max_steps``. Without ``decay_steps`` it stays for good: such a fit has no planned end, it can be stopped (for
    instance by ``Trainer(max_time=...)``) and continued at will, and averaged weights
    (:class:`lorasub.callbacks.WarmWeightAveraging`) do most of what a decay does.

    Args:
        backbone: what is trained. The weights that it comes with are where training starts; a checkpoint replaces all.
        loss: weights and details of VGGT's loss.
        matching_weight: weight of the matching loss; 0 leaves it out.
        matching_pair: the pair of blocks (counted from 0) after whose global attention patches are matched.
        matching_dim: width of the projection that the tokens are matched in. It is trained along and not exported.
        temperature: of the matching loss.
        optimizer: called with two parameter groups: the weights of Linear and convolution layers, and everything else
            (biases, norms, scales, tokens, position embeddings), which gets no weight decay.
        warmup_steps: steps until the learning rate is at its peak.
        decay_steps: steps over which it falls to zero at the end of the fit; needs ``Trainer(max_steps=...)``.

    Parts in the log, beside those of :class:`~lorasub.losses.VGGTLoss`: ``matching`` and ``matching_accuracy``.
    """

    def __init__(
        self,
        backbone: VGGT,
        loss: VGGTLoss | None = None,
        matching_weight: float = 0.5,
        matching_pair: int = 1,
        matching_dim: int = 96,
        temperature: float = 0.07,
        optimizer: GroupedOptimizerFactory = lambda groups: AdamW(groups, lr=5e-4, weight_decay=0.05),
        warmup_steps: int = 200,
        decay_steps: int = 0,
    ) -> None:
        super().__init__(backbone, adapter=None, loss=loss)
        if not 0 <= matching_pair < backbone.config.num_pairs:
            raise ConfigError(
                f"matching_pair is {matching_pair}, but the backbone has {backbone.config.num_pairs} pairs of blocks, "
                "counted from 0"
            )
        for name, value in (("matching_weight", matching_weight), ("temperature", temperature)):
            if value < 0 or (name == "temperature" and value == 0):
                raise ConfigError(f"PretrainingTask {name} is {value}; it must be positive")
        # the dense heads' maps come as channels_last; with weights to match, their convolutions take a fifth less time
        nn.utils.convert_conv2d_weight_memory_format(backbone, torch.channels_last)
        self.matching_weight = matching_weight
        self.matching_pair = matching_pair
        self.temperature = temperature
        self.projection = nn.Linear(backbone.config.embed_dim, matching_dim, bias=False)
        self.grouped_optimizer = optimizer
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps

    def configure_adapters(self, backbone: Backbone, adapter: AdapterSpec | Sequence[AdapterSpec] | None) -> AdapterSet:
        """Nothing is wrapped and nothing frozen."""
        return inject_adapters(backbone, FullFineTuning(targets="all"))

    def forward(self, images: Tensor) -> Predictions:
        """Run the backbone on ``images [B, S, 3, H, W]`` and keep its patch tokens beside what it predicts."""
        assert isinstance(self.backbone, VGGT)
        with output_of(self.backbone.aggregator.global_blocks[self.matching_pair]) as outputs:
            predictions = self.backbone(images)
        tokens = torch.unflatten(outputs[0], 1, (images.shape[1], -1))
        values = {name: getattr(predictions, name) for name in Predictions.__dataclass_fields__}
        return MatchablePredictions(**values, patch_tokens=tokens[:, :, self.backbone.config.num_special_tokens :])

    def compute_loss(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        """VGGT's loss and the matching loss of each scene."""
        terms = super().compute_loss(predictions, batch)
        if self.matching_weight == 0:
            return terms
        assert isinstance(predictions, MatchablePredictions)
        matches = patch_matches(batch, self.backbone.patch_size)
        found = matching_loss(self.projection(predictions.patch_tokens), matches, temperature=self.temperature)
        return LossTerms(
            terms.total + self.matching_weight * found.loss,
            {**terms.parts, "matching": found.loss, "matching_accuracy": found.accuracy},
        )

    def make_optimizer(self) -> Optimizer:
        """The optimiser over the two groups."""
        return self.grouped_optimizer(parameter_groups(self))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser over the two groups, with warm-up, a plateau and an optional decay, stepped every step.

        Raises:
            ConfigError: a decay is asked for in a fit that has no last step.
        """
        last = self.trainer.max_steps
        if self.decay_steps > 0 and last <= 0:
            raise ConfigError(f"decay_steps is {self.decay_steps}, but max_steps is not set: decay toward which step?")
        optimizer = self.make_optimizer()
        factor = partial(
            warmup_hold_decay,
            warmup=self.warmup_steps,
            decay=self.decay_steps,
            last=last if self.decay_steps else None,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def _check_base(self, base: dict[str, Any]) -> None:
        """Every weight comes from the checkpoint, so it does not matter which ones the task was made with."""

    def _saved_names(self) -> set[str]:
        """Everything: weight averaging exchanges whole states."""
        return set(self.state_dict())


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: weights of Linear and convolution layers, and all others without decay."""
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    decayed = {id(layer.weight) for layer in module.modules() if isinstance(layer, layers)}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if id(parameter) in decayed]},
        {"params": [parameter for parameter in trained if id(parameter) not in decayed], "weight_decay": 0.0},
    ]


@contextlib.contextmanager
def output_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, every output of ``module`` is added to the list."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()

"""Training a backbone from nothing: all of its weights, with a loss that tells it which patches match."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lorasub.adapters import AdapterSet, AdapterSpec, FullFineTuning, inject_adapters
from lorasub.backbones import VGGT, Backbone
from lorasub.backbones.vggt.blocks import Attention
from lorasub.backbones.vggt.initialization import add_positions, raise_layer_scales
from lorasub.errors import ConfigError
from lorasub.losses import LossTerms, VGGTLoss, attention_loss, matching_loss, patch_matches
from lorasub.structures import Predictions, SceneBatch
from lorasub.tasks.device_waits import fuse_on_gpu
from lorasub.tasks.geometry import GeometryTask
from lorasub.tasks.schedule import FitClock, warmup_hold_decay

#: Makes the optimiser from parameter groups: the first holds weight matrices, the second what no weight decay suits.
GroupedOptimizerFactory = Callable[[Iterable[dict[str, Any]]], Optimizer]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchablePredictions(Predictions):
    """Predictions, and what correspondence is learnt on within the backbone.

    Attributes:
        patch_tokens: ``[B, S, P, C]`` without the special tokens.
        queries: ``[B, S, N, D]`` of a head of attention over all tokens of all views, None where it is not taught.
        keys: likewise.
        dense_views: the views that depth and points are of; None for all.
    """

    patch_tokens: Tensor
    queries: Tensor | None = None
    keys: Tensor | None = None
    dense_views: list[int] | None = None


class PretrainingTask(GeometryTask):
    """Train every weight of a VGGT on cameras, depth, points and patch correspondence.

    The learning rate rises over ``warmup_steps``, stays, and goes down to zero over the last ``decay`` of the fit, be
    it limited by ``Trainer(max_time=...)`` or by ``max_steps``: one of eight minutes and one of eight hours both end at
    zero. Time counts over all runs of a fit that is resumed, see :class:`~lorasub.tasks.schedule.FitClock`. Without
    ``decay`` the rate stays for good: such a fit can be stopped and continued at will, and averaged weights
    (:class:`lorasub.callbacks.WarmWeightAveraging`) do most of what a decay does.

    Args:
        backbone: what is trained. The weights that it comes with are where training starts; a checkpoint replaces all.
        loss: weights and details of VGGT's loss.
        matching_weight: weight of the matching loss; 0 leaves it out.
        matching_pair: the pair of blocks (counted from 0) after whose global attention patches are matched.
        matching_dim: width of the projection that the tokens are matched in. It is trained along and not exported.
        temperature: of the matching loss.
        attention_weight: weight of the loss that teaches a head of attention to look at counterparts; 0 leaves it out.
        attention_pair: the pair of blocks whose global attention is taught: one after ``matching_pair``, where
            counterparts can be told apart, and before the last, so that there is a block to make poses of what it
            fetches.
        layer_scale: before training begins, LayerScales are raised to at least this size; None leaves them. What is
            resumed from a checkpoint comes with its own.
        position_norm: likewise, sinusoidal positions of this length are added to the encoder's; see
            :mod:`lorasub.backbones.vggt.initialization` for both.
        dense_views: in training, depth and points are made and learnt for so many views of a scene, drawn anew in each
            step; None for all. Where the dense heads take half of the time, one view buys steps for the cameras.
        optimizer: called with two parameter groups: the weights of Linear and convolution layers, and everything else
            (biases, norms, scales, tokens, position embeddings), which gets no weight decay.
        warmup_steps: steps until the learning rate is at its peak.
        decay: share of the fit over which it falls to zero at the end; needs ``Trainer(max_time=...)`` or
            ``max_steps``.
        decay_steps: the same in steps; needs ``max_steps``.

    Parts in the log, beside those of :class:`~lorasub.losses.VGGTLoss`: ``matching``,
    ``matching_accuracy`` and ``attention``.
    """

    def __init__(
        self,
        backbone: VGGT,
        loss: VGGTLoss | None = None,
        matching_weight: float = 0.5,
        matching_pair: int = 1,
        matching_dim: int = 96,
        temperature: float = 0.07,
        attention_weight: float = 0.0,
        attention_pair: int = 2,
        layer_scale: float | None = None,
        position_norm: float | None = None,
        dense_views: int | None = None,
        optimizer: GroupedOptimizerFactory = lambda groups: AdamW(groups, lr=5e-4, weight_decay=0.05),
        warmup_steps: int = 200,
        decay: float = 0.0,
        decay_steps: int = 0,
    ) -> None:
        super().__init__(backbone, adapter=None, loss=loss)
        pairs = backbone.config.num_pairs
        taught = {"attention_pair": attention_pair} if attention_weight > 0 else {}
        for name, pair in {"matching_pair": matching_pair, **taught}.items():
            if not 0 <= pair < pairs:
                raise ConfigError(f"{name} is {pair}, but the backbone has {pairs} pairs of blocks, counted from 0")
        for name, value in (("matching_weight", matching_weight), ("attention_weight", attention_weight)):
            if value < 0:
                raise ConfigError(f"PretrainingTask {name} is {value}; it must not be negative (0 leaves it out)")
        if dense_views is not None and dense_views < 1:
            raise ConfigError(f"PretrainingTask dense_views is {dense_views}; it must be at least 1, or None for all")
        if not 0 <= decay <= 1 or (decay > 0 and decay_steps > 0):
            raise ConfigError(
                f"PretrainingTask decay is {decay}, decay_steps {decay_steps}; give the first as a share of the fit, "
                "in [0, 1], or the second in steps, not both"
            )
        if temperature <= 0:
            raise ConfigError(f"PretrainingTask temperature is {temperature}; it must be positive")
        if layer_scale is not None:
            raise_layer_scales(backbone, layer_scale)
        if position_norm is not None:
            add_positions(backbone, position_norm)
        # the dense heads' maps come as channels_last; with weights to match, their convolutions take a fifth less time
        nn.utils.convert_conv2d_weight_memory_format(backbone, torch.channels_last)
        self.matching_weight = matching_weight
        self.matching_pair = matching_pair
        self.temperature = temperature
        self.attention_weight = attention_weight
        self.attention_pair = attention_pair
        self.dense_views = dense_views
        self.projection = nn.Linear(backbone.config.embed_dim, matching_dim, bias=False)
        self.grouped_optimizer = optimizer
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.decay_steps = decay_steps

    def configure_adapters(self, backbone: Backbone, adapter: AdapterSpec | Sequence[AdapterSpec] | None) -> AdapterSet:
        """Trains every layer itself: wraps none and freezes none."""
        return inject_adapters(backbone, FullFineTuning(targets="all"))

    def forward(self, images: Tensor) -> Predictions:
        """Run the backbone on ``images [B, S, 3, H, W]`` and keep what correspondence is learnt on."""
        assert isinstance(self.backbone, VGGT)
        blocks = self.backbone.aggregator.global_blocks
        attention = blocks[self.attention_pair].get_submodule("attn") if self.attention_weight > 0 else nn.Identity()
        views = images.shape[1]
        dense_views = None
        if self.training and self.dense_views is not None and self.dense_views < views:
            dense_views = torch.randperm(views)[: self.dense_views].tolist()
        with calls_of(blocks[self.matching_pair]) as matched, calls_of(attention) as attended:
            predictions = self.backbone(images, dense_views=dense_views)
        ((_, output),) = matched
        tokens = torch.unflatten(output, 1, (views, -1))
        queries = keys = None
        if isinstance(attention, Attention):
            ((inputs, _),) = attended
            both = attention.queries_keys_values(*inputs)[:2]
            queries, keys = (torch.unflatten(projected[:, 0], 1, (views, -1)) for projected in both)
        values = {name: getattr(predictions, name) for name in Predictions.__dataclass_fields__}
        patches = tokens[:, :, self.backbone.config.num_special_tokens :]
        return MatchablePredictions(**values, patch_tokens=patches, queries=queries, keys=keys, dense_views=dense_views)

    def compute_loss(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        """VGGT's loss and those of correspondence, of each scene."""
        terms = self._geometry_loss(predictions, batch)
        if self.matching_weight == 0 and self.attention_weight == 0:
            return terms
        assert isinstance(predictions, MatchablePredictions)
        total, parts = terms.total, dict(terms.parts)
        matches = patch_matches(batch, self.backbone.patch_size)
        if self.matching_weight > 0:
            found = matching_loss(self.projection(predictions.patch_tokens), matches, temperature=self.temperature)
            total = total + self.matching_weight * found.loss
            parts |= {"matching": found.loss, "matching_accuracy": found.accuracy}
        if predictions.queries is not None and predictions.keys is not None:
            parts["attention"] = attention_loss(predictions.queries, predictions.keys, matches)
            total = total + self.attention_weight * parts["attention"]
        return LossTerms(total, parts)

    def _geometry_loss(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        """VGGT's loss, with depth and points held against the views that they are of."""
        views = predictions.dense_views if isinstance(predictions, MatchablePredictions) else None
        if views is None:
            return super().compute_loss(predictions, batch)
        halves = []
        if predictions.pose_encodings:
            cameras = Predictions(pose_encodings=predictions.pose_encodings)
            halves.append(super().compute_loss(cameras, batch))
        if predictions.depth is not None or predictions.world_points is not None:
            dense = predictions.replace(pose_encodings=())
            halves.append(super().compute_loss(dense, batch.select_views(views)))
        parts = {name: part for half in halves for name, part in half.parts.items()}
        return LossTerms(torch.stack([half.total for half in halves]).sum(0), parts)

    def make_optimizer(self) -> Optimizer:
        """The optimiser over the two groups."""
        optimizer = self.grouped_optimizer(parameter_groups(self))
        fuse_on_gpu(optimizer)
        return optimizer

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser over the two groups, with warm-up, a plateau and an optional decay, stepped every step.

        Raises:
            ConfigError: a decay is asked for in a fit that has no end.
        """
        clock, last = FitClock(self.trainer), self.trainer.max_steps
        if self.decay_steps > 0 and last <= 0:
            raise ConfigError(f"decay_steps is {self.decay_steps}, but max_steps is not set: decay toward which step?")
        decay = min(1.0, self.decay_steps / last) if self.decay_steps > 0 else self.decay
        if decay > 0 and clock.progress(0) is None:
            raise ConfigError(f"decay is {decay}, but the fit has no end: set trainer.max_time or trainer.max_steps")
        optimizer = self.make_optimizer()

        def factor(step: int) -> float:
            return warmup_hold_decay(step, warmup=self.warmup_steps, decay=decay, progress=clock.progress(step))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def _check_base(self, base: dict[str, Any]) -> None:
        """Every weight comes from the checkpoint, so it does not matter which ones the task was made with."""

    def _saved_names(self) -> set[str]:
        """Returns all names, since weight averaging exchanges whole states."""
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
def calls_of(module: nn.Module) -> Iterator[list[tuple[tuple[Any, ...], Tensor]]]:
    """Within the block, arguments and output of every call of ``module`` are added to the list."""
    calls: list[tuple[tuple[Any, ...], Tensor]] = []
    handle = module.register_forward_hook(lambda _module, arguments, output: calls.append((arguments, output)))
    try:
        yield calls
    finally:
        handle.remove()

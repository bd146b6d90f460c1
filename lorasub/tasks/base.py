"""The base of every task: a 3D backbone with adapters, one loss, some metrics, and the loop's steps written once.

A task of your own is a subclass that overrides one to three of the ``configure_*`` methods and ``compute_loss``;
everything else (freezing, checkpoints that hold only what was trained, exact resuming, the schedule, the checks that
nothing was loaded wrongly) comes with the base.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torchmetrics import MetricCollection

from lorasub.adapters import AdapterSet, AdapterSpec, bases_of_checkpoint, inject_adapters, parts_of
from lorasub.backbones import Backbone
from lorasub.console import some_of
from lorasub.contracts import SceneData, described
from lorasub.errors import ArtefactError, ConfigError
from lorasub.geometry import normalize_scene
from lorasub.losses import LossTerms
from lorasub.run_callbacks import run_callbacks
from lorasub.structures import Predictions, SceneBatch, require_scenes
from lorasub.tasks.adapter_groups import OneGroup, adapter_groups
from lorasub.tasks.device_waits import FiniteLosses, fuse_on_gpu
from lorasub.tasks.rank_budget import RankBudget, layers_with_shared_ranks
from lorasub.tasks.schedule import warmup_cosine

log = logging.getLogger(__name__)

#: Weights of a model in a checkpoint; with weight averaging those are the average, and the trained ones come beside.
_CURRENT = "current_model_state"
_STATES = {"state_dict", _CURRENT}

#: Makes the optimiser from the trainable parameters; in YAML a ``class_path`` with ``init_args``.
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class SceneOutput(NamedTuple):
    """Return value of validation, test and prediction steps, for callbacks."""

    batch: SceneBatch
    predictions: Predictions


class SceneTask(LightningModule):
    """Template of a task. Override ``configure_loss``, ``configure_metrics``, ``compute_loss`` as needed.

    Args:
        backbone: the 3D model; its weights are frozen but for what the adapter says.
        adapter: one adapter, or several with disjoint targets. Without one there is nothing to fit, only to evaluate.
        loss: what ``compute_loss`` uses, kept as ``self.loss``; None takes what ``configure_loss`` makes.
        optimizer: called with the trainable parameters.
        warmup: share of all steps in which the learning rate rises; a cosine follows.

    Attributes:
        adapters: the injected layers: trainables, tables, merging, saving.
        recipe: how to build this task again in plain values, as the command line writes it into checkpoints.
    """

    def __init__(
        self,
        backbone: Backbone,
        adapter: AdapterSpec | Sequence[AdapterSpec] | None = None,
        loss: nn.Module | None = None,
        optimizer: OptimizerFactory = lambda parameters: AdamW(parameters, lr=1e-3, weight_decay=0.05),
        warmup: float = 0.05,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.optimizer_factory = optimizer
        self.warmup = warmup
        self.recipe: dict[str, Any] | None = None
        self.adapters: AdapterSet = self.configure_adapters(backbone, adapter)
        for layer in self.adapters.layers.values():
            layer.train()  # some backbones are loaded in evaluation mode, and Lightning leaves modes as they are
        self.loss = self.configure_loss() if loss is None else loss
        self.metrics = nn.ModuleDict()
        # Frozen weights are not in our checkpoints, so loading cannot be strict; on_load_checkpoint checks names.
        self.strict_loading = False
        self._random_state: dict[str, Any] | None = None
        self._losses = FiniteLosses()

    # ---------------------------------------------------------------------------------------- what a subclass changes

    def configure_adapters(self, backbone: Backbone, adapter: AdapterSpec | Sequence[AdapterSpec] | None) -> AdapterSet:
        """Inject the adapters into the backbone, freezing everything else."""
        specs = [] if adapter is None else [adapter] if isinstance(adapter, AdapterSpec) else list(adapter)
        return inject_adapters(backbone, specs)

    @property
    def groups(self) -> OneGroup:
        """Assignment of scenes to adapters: all to one, or in groups to those of a bank."""
        return adapter_groups(self.adapters)

    def configure_loss(self) -> nn.Module | None:
        """The default loss module; None when ``compute_loss`` needs no module."""
        return None

    def configure_metrics(self) -> MetricCollection:
        """Metrics of one evaluation pass; each is updated with ``(predictions, batch)``."""
        return MetricCollection({})

    def compute_loss(self, predictions: Predictions, batch: SceneBatch) -> LossTerms:
        """The loss of each scene, as a total to descend and as named parts to look at.

        Args:
            predictions: of the backbone on ``batch.images``.
            batch: normalised (first camera's frame, mean distance one).
        """
        raise NotImplementedError(f"{type(self).__name__} must override compute_loss")

    def prepare_batch(self, batch: SceneBatch) -> SceneBatch:
        """Bring a batch into the backbone's frame and unit: VGGT's normalisation."""
        return normalize_scene(batch)

    # ------------------------------------------------------------------------------------------------------ the steps

    def forward(self, images: Tensor) -> Predictions:
        """Run the backbone on ``images [B, S, 3, H, W]`` in [0, 1]."""
        predictions: Predictions = self.backbone(images)
        return predictions

    def training_step(self, batch: SceneBatch, batch_idx: int) -> Tensor:
        """Mean loss over the scenes. Every scene weighs the same, on however many processes they are spread."""
        batch = self.prepare_batch(require_scenes(batch))
        terms = self.compute_loss(self(batch.images), batch)
        self._losses.watch(terms.total, batch.scene_ids, self.global_step)
        self._log_loss("train", terms, len(batch))
        total = self.groups.objective(terms.total)
        regularization = self.adapters.regularization()
        if regularization is None:
            return total
        self.log("train/regularization", regularization.detach(), batch_size=len(batch))
        return total + regularization

    # Lightning passes whatever these steps return on to callbacks; its annotation is narrower than that.
    def validation_step(  # type: ignore[override]
        self, batch: SceneBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> SceneOutput:
        """Loss and metrics of one validation batch."""
        return self._evaluate(batch, "val", dataloader_idx)

    def test_step(  # type: ignore[override]
        self, batch: SceneBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> SceneOutput:
        """Loss and metrics of one test batch."""
        return self._evaluate(batch, "test", dataloader_idx)

    def predict_step(self, batch: SceneBatch, batch_idx: int, dataloader_idx: int = 0) -> SceneOutput:
        """Predictions beside the batch they are for; ground truth in it may be absent."""
        batch = self.prepare_batch(require_scenes(batch))
        with self.groups.of_loader(dataloader_idx, self._data):
            return SceneOutput(batch, self(batch.images))

    def _evaluate(self, batch: SceneBatch, stage: str, dataloader_idx: int) -> SceneOutput:
        name = self.evaluation_name(stage, dataloader_idx)
        batch = self.prepare_batch(require_scenes(batch))
        with self.groups.of_loader(dataloader_idx, self._data):
            predictions = self(batch.images)
        self._log_loss(name, self.compute_loss(predictions, batch), len(batch))
        metrics = self.evaluation_metrics(name)
        metrics.update(predictions, batch)
        return SceneOutput(batch, predictions)

    # -------------------------------------------------------------------------------------------------------- metrics

    def on_validation_epoch_end(self) -> None:
        """Log and reset the metrics of every validation set."""
        self._log_metrics()

    def on_test_epoch_end(self) -> None:
        """Log and reset the metrics of every test set."""
        self._log_metrics()

    def evaluation_name(self, stage: str, dataloader_idx: int) -> str:
        """``val`` for the first loader; for others the name that the data module gives (``evaluation_names``)."""
        names = self._data.evaluation_names
        if dataloader_idx == 0:
            return stage
        return names[dataloader_idx] if dataloader_idx < len(names) else f"{stage}{dataloader_idx}"

    @property
    def _data(self) -> SceneData:
        return described(None if self._trainer is None else self.trainer.datamodule)  # type: ignore[attr-defined]

    def evaluation_metrics(self, name: str) -> MetricCollection:
        """Returns the metrics that are logged under this name, which are made when they are first asked for."""
        if name not in self.metrics:
            with torch.inference_mode(False):  # a later fit goes on with these tensors
                self.metrics[name] = self.configure_metrics().clone(prefix=f"{name}/").to(self.device)
        metrics = self.metrics[name]
        assert isinstance(metrics, MetricCollection)
        return metrics

    def _log_metrics(self) -> None:
        for metrics in self.metrics.values():
            assert isinstance(metrics, MetricCollection)
            if any(metric.update_called for metric in metrics.values()):
                # already the same on every rank; without sync_dist Lightning would warn for each name
                self.log_dict(metrics.compute(), add_dataloader_idx=False, sync_dist=True)
            with torch.inference_mode(False):
                metrics.reset()

    def _log_loss(self, name: str, terms: LossTerms, scenes: int) -> None:
        training = name == "train"
        values = {f"{name}/loss": terms.total, **{f"{name}/{part}": value for part, value in terms.parts.items()}}
        if training:
            values |= {f"{name}/{part}": value for part, value in self.groups.parts(terms.total).items()}
        self.log_dict(
            {key: value.detach().mean() for key, value in values.items()},
            # Lightning divides the counts of all ranks by their number, in whole numbers: ranks may have had 3 and 2
            batch_size=scenes * self.trainer.world_size,
            on_step=training,
            on_epoch=not training,
            sync_dist=not training,
            add_dataloader_idx=False,
        )
        if training:
            self.log("loss", terms.total.detach().mean(), prog_bar=True, logger=False, batch_size=scenes)

    # ------------------------------------------------------------------------------------------------------ optimiser

    def setup(self, stage: str) -> None:
        """Lets adapters that have not been trained yet start from random numbers of their data's own."""
        if stage == "fit":
            self.groups.draw_starts(self._data.identities)

    def configure_callbacks(self) -> list[Callback]:
        """Returns what every run has, and what the adapters need; call ``super()`` to add your own.

        The former leaves adapter, tables, figures and results in the run's folder, see
        :mod:`lorasub.callbacks.always_on`. One that the trainer has already is not added again.
        """
        own: list[Callback] = [RankBudget()] if layers_with_shared_ranks(self.adapters) else []
        return own + [callback for callback in run_callbacks(self.trainer) if isinstance(callback, Callback)]

    def make_optimizer(self) -> Optimizer:
        """The optimiser over everything that is trainable."""
        optimizer = self.optimizer_factory([parameter for parameter in self.parameters() if parameter.requires_grad])
        fuse_on_gpu(optimizer)
        return optimizer

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns the optimiser, with warm-up and a cosine that move every step.

        Raises:
            ConfigError: nothing is trainable, the fit has no end that a schedule could aim at, or the adapters of a
                bank would depend on each other.
        """
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise ConfigError("there is nothing to train: give the task an adapter, for example LoRA(r=16)")
        total = self.trainer.estimated_stepping_batches
        if total == float("inf"):
            raise ConfigError("the fit has no end: set max_steps or max_epochs, since the learning rate ends at zero")
        optimizer = self.make_optimizer()
        self.groups.check_data(self._data)
        own = {f"backbone.{name}" for name in self.adapters.state_dict()}
        self.groups.check_fit(self._saved_names() - own, optimizer, str(self.trainer.precision))
        scheduler = warmup_cosine(optimizer, int(total), self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as Lightning does; where adapters have groups of their own, the norm is that of each of them."""
        by_norm = gradient_clip_val if gradient_clip_algorithm != "value" else None
        if not (by_norm and self.groups.clip(by_norm)):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    # ---------------------------------------------------------------------------------------------------- checkpoints

    def on_validation_start(self) -> None:
        """Looks at the last step's loss, so that nothing of a step that was not finite is evaluated."""
        self._losses.settle()

    def on_train_end(self) -> None:
        """Looks at the last step's loss, so that nothing of a step that was not finite is kept."""
        self._losses.settle()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what training changes, the random state, and the recipe; the frozen backbone stays out."""
        self._losses.settle()
        names = self._saved_names()
        for key in _STATES & set(checkpoint):
            checkpoint[key] = {name: value for name, value in checkpoint[key].items() if name in names}
        checkpoint["lorasub"] = {
            "base_model_id": self.backbone.model_id,
            "base_model_hash": self.adapters.base_model_hash,
            "starts": self.groups.starts,
            "bases": parts_of(self.adapters.bases),
        }
        checkpoint["random_state"] = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        if self.recipe is not None:
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = dict(self.recipe)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: str | None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """Builds the task of a checkpoint as Lightning does, with the bases that the checkpoint carries.

        Args:
            checkpoint_path: the file.
            map_location: device of the tensors.
            hparams_file: see Lightning; a checkpoint of the command line holds its own settings.
            strict: see Lightning. Names are always checked; frozen weights come with the backbone.
            weights_only: read tensors and plain values only, which is all that a task writes.
            kwargs: arguments of the task, where the checkpoint does not hold them.
        """
        with bases_of_checkpoint(checkpoint_path):
            return super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads tensors as torch does; frozen weights, which no checkpoint holds, are not told as missing."""
        keys = super().load_state_dict(state_dict, strict=strict, assign=assign)
        expected = self._saved_names()
        keys.missing_keys[:] = [name for name in keys.missing_keys if name in expected]
        return keys

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not fit exactly: another base model, other names, other shapes.

        Raises:
            ArtefactError: saying which.
        """
        base = checkpoint.get("lorasub")
        if base is None:
            raise ArtefactError("this checkpoint was not written by a lorasub task; it cannot be loaded here")
        self._check_base(base)
        expected, found = self._saved_names(), set(checkpoint["state_dict"])
        if missing := sorted(expected - found):
            raise ArtefactError(
                f"the checkpoint lacks {len(missing)} tensors that this task trains: {some_of(missing)}"
            )
        if unexpected := sorted(found - expected):
            raise ArtefactError(
                f"the checkpoint holds {len(unexpected)} tensors unknown to this task: {some_of(unexpected)}"
            )
        state = self.state_dict()
        for name, tensor in checkpoint["state_dict"].items():
            if tensor.shape != state[name].shape:
                raise ArtefactError(
                    f"'{name}' is {tuple(tensor.shape)} in the checkpoint, {tuple(state[name].shape)} here"
                )
        if _CURRENT in checkpoint:  # weight averaging loads whole models, strictly: what is frozen is here already
            for key in _STATES:
                checkpoint[key] = {**state, **checkpoint[key]}
        self.groups.set_starts(base.get("starts") or [{}] * self.groups.count)
        self._random_state = checkpoint.get("random_state")

    def on_train_batch_start(self, batch: SceneBatch, batch_idx: int) -> None:
        """After resuming, continue the random stream where the checkpoint left it."""
        state, self._random_state = self._random_state, None
        if state is not None and self.global_rank == 0:
            torch.set_rng_state(state["cpu"])
            if state["cuda"]:
                torch.cuda.set_rng_state_all(state["cuda"])

    def _check_base(self, base: dict[str, Any]) -> None:
        """Refuse a checkpoint that needs other frozen weights than this task holds."""
        if base["base_model_hash"] != self.adapters.base_model_hash:
            unnamed = base["base_model_id"] == self.backbone.model_id == type(self.backbone).__name__
            hint = "; a backbone that draws its weights at random must load them from a file instead" if unnamed else ""
            raise ArtefactError(
                f"the checkpoint was trained on base model '{base['base_model_id']}' with weights "
                f"{str(base['base_model_hash'])[:12]}, but this task holds '{self.backbone.model_id}' with weights "
                f"{str(self.adapters.base_model_hash)[:12]}{hint}"
            )

    def _saved_names(self) -> set[str]:
        """Names that a checkpoint must have: what is trained, what adapters own, and the state of other modules."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        owned = {f"backbone.{name}" for name in self.adapters.state_dict()}
        frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}
        others = {name for name in self.state_dict() if not name.startswith("backbone.")} - frozen
        return trained | owned | others

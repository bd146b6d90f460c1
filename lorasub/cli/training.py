"""``fit``, ``validate``, ``test`` and ``predict``: Lightning's own command line with lorasub's defaults.

What is added to Lightning's: a run folder with a name, callbacks that are always there, a precision that suits the
device, settings taken from a checkpoint unless the command line or a config says otherwise, and a random stream that
differs between data sets (adapters that start from the same random numbers would seem to share a subspace).
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only

import lorasub.adapters
import lorasub.backbones
import lorasub.data
import lorasub.tasks  # noqa: F401 - imported so that `--model GeometryTask`, `--data PosedRGBD` need no module path
from lorasub.callbacks import (
    AdapterExport,
    BeforeAfter,
    CompileBlocks,
    EvaluationFigures,
    FinalCheckpoint,
    PredictionWriter,
    ResultsWriter,
    ScenePanels,
    SubspaceOverlap,
)
from lorasub.cli.checkpoint_recipe import checkpoint_argument, read_recipe
from lorasub.cli.compute import ComputeSettings, choose_arithmetic
from lorasub.cli.distribution import choose_strategy
from lorasub.cli.memory import batch_shape, precision_dtypes
from lorasub.cli.run_settings import RunSettings
from lorasub.cli.seeds import give_bank_seeds, mixed_seed
from lorasub.tasks import SceneTask, estimate_memory

log = logging.getLogger("lorasub")

TRAINER_DEFAULTS: dict[str, Any] = {
    "num_sanity_val_steps": -1,  # "before" of before -> after: the whole validation set, before the first step
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
}

_HELP = {
    "fit": ("lorasub fit --config FILE [OPTIONS]", "Fit an adapter."),
    "validate": ("lorasub validate --ckpt_path FILE --data CLASS [OPTIONS]", "Score a checkpoint on validation data."),
    "test": ("lorasub test --ckpt_path FILE --data CLASS [OPTIONS]", "Score a checkpoint on test data."),
    "predict": ("lorasub predict --ckpt_path FILE --data CLASS [OPTIONS]", "Write depth, cameras and point clouds."),
}


def run(verb: str, arguments: Sequence[str]) -> None:
    """Run one of Lightning's verbs."""
    _configure_logging()
    TrainingCLI(args=[verb, *arguments])


class TrainingCLI(LightningCLI):
    """LightningCLI over :class:`~lorasub.tasks.SceneTask` and any LightningDataModule."""

    def __init__(self, args: ArgsType = None) -> None:
        super().__init__(
            SceneTask,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # SceneTask.recipe does this, without copies of the model
            trainer_defaults=dict(TRAINER_DEFAULTS),
            save_config_callback=SaveConfigCallback,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={verb: {"usage": usage, "description": text} for verb, (usage, text) in _HELP.items()},
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run folder, the settings of the callbacks that are always there, and ``--estimate``."""
        parser.add_argument(
            "--estimate", action="store_true", help="print the memory that fit would take, and end; nothing is loaded"
        )
        parser.add_class_arguments(RunSettings, "run")
        parser.add_class_arguments(ComputeSettings, "compute")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True, "checkpoint.every_n_train_steps": 100})
        parser.add_lightning_class_args(ScenePanels, "panels")
        parser.add_lightning_class_args(EvaluationFigures, "figures")
        parser.add_lightning_class_args(PredictionWriter, "writer")
        parser.add_lightning_class_args(SubspaceOverlap, "overlap")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; a checkpoint's own settings count as the first config, so that files and flags win over them."""
        assert isinstance(args, list)
        checkpoint = checkpoint_argument(args)
        recipe = read_recipe(checkpoint) if checkpoint is not None else None
        if recipe is None:
            self.config = parser.parse_args(args)
            return
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"model": recipe}, file)
            file.flush()
            self.config = parser.parse_args([args[0], "--config", file.name, *args[1:]])

    def _parse_ckpt_path(self) -> None:
        """Lightning lets a checkpoint override flags and files here; `parse_arguments` does it the other way round."""

    def before_instantiate_classes(self) -> None:
        """Seed with the data's identity mixed in: partitions of one attribute must not start from the same adapter."""
        seed = self._get(self.config, "seed_everything")
        data = _plain(self._get(self.config, "data"))
        give_bank_seeds(self._get(self.config, "model"), int(seed), data)
        seed_everything(mixed_seed(int(seed), data), workers=True, verbose=False)

    def instantiate_classes(self) -> None:
        """As Lightning; the task also learns how it was made, for its checkpoints."""
        if self._get(self.config, "estimate"):
            self._print_estimate()
            raise SystemExit(0)
        super().instantiate_classes()
        model = _plain(self._get(self.config, "model"))
        self.model.recipe = {
            "_class_path": model["class_path"],
            **model.get("init_args", {}),
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
        }

    def _print_estimate(self) -> None:
        """Make the task alone, on the meta device, and count."""
        parser = self._parser(self.subcommand)
        trainer = self._get(self.config, "trainer", default={})
        autocast, dtype = precision_dtypes(choose_arithmetic(trainer["accelerator"], trainer["precision"]).precision)
        scenes, views, image_size = batch_shape(_plain(self._get(self.config, "data")))
        only_model = Namespace(model=self._get(self.config, "model"))  # type: ignore[no-untyped-call]
        with torch.device("meta"):
            task = parser.instantiate_classes(only_model).model.to(dtype)
        print(estimate_memory(task, scenes=scenes, views=views, image_size=image_size, autocast=autocast))  # noqa: T201

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Fill in what the user left open: logger, precision, strategy; add the callbacks that are always there."""
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        settings: RunSettings = self._get(self.config_init, "run")
        if config.get("logger") in (None, True) and not config.get("fast_dev_run"):
            config["logger"] = settings.logger()
        compute: ComputeSettings = self._get(self.config_init, "compute")
        arithmetic = choose_arithmetic(config.get("accelerator", "auto"), config.get("precision"), compute)
        config["precision"] = arithmetic.precision
        torch.set_float32_matmul_precision(arithmetic.matmul)
        rank_zero_only(log.info)("%s", arithmetic)
        config["strategy"] = choose_strategy(config)
        parser = self._parser(self.subcommand)
        callbacks: list[Callback] = [self._get(self.config_init, key) for key in parser.callback_keys]
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and config.get("fast_dev_run"):
                callback.save_last = False  # else a last checkpoint is written even in a quick check
        settings_of_both = {part: _plain(self._get(self.config, part)) for part in ("model", "data")}
        callbacks += [BeforeAfter(), AdapterExport(), ResultsWriter(settings_of_both)]
        if arithmetic.compile:
            callbacks.append(CompileBlocks())
        # first: it must see the weights that were trained, before averaged ones replace them
        config["callbacks"] = [FinalCheckpoint(), *_as_list(config.get("callbacks"))]
        if config.get("logger"):
            callbacks.append(LearningRateMonitor(logging_interval="step"))
        return self._instantiate_trainer(config, callbacks)

    def fit(self, **kwargs: Any) -> None:
        """Fit; a checkpoint that is resumed must be tensors and plain values (``--weights_only false`` to trust it)."""
        self.trainer.fit(**_safely(kwargs))

    def validate(self, **kwargs: Any) -> None:
        """Validate; checkpoints as for :meth:`fit`."""
        self.trainer.validate(**_safely(kwargs))

    def test(self, **kwargs: Any) -> None:
        """Test; checkpoints as for :meth:`fit`."""
        self.trainer.test(**_safely(kwargs))

    def predict(self, **kwargs: Any) -> None:
        """Predict; checkpoints as for :meth:`fit`. What is found goes to files, not into memory."""
        self.trainer.predict(**_safely({**kwargs, "return_predictions": False}))

    def before_fit(self) -> None:
        """Say what will be trained."""
        log.info("\n%s", self.model.adapters.table())

    def after_fit(self) -> None:
        """Say where everything is."""
        folder = self.trainer.log_dir  # a collective: every rank must ask
        if self.trainer.is_global_zero and folder:
            log.info("run: %s", folder)


def _safely(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**kwargs, "weights_only": True if kwargs.get("weights_only") is None else kwargs["weights_only"]}


def _as_list(value: Any) -> list[Any]:
    """A setting that may be one thing, several or none."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _plain(value: Any) -> Any:
    """Configuration namespaces as dicts of plain values, nested ones too."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class _CurrentStderr(logging.Handler):
    """Plain lines to whatever standard error is at the moment; tests and notebooks exchange it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)  # noqa: T201


def _configure_logging() -> None:
    """Let lorasub's own lines be seen, unless a program around us has set its logging up."""
    if not log.handlers:
        log.addHandler(_CurrentStderr())
        log.setLevel(logging.INFO)

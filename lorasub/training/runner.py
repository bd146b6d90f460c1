"""Runs ``fit``, ``validate``, ``test`` and ``predict`` from command-line words.

What is added to Lightning's own command line: a run folder with a name, callbacks that are always there, a precision
that suits the device, settings taken from a checkpoint unless the command line or a config says otherwise, and a random
stream that differs between data sets (adapters that start from the same random numbers would seem to share a subspace).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only

from lorasub.adapters import cast_frozen_weights
from lorasub.console import show_log_lines
from lorasub.tasks import SceneTask, estimate_memory
from lorasub.training.always_on import run_callbacks
from lorasub.training.batch_shape import batch_shape, precision_dtypes
from lorasub.training.parser import Verb, parse_settings, plain, training_parser
from lorasub.training.precision import Arithmetic, ComputeSettings, choose_arithmetic
from lorasub.training.seeds import give_bank_seeds, mixed_seed
from lorasub.training.strategy import choose_strategy

log = logging.getLogger("lorasub")


def run(verb: Verb, arguments: Sequence[str]) -> None:
    """Run one verb to its end.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: words of the command line after the verb.

    Raises:
        LorasubError: settings, data or a checkpoint cannot be used; the message says what to do.
    """
    parser = training_parser(verb)
    settings = parse_settings(parser, arguments)
    if settings.estimate:
        print(estimate(parser, settings))  # noqa: T201
    else:
        make_run(verb, parser, settings).start()


@dataclass
class Run:
    """A verb with everything it needs, made from settings.

    Attributes:
        verb: what is run.
        task: the model with its adapters.
        data: the data module.
        trainer: Lightning's.
        options: arguments of the trainer's method: ``ckpt_path``, ``weights_only``, ``verbose``.
    """

    verb: Verb
    task: SceneTask
    data: LightningDataModule
    trainer: Trainer
    options: dict[str, Any]

    def start(self) -> None:
        """Run to the end; say after a fit where everything is."""
        options = dict(self.options)
        if options.get("weights_only") is None:
            options["weights_only"] = True  # a checkpoint that somebody was given must not run code
        match self.verb:
            case "fit":
                self.trainer.fit(self.task, datamodule=self.data, **options)
            case "validate":
                self.trainer.validate(self.task, datamodule=self.data, **options)
            case "test":
                self.trainer.test(self.task, datamodule=self.data, **options)
            case "predict":  # what is found goes to files, not into memory
                self.trainer.predict(self.task, datamodule=self.data, return_predictions=False, **options)
        folder = self.trainer.log_dir if self.verb == "fit" else None  # a collective: every rank must ask
        if self.trainer.is_global_zero and folder:
            log.info("run: %s", folder)


def prepare(verb: Verb, arguments: Sequence[str]) -> Run:
    """Make task, data and trainer from command-line words; nothing runs yet.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: words of the command line after the verb.
    """
    parser = training_parser(verb)
    return make_run(verb, parser, parse_settings(parser, arguments))


def make_run(verb: Verb, parser: LightningArgumentParser, settings: Namespace) -> Run:
    """Make task, data and trainer from settings.

    Args:
        verb: what is to be run.
        parser: of the verb, see :func:`~lorasub.training.parser.training_parser`.
        settings: as parsed by it.
    """
    show_log_lines(always=True)
    _seed(settings)
    made = parser.instantiate_classes(settings)
    task: SceneTask = made.model
    model = plain(settings.model)
    task.recipe = {
        "_class_path": model["class_path"],
        **model.get("init_args", {}),
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    arithmetic = choose_arithmetic(made.trainer.accelerator, made.trainer.precision, made.compute)
    trainer = _trainer(parser, settings, made, arithmetic)
    _keep_frozen(task, arithmetic)
    options = {key: made[key] for key in ("ckpt_path", "weights_only", "verbose") if key in made}
    return Run(verb=verb, task=task, data=made.data, trainer=trainer, options=options)


def estimate(parser: LightningArgumentParser, settings: Namespace) -> str:
    """Count the memory of a fit: the task alone is made, on the meta device, where nothing is loaded."""
    trainer = settings.trainer
    arithmetic = choose_arithmetic(trainer.accelerator, trainer.precision, ComputeSettings(**plain(settings.compute)))
    autocast, dtype = precision_dtypes(arithmetic.precision)
    scenes, views, image_size = batch_shape(plain(settings.data))
    only_model = Namespace(model=settings.model)  # type: ignore[no-untyped-call]
    with torch.device("meta"):
        task = parser.instantiate_classes(only_model).model.to(dtype)
    _keep_frozen(task, arithmetic)
    return str(estimate_memory(task, scenes=scenes, views=views, image_size=image_size, autocast=autocast))


def _keep_frozen(task: SceneTask, arithmetic: Arithmetic) -> None:
    """Cast the blocks' frozen weights; without adapter layers the backbone itself may be what a run leaves."""
    if arithmetic.frozen is not None and task.adapters.layers:
        cast_frozen_weights(task.backbone.repeated_blocks(), arithmetic.frozen)


def _seed(settings: Namespace) -> None:
    """Seed with the data's identity mixed in: partitions of one attribute must not start from the same adapter."""
    if settings.seed_everything is True:
        settings.seed_everything = secrets.randbelow(2**32)
    seed, data = int(settings.seed_everything), plain(settings.data)
    give_bank_seeds(settings.model, seed, data)
    seed_everything(mixed_seed(seed, data), workers=True, verbose=False)


def _trainer(parser: LightningArgumentParser, settings: Namespace, made: Namespace, arithmetic: Arithmetic) -> Trainer:
    """Fill in what the user left open: logger, precision, strategy; add the callbacks that are always there."""
    options = made.trainer
    if options.logger in (None, True) and not options.fast_dev_run:
        options.logger = made.run.logger()
    options.precision = arithmetic.precision
    torch.set_float32_matmul_precision(arithmetic.matmul)
    rank_zero_only(log.info)("%s", arithmetic)
    options.strategy = choose_strategy(options)
    options.callbacks = run_callbacks(parser, settings, made, compiled=arithmetic.compile)
    return Trainer(**options)

"""Runs ``fit``, ``validate``, ``test`` and ``predict`` from command-line words.

What is added to Lightning's own command line: a run folder with a name, callbacks that are always there, a precision
that suits the device, settings taken from a checkpoint unless the command line or a config says otherwise, and a random
stream that differs between data sets (adapters that start from the same random numbers would seem to share a subspace).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lorasub.adapters import bases_of_checkpoint, cast_frozen_weights
from lorasub.callbacks import BeforeAfter
from lorasub.callbacks.before_after import BEFORE_AFTER_FILE
from lorasub.console import show_log_lines, silence_libraries
from lorasub.errors import ArtefactError, ConfigError, RunInterruptedError
from lorasub.tasks import SceneTask
from lorasub.training.always_on import as_list, run_callbacks
from lorasub.training.checkpoints import CHECKPOINTS, LAST, SETTINGS, AtomicCheckpointIO, CheckpointInfo
from lorasub.training.evidence import warn_of_solved_sets
from lorasub.training.memory import batch_of, estimate_memory
from lorasub.training.mistakes import SettingsParser
from lorasub.training.parser import plain, training_parser
from lorasub.training.precision import Arithmetic, ComputeSettings, choose_arithmetic, precision_dtypes
from lorasub.training.run_settings import RunFolder, Verb
from lorasub.training.sources import Sources, read_sources
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
    sources = read_sources(verb, parser, arguments)
    if sources.settings.estimate:
        print(estimate(parser, sources.settings))  # noqa: T201
    else:
        made = make_run(verb, parser, sources, reserve=True)
        made.start()


def prepare(verb: Verb, arguments: Sequence[str]) -> Run:
    """Make task, data and trainer from command-line words; nothing runs yet, and no folder is made.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: words of the command line after the verb.
    """
    parser = training_parser(verb)
    return make_run(verb, parser, read_sources(verb, parser, arguments))


class RunTrainer(Trainer):
    """Lightning's Trainer with one folder for everything, whichever logger there is, or none."""

    @property
    def log_dir(self) -> str | None:
        """The run's folder, the same on every rank: a collective."""
        folder: str | None = self.strategy.broadcast(self.default_root_dir)
        return folder


@dataclass
class Run:
    """A verb with everything it needs, made from settings.

    Attributes:
        verb: what is run.
        task: the model with its adapters.
        data: the data module.
        trainer: Lightning's.
        options: arguments of the trainer's method: ``weights_only``, ``verbose``.
        folder: of the run; None in a quick check (``fast_dev_run``), which leaves nothing behind.
        checkpoint: that is resumed or scored.
    """

    verb: Verb
    task: SceneTask
    data: LightningDataModule
    trainer: Trainer
    options: dict[str, Any]
    folder: RunFolder | None
    checkpoint: CheckpointInfo | None

    def start(self) -> None:
        """Run to the end; say from which step a fit goes on, and at the end where everything is.

        Raises:
            RunInterruptedError: by a user; the message says how to go on.
            LorasubError: whatever went wrong. A run that failed before anything was worth keeping leaves no folder.
        """
        with self._folder_or_nothing():
            if self.folder is not None:
                self.folder.begin()
            if self.verb == "fit":
                self._announce()
                if self.trainer.is_global_zero:
                    warn_of_solved_sets(self.data, device=self.trainer.strategy.root_device)
            self._start()
        if self.folder is not None and self.trainer.is_global_zero:
            for line in self._outcome():
                log.info("%s", line)

    def _start(self) -> None:
        options = dict(self.options)
        if options.get("weights_only") is None:
            options["weights_only"] = True  # a checkpoint that somebody was given must not run code
        options["ckpt_path"] = None if self.checkpoint is None else self.checkpoint.path
        match self.verb:
            case "fit":
                self.trainer.fit(self.task, datamodule=self.data, **options)
                self._complete()
            case "validate":
                self.trainer.validate(self.task, datamodule=self.data, **options)
            case "test":
                self.trainer.test(self.task, datamodule=self.data, **options)
            case "predict":  # what is found goes to files, not into memory
                self.trainer.predict(self.task, datamodule=self.data, return_predictions=False, **options)

    def _complete(self) -> None:
        """Validate a fit that was killed between its last checkpoint and its end: Lightning had nothing left to do."""
        if self.checkpoint is None or self.folder is None or self.checkpoint.step != self.trainer.global_step:
            return
        if not (self.folder.path / BEFORE_AFTER_FILE).is_file():
            self.trainer.validate(self.task, datamodule=self.data, verbose=False)
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, BeforeAfter):
                    callback.on_fit_end(self.trainer, self.task)

    def _announce(self) -> None:
        """Say from which step the fit goes on.

        Raises:
            ConfigError: the checkpoint cannot be resumed.
        """
        if self.checkpoint is None:
            return
        path, step = self.checkpoint.path, self.checkpoint.step
        if not self.checkpoint.resumable:
            raise ConfigError(f"{path} holds weights alone, without optimiser and progress: a fit cannot resume it")
        if 0 < self.trainer.max_steps < step:
            raise ConfigError(
                f"{path} is at step {step}, beyond trainer.max_steps = {self.trainer.max_steps}; give a larger "
                "--trainer.max_steps"
            )
        before, now = (
            _optimizer(recipe) for recipe in ((self.checkpoint.recipe or {}).get("init_args"), self.task.recipe)
        )
        if before and now and before != now:
            raise ConfigError(
                f"{path} was trained with {before}, whose state {now} cannot take over: leave model.optimizer as it "
                "was, or begin a new fit"
            )
        log.info("going on after step %d of %s", step, path)

    @contextlib.contextmanager
    def _folder_or_nothing(self) -> Iterator[None]:
        try:
            with self._naming_the_checkpoint():
                yield
        except (RunInterruptedError, KeyboardInterrupt, SystemExit) as stop:
            if isinstance(stop, SystemExit) and not self.trainer.interrupted:
                raise
            raise RunInterruptedError(self._how_to_go_on(stop)) from None
        except BaseException:
            if self.folder is not None:
                self.folder.discard()
            raise

    @contextlib.contextmanager
    def _naming_the_checkpoint(self) -> Iterator[None]:
        """Let errors about a checkpoint begin with its file, which the task that reads it does not know."""
        try:
            yield
        except ArtefactError as error:
            if self.checkpoint is None or "checkpoint" not in str(error) or str(self.checkpoint.path) in str(error):
                raise
            raise ArtefactError(f"{self.checkpoint.path}: {error}") from error

    def _how_to_go_on(self, stop: BaseException) -> str:
        """The command that resumes an interrupted fit, or a line that says what was kept."""
        said = str(stop) if isinstance(stop, RunInterruptedError) else "interrupted"
        if self.folder is None:
            return said
        last = self.folder.path / CHECKPOINTS / LAST
        if not last.is_file():
            self.folder.discard()
            if self.verb == "fit":
                return f"{said}, before the first checkpoint"
            return f"{said}; what was written is in {self.folder.path}" if self.folder.path.is_dir() else said
        command = shlex.join(["lorasub", "fit", "--config", str(self.folder.path / SETTINGS), "--ckpt_path", str(last)])
        return f"{said}; run: {self.folder.path}\ngo on with: {command}"

    def _outcome(self) -> list[str]:
        """Lines for the end of a run: a command to go on with, and the run's folder."""
        assert self.folder is not None
        path = self.folder.path
        following = {
            "fit": f"lorasub test --ckpt_path {path}",
            "validate": None,
            "test": f"lorasub compare {path} ANOTHER_TEST",
            "predict": f"lorasub view {path / 'predictions'}",
        }[self.verb]
        return [*([f"next: {following}"] if following else []), f"run: {path}"]


def make_run(verb: Verb, parser: SettingsParser, sources: Sources, *, reserve: bool = False) -> Run:
    """Make task, data and trainer from settings.

    Args:
        verb: what is to be run.
        parser: of the verb, see :func:`~lorasub.training.parser.training_parser`.
        sources: settings, and the checkpoint they belong to.
        reserve: whether the run's folder is made now and not when the run starts.
    """
    show_log_lines(always=True)
    silence_libraries()
    settings = sources.settings
    _seed(settings)
    with bases_of_checkpoint(None if sources.checkpoint is None else sources.checkpoint.path):
        made = parser.instantiate(settings)
    task: SceneTask = made.model
    model = plain(settings.model)
    task.recipe = {
        "_class_path": model["class_path"],
        **model.get("init_args", {}),
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    arithmetic = choose_arithmetic(
        made.trainer.accelerator, made.trainer.precision, made.compute, evaluation=verb != "fit"
    )
    checkpoint = sources.checkpoint
    folder = None
    if not made.trainer.fast_dev_run:
        path = None if checkpoint is None else checkpoint.path
        folder = RunFolder.choose(verb, made.run, path, named=sources.named)
        if reserve:
            folder.reserve()
    try:
        trainer = _trainer(verb, parser, settings, made, arithmetic, folder, checkpoint)
    except BaseException:
        if folder is not None:
            folder.discard()
        raise
    _keep_frozen(task, arithmetic)
    options = {key: made[key] for key in ("weights_only", "verbose") if key in made}
    return Run(verb, task, made.data, trainer, options, folder, checkpoint)


def estimate(parser: SettingsParser, settings: Namespace) -> str:
    """Counts the memory of a fit. The task is made on the meta device, where nothing is loaded; no data is read."""
    trainer = settings.trainer
    arithmetic = choose_arithmetic(trainer.accelerator, trainer.precision, ComputeSettings(**plain(settings.compute)))
    autocast, dtype = precision_dtypes(arithmetic.precision)
    batch = batch_of(parser.instantiate(Namespace(data=settings.data)).data)  # type: ignore[no-untyped-call]
    only_model = Namespace(model=settings.model)  # type: ignore[no-untyped-call]
    with torch.device("meta"):
        task = parser.instantiate(only_model).model.to(dtype)
    _keep_frozen(task, arithmetic)
    size = (batch.height, batch.width)
    return str(estimate_memory(task, scenes=batch.scenes, views=batch.views, image_size=size, autocast=autocast))


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


def _trainer(
    verb: Verb,
    parser: SettingsParser,
    settings: Namespace,
    made: Namespace,
    arithmetic: Arithmetic,
    folder: RunFolder | None,
    checkpoint: CheckpointInfo | None,
) -> Trainer:
    """Fill in what the user left open: folder, logger, precision, strategy; add the callbacks that are always there."""
    options = made.trainer
    if folder is not None:
        options.default_root_dir = str(folder.path)
        if options.logger in (None, True):
            options.logger = _logger(folder, None if checkpoint is None or not folder.resumed else checkpoint.step)
    arithmetic.apply()
    rank_zero_only(log.info)("%s", arithmetic)
    options.precision = arithmetic.precision
    options.plugins = [AtomicCheckpointIO(), *as_list(options.plugins)]
    options.strategy = choose_strategy(options)
    options.callbacks = run_callbacks(verb, parser, settings, made, folder=folder, compiled=arithmetic.compile)
    return RunTrainer(**options)


def _logger(folder: RunFolder, step: int | None) -> TensorBoardLogger:
    """A TensorBoard logger in the run's folder; what it has of steps after ``step`` no longer counts."""
    path = folder.path
    purge = None if step is None else step + 1
    return TensorBoardLogger(path.parent.parent, path.parent.name, path.name, default_hp_metric=False, purge_step=purge)


def mixed_seed(seed: int, data: Any) -> int:
    """Returns a seed that depends on the data: 32 bits of SHA-256 over the seed and the data's settings.

    How the data is loaded does not count (workers, batch size), so that a run can be repeated on another machine.
    """
    settings = data.get("init_args", {}) if isinstance(data, Mapping) else {}
    loading = ("num_workers", "batch_size", "cache", "cache_mb")
    identity = {key: _as_by_default(value) for key, value in settings.items() if key not in loading}
    text = json.dumps([seed, identity], sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


#: Settings of loading that stand within others, such as ``decoding``, and their defaults.
_LOADING = {"num_workers": 0, "cache_mb": 1024.0}


def _as_by_default(value: Any) -> Any:
    """A setting as it is where nobody says anything about loading."""
    if isinstance(value, Mapping):
        return {key: _LOADING.get(key, _as_by_default(item)) for key, item in value.items()}
    return value


def give_bank_seeds(model: Namespace, seed: int, data: Any) -> None:
    """Let each adapter of a bank start as it would in a fit of its own; nothing is done about other adapters.

    Args:
        model: the task's settings as parsed. A LoRABank in it that has no seeds is given those of the data's members.
        seed: of the run.
        data: the data module's settings in plain values.
    """
    adapter = (model.get("init_args") or {}).get("adapter")
    if isinstance(adapter, list) and len(adapter) == 1:
        adapter = adapter[0]
    members = data["init_args"].get("members") if isinstance(data, Mapping) and "init_args" in data else None
    if not members or not isinstance(adapter, Namespace) or not adapter.class_path.endswith("LoRABank"):
        return
    if adapter.init_args.seeds is None:
        adapter.init_args.seeds = [mixed_seed(seed, member) for member in members]


def _optimizer(recipe: Mapping[str, Any] | None) -> str | None:
    """Name of the optimiser's class in a task's settings; None if they name none."""
    given = (recipe or {}).get("optimizer")
    return str(given["class_path"]).rpartition(".")[2] if isinstance(given, Mapping) and "class_path" in given else None

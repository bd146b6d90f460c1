"""The callbacks of runs from the command line; those of every run come from `SceneTask.configure_callbacks`."""

from __future__ import annotations

import copy
import logging
import math
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar

from lorasub.callbacks import CompileBlocks, ResultsWriter
from lorasub.callbacks.run_folder import run_folder
from lorasub.errors import RunInterruptedError
from lorasub.files import atomic_path
from lorasub.training.checkpoints import CHECKPOINTS, LAST, SETTINGS
from lorasub.training.mistakes import SettingsParser
from lorasub.training.parser import plain
from lorasub.training.run_settings import RunFolder, Verb


class SavedSettings(Callback):
    """Writes ``config.yaml`` into the run's folder.

    A resumed run with other settings keeps the earlier file under another name, ``config_1.yaml`` and so on.

    Args:
        parser: of the settings.
        settings: as parsed.
    """

    def __init__(self, parser: SettingsParser, settings: Namespace) -> None:
        self.text: str = parser.dump(settings, skip_unset=False)  # null may differ from the default

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write on the first rank."""
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        path = folder / SETTINGS
        if path.is_file() and path.read_text(encoding="utf-8") != self.text:
            number = len(list(folder.glob("config_*.yaml"))) + 1
            path.rename(folder / f"config_{number}.yaml")
        with atomic_path(path) as temporary:
            temporary.write_text(self.text, encoding="utf-8")


def run_callbacks(
    verb: Verb,
    parser: SettingsParser,
    settings: Namespace,
    made: Namespace,
    *,
    folder: RunFolder | None,
    compiled: bool,
) -> list[Callback]:
    """Join the callbacks of the settings with those that need them.

    Args:
        verb: what is run.
        parser: of the verb.
        settings: as parsed; saved in the run's folder.
        made: the objects that the settings stand for.
        folder: of the run; None in a quick check.
        compiled: whether the backbone's blocks are compiled.
    """
    trainer = made.trainer
    found: list[Callback] = [made[key] for key in parser.callback_keys]
    of_both = {part: plain(settings[part]) for part in ("model", "data")}
    found.append(ResultsWriter(of_both))
    if compiled:
        found.append(CompileBlocks())
    if trainer.logger:
        found.append(LearningRateMonitor(logging_interval="step"))
    if trainer.enable_progress_bar is not False:
        found.append(StepProgress())
    for callback in found:
        if isinstance(callback, ModelCheckpoint):
            _place(callback, folder)
    if folder is not None:
        saved = copy.deepcopy(settings)
        if verb == "fit" and saved.ckpt_path != "auto":
            saved.ckpt_path = None  # the file repeats the run; what it went on from is in its folder
        found.append(SavedSettings(parser, saved))
        if verb == "fit":
            found.append(StopOnInterrupt(folder.path / CHECKPOINTS / LAST))
    return [*as_list(trainer.callbacks), *found]


def _place(callback: ModelCheckpoint, folder: RunFolder | None) -> None:
    """Give a checkpoint callback its folder, with the last checkpoint that is there already."""
    if folder is None:
        callback.save_last = False  # else a last checkpoint is written even in a quick check
        return
    if callback.dirpath is None:
        callback.dirpath = str((folder.path / CHECKPOINTS).resolve())
    last = Path(callback.dirpath) / LAST
    if folder.resumed and last.is_file():
        callback.last_model_path = str(last)  # else the next one would be called last-v1


def as_list(value: Any) -> list[Any]:
    """Returns a setting that may be one thing, several or none as a list."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


class StepProgress(TQDMProgressBar):
    """Lightning's bars, but for the fit: one bar over all steps in place of one for each epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the step that the fit begins with, so that the remaining time is right after resuming, too."""
        bar = self.init_train_tqdm()
        total = trainer.estimated_stepping_batches
        bar.total = None if math.isinf(total) else total
        bar.initial = bar.n = bar.last_print_n = trainer.global_step
        bar.set_description("fit")
        self.train_progress_bar = bar

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Epochs have no bar of their own."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move to the optimiser's step."""
        bar = self.train_progress_bar
        if self._should_update(trainer.global_step, bar.total):
            bar.n = trainer.global_step
            bar.set_postfix(self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Epochs have no bar of their own."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Returns Lightning's metrics without the run's number."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


log = logging.getLogger("lorasub")


class StopOnInterrupt(Checkpoint):
    """Saves the last checkpoint and ends the fit when a user interrupts it.

    The first Ctrl-C waits for the end of the step, where the state is whole: an interrupted optimiser step could not be
    resumed exactly. The second stops at once. It is a checkpoint callback, so that Lightning calls it after all others.

    Args:
        path: of the checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._asked = False
        self._before: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Catches Ctrl-C from the first step on."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and end, all processes at the same step.

        Raises:
            RunInterruptedError: a user has asked for it.
        """
        alone = trainer.world_size == 1
        if not alone and trainer.global_step % 10:  # asking the others costs a message
            return
        asked = self._asked if alone else trainer.strategy.reduce_boolean_decision(self._asked, all=False)
        if asked:
            trainer.save_checkpoint(self.path, weights_only=False)
            raise RunInterruptedError(f"interrupted after step {trainer.global_step}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives Ctrl-C its usual meaning back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives Ctrl-C its usual meaning back."""
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()
        log.info("stopping after this step; once more to stop at once, and lose the steps since the last checkpoint")

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

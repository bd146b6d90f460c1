"""The callbacks that have settings of their own; all others come from `SceneTask.configure_callbacks`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint

from lorasub.callbacks import CompileBlocks, ResultsWriter
from lorasub.callbacks.run_folder import run_folder
from lorasub.files import atomic_path
from lorasub.training.checkpoints import CHECKPOINTS, LAST, SETTINGS
from lorasub.training.interruption import StopOnInterrupt
from lorasub.training.mistakes import SettingsParser
from lorasub.training.parser import plain
from lorasub.training.progress import StepProgress
from lorasub.training.run_settings import RunFolder
from lorasub.training.verbs import Verb


class SavedSettings(Callback):
    """Writes ``config.yaml`` into the run's folder.

    A resumed run with other settings keeps the earlier file under another name, ``config_1.yaml`` and so on.

    Args:
        parser: of the settings.
        settings: as parsed.
    """

    def __init__(self, parser: SettingsParser, settings: Namespace) -> None:
        self.text: str = parser.dump(settings, skip_none=False)  # null may differ from the default

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
    return [*_as_list(trainer.callbacks), *found]


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


def _as_list(value: Any) -> list[Any]:
    """A setting that may be one thing, several or none."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]

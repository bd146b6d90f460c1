"""The callbacks that have settings of their own; all others come from `SceneTask.configure_callbacks`."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from lorasub.callbacks import CompileBlocks, ResultsWriter
from lorasub.training.parser import plain


def run_callbacks(
    parser: LightningArgumentParser, settings: Namespace, made: Namespace, *, compiled: bool
) -> list[Callback]:
    """Join the callbacks of the settings with those that need them.

    Args:
        parser: of the verb.
        settings: as parsed; saved in the run's folder.
        made: the objects that the settings stand for.
        compiled: whether the backbone's blocks are compiled.
    """
    trainer = made.trainer
    found: list[Callback] = [made[key] for key in parser.callback_keys]
    for callback in found:
        if isinstance(callback, ModelCheckpoint) and trainer.fast_dev_run:
            callback.save_last = False  # else a last checkpoint is written even in a quick check
    found.append(ResultsWriter({part: plain(settings[part]) for part in ("model", "data")}))
    if compiled:
        found.append(CompileBlocks())
    if trainer.logger:
        found.append(LearningRateMonitor(logging_interval="step"))
    if not trainer.fast_dev_run:
        found.append(SaveConfigCallback(parser, settings, overwrite=True))
    return [*_as_list(trainer.callbacks), *found]


def _as_list(value: Any) -> list[Any]:
    """A setting that may be one thing, several or none."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]

"""The callbacks of every run: what exports the adapter, compares, draws and writes results without being asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback, Trainer

from lorasub.callbacks.before_after import BeforeAfter
from lorasub.callbacks.evaluation_figures import EvaluationFigures
from lorasub.callbacks.exports import AdapterExport, FinalCheckpoint
from lorasub.callbacks.results_writer import ResultsWriter
from lorasub.callbacks.scene_panels import ScenePanels
from lorasub.callbacks.subspace_overlap import SubspaceOverlap
from lorasub.console import show_log_lines

#: In the order in which they run. To set one up in another way, give the trainer one of its own.
KINDS: tuple[type[Callback], ...] = (
    BeforeAfter,
    AdapterExport,
    SubspaceOverlap,
    ScenePanels,
    EvaluationFigures,
    ResultsWriter,
)


def missing_callbacks(trainer: object) -> Sequence[Callback]:
    """Returns those of the callbacks of every run that a trainer does not have yet.

    A run without a folder of its own gets none: with ``Trainer(logger=False)`` in the working folder, one run would
    overwrite the other's files. Nor does a quick check (``fast_dev_run``), or ``barebones``.

    Args:
        trainer: of the run. :class:`FinalCheckpoint` is put before its other callbacks.
    """
    assert isinstance(trainer, Trainer)
    if not has_folder(trainer):
        return ()
    show_log_lines()
    # it must see the weights that were trained, before averaged ones replace them
    trainer.callbacks[:0] = _lacking(trainer, (FinalCheckpoint,))  # type: ignore[attr-defined]
    return _lacking(trainer, KINDS)


def has_folder(trainer: Trainer) -> bool:
    """Whether files of this run have a place that is not every run's."""
    if trainer.fast_dev_run or trainer.barebones:  # type: ignore[attr-defined]
        return False
    return bool(trainer.loggers) or Path(trainer.default_root_dir).resolve() != Path.cwd()


def _lacking(trainer: Trainer, kinds: Sequence[type[Callback]]) -> list[Callback]:
    there: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [kind() for kind in kinds if not any(isinstance(callback, kind) for callback in there)]

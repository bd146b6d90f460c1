"""Registers the callbacks of every run: the package sets them, tasks ask for them.

Tasks stand below callbacks and may not import them. So ``import lorasub`` leaves a function here that makes them, and
:meth:`lorasub.SceneTask.configure_callbacks` calls it: a fit from Python then leaves the same files as one from the
command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: Takes the trainer of a run, and returns the callbacks that it lacks.
RunCallbacks = Callable[[object], Sequence[object]]

_makers: list[RunCallbacks] = []


def set_run_callbacks(maker: RunCallbacks) -> None:
    """Says what makes the callbacks of every run; what was said before no longer counts."""
    _makers[:] = [maker]


def run_callbacks(trainer: object) -> list[object]:
    """Returns the callbacks that a run with this trainer should have in addition."""
    return [callback for maker in _makers for callback in maker(trainer)]

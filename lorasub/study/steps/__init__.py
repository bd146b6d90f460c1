"""The steps of a study: each a plain function from its settings to files in its folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lorasub.study.artefacts import Workplace
from lorasub.study.steps import comparison, constant, gradients, pulls, removal, subspaces, training


class Kind(NamedTuple):
    """A kind of step.

    Attributes:
        function: does it; returns what the record shall say about the result. Its first argument is the settings, whose
            type is the kind's.
        guess: seconds for a unit of work where none has been done yet: a nano backbone on two cores.
    """

    function: Callable[[Any, Workplace], dict[str, Any]]
    guess: float


KINDS: dict[str, Kind] = {
    "fit": Kind(training.fit_adapter, 0.5),
    "mine": Kind(subspaces.mine, 10.0),
    "mean": Kind(subspaces.mean, 10.0),
    "split": Kind(subspaces.split, 60.0),
    "combine": Kind(subspaces.combine, 5.0),
    "gradients": Kind(gradients.model_basis, 0.5),
    "pull": Kind(pulls.pull, 0.5),
    "compare_pulls": Kind(pulls.compare_pulls, 10.0),
    "overlap": Kind(comparison.overlap, 60.0),
    "explain": Kind(comparison.explain, 30.0),
    "remove": Kind(removal.remove, 5.0),
    "constant": Kind(constant.mean_scene, 5.0),
    "lr_trial": Kind(training.try_rate, 0.5),
    "select_lr": Kind(training.select_rate, 1.0),
    "finetune": Kind(training.finetune, 0.5),
    "test": Kind(training.test, 20.0),
}

"""Runs fits, validations, tests and predictions from settings: what the command line and studies share."""

from lorasub.training.runner import Run, prepare, run
from lorasub.training.verbs import Verb

__all__ = ["Run", "Verb", "prepare", "run"]

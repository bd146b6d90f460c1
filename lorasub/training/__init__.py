"""Runs fits, validations, tests and predictions from settings: what the command line and studies share."""

from lorasub.training.run_settings import Verb
from lorasub.training.runner import Run, prepare, run

__all__ = ["Run", "Verb", "prepare", "run"]

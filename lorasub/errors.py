"""Errors that are meant to be read by the person who runs the tool.

Every message names the thing that was wrong, the value it had, where it stood, and a way out. The command line prints
such an error without a traceback (unless ``--debug``); any other exception is a defect of the library.
"""


class LorasubError(Exception):
    """Base of all errors that lorasub raises on purpose."""


class ConfigError(LorasubError, ValueError):
    """A setting that cannot be used: an unknown attribute, a rank of zero, a pattern that matches nothing."""


class DataError(LorasubError):
    """Input data that cannot be used: a missing folder, a truncated image, poses that do not fit."""


class ArtefactError(LorasubError):
    """A weights, adapter, basis or checkpoint file that is damaged, incomplete or belongs to something else."""


class NumericalError(LorasubError, ArithmeticError):
    """A computation left the finite numbers."""


class RunInterruptedError(LorasubError):
    """A user stopped a run; what was done so far is in its folder."""

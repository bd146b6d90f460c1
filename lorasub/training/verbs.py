"""The names of what is run."""

from typing import Literal

Verb = Literal["fit", "validate", "test", "predict"]

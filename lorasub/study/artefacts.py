"""Names of the files that steps leave for each other.

steps/<kind>/<key>/step.json     what is to be done
                   log.txt       what it printed
                   ...           what it made
                   record.json   written last, in one piece: it is done; time, machine, measurements
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STEP_FILE, RECORD_FILE, LOG_FILE, FAILURE_FILE = "step.json", "record.json", "log.txt", "failure.txt"
#: A run as of ``lorasub fit``, a basis, the choice of a learning rate, a model that does not look.
CONFIG_FILE, RUN, BASIS, CHOICE_FILE, COSTS_FILE = "config.yaml", "run", "basis", "choice.json", "costs.json"
CONSTANT_FILE = "constant.safetensors"


@dataclass(frozen=True, kw_only=True)
class Output:
    """The result of another step, as a step's settings name it.

    Attributes:
        kind: of that step.
        key: its content address.
    """

    kind: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Folders of a step.

    Attributes:
        folder: its own; what it makes goes there.
        root: of the store.
    """

    folder: Path
    root: Path

    def of(self, output: Output) -> Path:
        """Returns the folder of a finished step."""
        return step_folder(self.root, output.kind, output.key)


def step_folder(root: Path, kind: str, key: str) -> Path:
    """Returns the folder of a step below the store's."""
    return root / "steps" / kind / key[:16]

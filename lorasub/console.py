"""Text for people: tables, and lines of the log on standard error."""

from __future__ import annotations

import difflib
import logging
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_log = logging.getLogger("lorasub")


class CurrentStderr(logging.Handler):
    """Writes plain lines to whatever standard error is at the moment; tests and notebooks exchange it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        print(self.format(record), file=sys.stderr)  # noqa: T201


def show_log_lines(*, always: bool = False) -> None:
    """Lets lorasub's own lines be seen.

    Args:
        always: also where the program around us handles log records itself, as a command line wants it.
    """
    if not (_log.handlers if always else _log.hasHandlers()):
        _log.addHandler(CurrentStderr())
    if _log.level == logging.NOTSET and (always or not _log.isEnabledFor(logging.INFO)):
        _log.setLevel(logging.INFO)


def text_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Returns rows as aligned text: numbers to the right, with four digits or with thousands set apart.

    Args:
        rows: name of the column -> value; None is shown as ``-``.
        columns: names of the columns to show; those of the first row by default.

    >>> print(text_table([{"method": "lora", "abs_rel": 0.25}, {"method": "none", "abs_rel": None}]))
    method  abs_rel
    lora       0.25
    none          -
    """
    if not rows:
        return "(nothing)"
    names = list(columns or rows[0])
    values = [[row.get(name) for name in names] for row in rows]
    cells = [names, *([_cell(value) for value in line] for line in values)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [
        all(value is None or isinstance(value, int | float) for value in column) for column in zip(*values, strict=True)
    ]
    formats = [f"{'>' if side else '<'}{width}" for side, width in zip(right, widths, strict=True)]
    return "\n".join("  ".join(map(format, line, formats)).rstrip() for line in cells)


def meant(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """Returns the end of a sentence about a wrong word: the nearest name that there is, or some words and all names.

    >>> meant("learning_rat", ["steps", "learning_rate"])
    "; did you mean 'learning_rate'?"
    >>> meant("colour", ["steps", "learning_rate"], "; there are")
    '; there are steps, learning_rate'
    """
    names = list(names)
    plain = {name.lower().replace("_", ""): name for name in names}
    flat = word.lower().replace("_", "")
    near = difflib.get_close_matches(flat, plain, n=1)
    # short names are often written out: rank for r, alpha for lora_alpha
    near = near or [name for name in plain if name and (flat.startswith(name) or name.endswith(flat))][:1]
    if near:
        return f"; did you mean '{plain[near[0]]}'?"
    return f"{otherwise} {', '.join(names)}" if otherwise and names else ""


def some_of(names: Sequence[str], count: int = 3) -> str:
    """Returns the first names of a list, in words.

    >>> some_of(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if isinstance(value, bool) or not isinstance(value, int) else f"{value:,}"


#: Beginning of each, as a regular expression, and why it is of no use.
_OF_NO_USE = {
    r".*`?isinstance\(treespec, LeafSpec\)": "Lightning calls torch by an older name",
    r"The dirpath has changed from": "a test writes elsewhere than the fit whose checkpoint it reads",
    r"The number of training batches \(\d+\) is smaller than the logging interval": "steps count, not epochs",
    r"Checkpoint directory .* exists and is not empty": "a resumed run goes on in its folder; others are refused",
    r"The '\w+' does not have many workers": "scenes are rendered by the main process on purpose",
    r".*`torch\.jit\.script_method` is deprecated": "kornia calls it",
}


def silence_libraries() -> None:
    """Leave out lines of Lightning that say what is said better elsewhere, or that ask for nothing."""
    for message in _OF_NO_USE:
        warnings.filterwarnings("ignore", message=message)
    # devices, "tips" to install other products, and where a checkpoint was read: our own lines say what matters
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.trainer.connectors").setLevel(logging.WARNING)

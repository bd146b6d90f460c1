"""Lines for people on standard error: tables, folders, what was decided and why."""

from __future__ import annotations

import logging
import sys

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

"""Commands of ``lorasub`` in processes that are forked from this one: nothing has to be imported again."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LOG = "command.log"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; the negative signal if one ended it.
        said: its standard output and error together.
        seconds: it took.
    """

    code: int
    said: str
    seconds: float


def run(words: Sequence[str], folder: Path, *, kill_after: Callable[[], float | None] | None = None) -> Ended:
    """Run one command to its end, or to a SIGKILL of its whole process group.

    Args:
        words: of the command line, after ``lorasub``.
        folder: the working folder; the command's output goes to :data:`LOG` in it.
        kill_after: asked again and again; when it returns a number, the group is killed so many seconds later.
    """
    started = time.perf_counter()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _become(words, folder)
    deadline = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        now = time.perf_counter()
        if deadline is None and kill_after is not None and (wait := kill_after()) is not None:
            deadline = now + wait
        if deadline is not None and now >= deadline:
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        time.sleep(0.005)
    said = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), said, time.perf_counter() - started)


def _become(words: Sequence[str], folder: Path) -> None:
    """Turn this process into the command; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        for number in (1, 2):
            os.dup2(log, number)
        os.chdir(folder)
        from lorasub.cli.main import main

        code = main(list(words))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)

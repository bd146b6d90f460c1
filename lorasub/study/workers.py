"""Where steps are done: in processes of this machine. Another place is another class with the same two methods."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from lorasub.errors import ConfigError, LorasubError
from lorasub.study.store import FAILURE_FILE, LOG_FILE


class StepError(LorasubError):
    """A step that failed; the message says why, and where its log is."""


class Workers(Protocol):
    """Does steps, several at once.

    Attributes:
        slots: how many.
    """

    slots: int

    def submit(self, folder: Path) -> Future[None]:
        """Begin the step that is described in a folder; the future has the error, if there is one."""
        ...

    def close(self) -> None:
        """Stop what is being done."""
        ...


class ProcessWorkers:
    """Every step in a process of its own, which ends when this one does, however that comes.

    So a step's memory and threads are its own, and its result does not depend on what was done before it.

    Args:
        jobs: steps at once. They share the cores evenly, and take the GPUs in turn.
        command: does the step whose folder is appended to it.
    """

    def __init__(
        self, jobs: int = 1, command: Sequence[str] = (sys.executable, "-m", "lorasub.study.execution")
    ) -> None:
        if jobs < 1:
            raise ConfigError(f"jobs must be at least 1, not {jobs}")
        self.slots = jobs
        self.command = tuple(command)
        self._pool = ThreadPoolExecutor(jobs)
        self._places: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(jobs):
            self._places.put(place)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def submit(self, folder: Path) -> Future[None]:
        """See :class:`Workers`."""
        return self._pool.submit(self._run, folder)

    def close(self) -> None:
        """See :class:`Workers`."""
        self._closed = True
        for process in list(self._running):
            process.kill()
        self._pool.shutdown(cancel_futures=True)

    def _run(self, folder: Path) -> None:
        place = self._places.get()
        try:
            with (folder / LOG_FILE).open("wb") as log:
                process = subprocess.Popen(
                    [*self.command, str(folder)],
                    stdin=subprocess.PIPE,  # never written to: its end tells the process that we have gone
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self._environment(place)},
                )
                self._running.add(process)
                if self._closed:
                    process.kill()
                code = process.wait()
                self._running.discard(process)
                assert process.stdin is not None
                process.stdin.close()
        finally:
            self._places.put(place)
        if code:
            raise StepError(_why(folder, code))

    def _environment(self, place: int) -> dict[str, str]:
        """Threads and GPU of one of the places, unless the user has said otherwise."""
        threads = str(max(1, (os.cpu_count() or 1) // self.slots))
        found = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), "MPLBACKEND": "Agg"}
        devices = _visible_gpus()
        if self.slots > 1 and devices:
            found["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
        return found


class ThisProcess:
    """Does steps here, one after the other: no process has to start, and a debugger sees everything.

    A kill ends the runner along with the step. The peak memory that a fit reports is that of all steps so far.
    """

    slots = 1

    def submit(self, folder: Path) -> Future[None]:
        """See :class:`Workers`."""
        from lorasub.study.execution import execute

        future: Future[None] = Future()
        try:
            execute(folder)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

    def close(self) -> None:
        """See :class:`Workers`."""


def _visible_gpus() -> list[str]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [device for device in given.split(",") if device]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def _why(folder: Path, code: int) -> str:
    told = folder / FAILURE_FILE
    if told.is_file():
        return f"{told.read_text(encoding='utf-8').strip()} (log: {folder / LOG_FILE})"
    by = f"signal {-code}, as by the system when memory is short" if code < 0 else f"exit code {code}"
    return f"its process ended with {by} (log: {folder / LOG_FILE})"

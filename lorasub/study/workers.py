"""Where steps are done: in processes of this machine. Another place is another class with the same two methods."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from lorasub.errors import ConfigError, LorasubError
from lorasub.study.store import FAILURE_FILE, LOG_FILE

#: Held while a process is started: the first start makes the one that forks, and two threads would make two.
_STARTING = threading.Lock()


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

    So a step's memory and threads are its own, and its result does not depend on what was done before it. The processes
    are forked from one that has imported everything already and has done nothing else: importing takes as long as a
    short step.

    Args:
        jobs: steps at once. They share the cores evenly, and take the GPUs in turn.
        do: does the step of a folder, and returns an exit code. A function that can be imported.
        preload: modules that are imported once.
    """

    def __init__(
        self,
        jobs: int = 1,
        do: Callable[[str], int] | None = None,
        preload: Sequence[str] = ("lorasub.study.execution", "lorasub.training"),
    ) -> None:
        if jobs < 1:
            raise ConfigError(f"jobs must be at least 1, not {jobs}")
        self.slots = jobs
        self._do = _execute if do is None else do
        self._pool = ThreadPoolExecutor(jobs)
        self._places: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(jobs):
            self._places.put(place)
        self._running: set[BaseProcess] = set()
        self._closed = False
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))

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
        # never written to: its end tells the process that we have gone
        theirs, ours = self._context.Pipe(duplex=False)
        try:
            environment = self._environment(place)
            process = self._context.Process(target=_in_own_process, args=(self._do, str(folder), environment, theirs))
            # Python does not hand our paths to the process that forks before 3.13
            paths = os.pathsep.join(path for path in sys.path if path)
            with _STARTING, _set({**environment, "PYTHONPATH": paths}):
                process.start()
            theirs.close()
            self._running.add(process)
            if self._closed:
                process.kill()
            process.join()
            self._running.discard(process)
        finally:
            ours.close()
            self._places.put(place)
        if process.exitcode:
            raise StepError(_why(folder, process.exitcode))

    def _environment(self, place: int) -> dict[str, str]:
        """Threads and GPU of one of the places, unless the user has said otherwise."""
        threads = str(max(1, (os.cpu_count() or 1) // self.slots))
        found = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), "MPLBACKEND": "Agg"}
        devices = _visible_gpus()
        if self.slots > 1 and devices:
            found["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
        return found


@contextlib.contextmanager
def _set(environment: dict[str, str]) -> Iterator[None]:
    """Within the block, this process has the environment: the one that forks is made by the first start, with ours."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _in_own_process(do: Callable[[str], int], folder: str, environment: dict[str, str], runner: Connection) -> None:
    """Do a step with its log in its folder, and end; at once when the runner has gone."""
    threading.Thread(target=_end_with, args=(runner,), daemon=True).start()
    log = os.open(Path(folder) / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number in (1, 2):
        os.dup2(log, number)
    os.environ.update(environment)
    if torch := sys.modules.get("torch"):  # loaded already, it does not look at the environment again
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    code = do(folder)
    sys.stdout.flush()
    sys.stderr.flush()
    # at once: an ordinary end would wait for the thread above, and that for the runner
    os._exit(code)


def _end_with(runner: Connection) -> None:
    """End this process when the other end of the pipe is closed, however the runner was killed."""
    with contextlib.suppress(EOFError, OSError):
        runner.recv_bytes()
    os._exit(1)


def _execute(folder: str) -> int:
    from lorasub.study.execution import main

    return main(folder)


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

"""Runs steps in processes of this machine, in this process, or on Ray (extra ``ray``)."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import torch

from lorasub.errors import ConfigError, LorasubError
from lorasub.study.artefacts import LOG_FILE
from lorasub.study.kinds import execute, main

#: What nearly every step needs; it is imported once.
PRELOAD = ("lorasub.study.kinds", "lorasub.training", "lorasub.callbacks")


class Workers(Protocol):
    """Runs steps, ``slots`` at once. What became of a step stands in its folder."""

    slots: int

    def submit(self, folder: Path) -> Future[None]:
        """Begins the step that is described in a folder; the future has an error that left no word there."""
        ...

    def close(self) -> None:
        """Stops what is being done."""
        ...


class ThisProcess:
    """Runs steps here, one after the other: a debugger sees everything, and a kill ends the runner with the step."""

    slots = 1

    def submit(self, folder: Path) -> Future[None]:
        """See :class:`Workers`."""
        future: Future[None] = Future()
        try:
            execute(folder)
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """See :class:`Workers`."""


class ProcessWorkers:
    """Runs every step in a process of its own, which ends when this one does, however that comes.

    So a step's memory and threads are its own, and one that the system kills takes no other with it, as it would in a
    ``ProcessPoolExecutor``. The processes are forked from one that has imported everything already: importing takes as
    long as a short step.

    Args:
        jobs: steps at once. They share the cores evenly, and take the GPUs in turn.
        do: does the step of a folder, and returns an exit code. A function that can be imported.
        preload: modules that are imported once.
    """

    def __init__(self, jobs: int = 1, do: Callable[[str], int] = main, preload: Sequence[str] = PRELOAD) -> None:
        if jobs < 1:
            raise ConfigError(f"jobs must be at least 1, not {jobs}")
        self.slots = jobs
        self._do = do
        self._pool = ThreadPoolExecutor(jobs)
        self._free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for environment in (environments := _environments(jobs)):
            self._free.put(environment)
        self._running: set[BaseProcess] = set()
        self._closed = False
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        # Python does not hand our paths to the process that forks before 3.13
        paths = os.pathsep.join(path for path in sys.path if path)
        with _environment({**environments[0], "PYTHONPATH": paths}):
            forkserver.ensure_running()

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
        environment = self._free.get()
        process = self._context.Process(target=_in_own_process, args=(self._do, str(folder), environment))
        process.start()
        self._running.add(process)
        if self._closed:
            process.kill()
        process.join()
        self._running.discard(process)
        self._free.put(environment)
        if code := process.exitcode:
            by = f"signal {-code}, as by the system when memory is short" if code < 0 else f"exit code {code}"
            raise LorasubError(f"its process ended with {by} (log: {folder / LOG_FILE})")


class RayWorkers:
    """Runs every step as a Ray task, in a process that is used for no other.

    The folder of the study has to be one that every node sees under the same path.

    Args:
        jobs: steps at once; Ray starts them as resources become free.
        address: of the cluster, such as ``auto`` or ``ray://head:10001``; None starts Ray on this machine, and ends it.
        cpus: that a step takes, which is also its number of threads.
        gpus: that a step takes; a fraction lets several share one.

    Raises:
        ConfigError: Ray is not installed, or a number is out of range.
    """

    def __init__(self, jobs: int = 1, address: str | None = None, cpus: int = 1, gpus: float = 0.0) -> None:
        if jobs < 1 or cpus < 1 or gpus < 0:
            raise ConfigError(f"jobs ({jobs}) and cpus ({cpus}) must be at least 1, gpus ({gpus}) at least 0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError("Ray is not installed: pip install 'lorasub[ray]'") from error
        self.slots = jobs
        self._ray = ray
        self._running: set[Any] = set()
        self._started = not ray.is_initialized()
        if self._started:
            options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        # a process of its own, begun again by the runner alone, which clears the step's folder
        remote = ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_calls=1,
            max_retries=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(cpus), "MPLBACKEND": "Agg"}},
        )
        self._do = remote(_logged)

    def submit(self, folder: Path) -> Future[None]:
        """See :class:`Workers`."""
        task = self._do.remote(main, str(folder.resolve()))
        self._running.add(task)
        future: Future[None] = task.future()
        future.add_done_callback(lambda done: self._running.discard(task))
        return future

    def close(self) -> None:
        """See :class:`Workers`."""
        for task in list(self._running):
            self._ray.cancel(task, force=True)
        if self._started:
            self._ray.shutdown()


def _environments(jobs: int) -> list[dict[str, str]]:
    """Threads and GPU of steps that run at once, unless the user has said otherwise."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = range(torch.cuda.device_count()) if given is None else [each for each in given.split(",") if each]
    found = [{"OMP_NUM_THREADS": threads, "MPLBACKEND": "Agg"} for _ in range(jobs)]
    for place, environment in enumerate(found):
        if jobs > 1 and devices:
            environment["CUDA_VISIBLE_DEVICES"] = str(devices[place % len(devices)])
    return found


@contextlib.contextmanager
def _environment(changed: Mapping[str, str]) -> Iterator[None]:
    """Within the block, this process has an environment, which the process that forks inherits."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _in_own_process(do: Callable[[str], int], folder: str, environment: dict[str, str]) -> None:
    """Runs a step with its log in its folder, and ends; at once when the runner has gone."""
    threading.Thread(target=_end_with_runner, daemon=True).start()
    os.environ.update(environment)
    # torch is loaded already and does not look at the environment again
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    code = _logged(do, folder)
    sys.stdout.flush()
    sys.stderr.flush()
    # at once: an ordinary end would wait for threads that the step has left
    os._exit(code)


def _end_with_runner() -> None:
    """Ends this process when the one that started it has gone, however it was killed."""
    if (runner := multiprocessing.parent_process()) is not None:
        runner.join()
    os._exit(1)


def _logged(do: Callable[[str], int], folder: str) -> int:
    """Runs a step in this process, which ends after it; what it prints goes into its folder."""
    log = os.open(Path(folder) / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number in (1, 2):
        os.dup2(log, number)
    return do(folder)

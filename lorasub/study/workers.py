"""Runs steps from their folders: in processes of this machine, in this process, or on Ray (extra ``ray``)."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter

from lorasub._version import __version__
from lorasub.errors import ConfigError, LorasubError
from lorasub.files import read_json, write_json
from lorasub.study.artefacts import FAILURE_FILE, LOG_FILE, RECORD_FILE, STEP_FILE, Workplace
from lorasub.study.steps import KINDS
from lorasub.study.store import Record, machine

#: What nearly every step needs; it is imported once, by the process that all others are forked from.
_PRELOAD = ["lorasub.study.workers", "lorasub.training", "lorasub.callbacks"]


def execute(folder: Path) -> None:
    """Runs the step that is described in a folder, and writes its record last."""
    folder = folder.resolve()
    step = read_json(folder / STEP_FILE)
    function = KINDS[step["kind"]].function
    spec = TypeAdapter(get_type_hints(function)["spec"]).validate_json(json.dumps(step["spec"]))
    started = time.perf_counter()
    measured = function(spec, Workplace(folder=folder, root=folder.parents[2]))
    record = Record(
        **{name: step[name] for name in ("key", "name", "work")},
        seconds=time.perf_counter() - started,
        finished=time.time(),
        measured=measured,
        machine=machine(),
        version=__version__,
    )
    write_json(folder / RECORD_FILE, record)


class Workers:
    """Runs steps in this process, one after the other: a debugger sees everything, and a kill ends the runner, too.

    Other workers are subclasses. What became of a step stands in its folder.

    Args:
        slots: steps that the runner may begin before others have ended.
        do: does the step of a folder. A function that can be imported.
    """

    def __init__(self, slots: int = 1, do: Callable[[Path], None] = execute) -> None:
        if slots < 1:
            raise ConfigError(f"jobs must be at least 1, not {slots}")
        self.slots, self.do = slots, do

    def submit(self, folder: Path) -> Future[None]:
        """Begins the step that is described in a folder; the future has an error that left no word there."""
        _attempt(self.do, folder)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def close(self) -> None:
        """Stops what is being done."""


class ProcessWorkers(Workers):
    """Runs every step in a process of its own, which ends when this one does, however that comes.

    So a step's memory and threads are its own, and one that the system kills takes no other with it, as it would in a
    ``ProcessPoolExecutor``. The processes are forked from one that has imported everything already: importing takes as
    long as a short step.

    Args:
        jobs: steps at once. They share the cores evenly, unless ``OMP_NUM_THREADS`` says otherwise, and the GPUs.
        do: see :class:`Workers`.
    """

    def __init__(self, jobs: int = 1, do: Callable[[Path], None] = execute) -> None:
        super().__init__(jobs, do)
        self._threads = ThreadPoolExecutor(jobs)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        # a pipe that nobody writes to: processes end when this end of it closes, as it does when we are killed
        self._ends, self._held = self._context.Pipe(duplex=False)
        self._free: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // jobs))
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        for gpu in itertools.islice(itertools.cycle(gpus.split(",") if jobs > 1 else [gpus]), jobs):
            self._free.put({"OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": gpu})

    def submit(self, folder: Path) -> Future[None]:
        """See :class:`Workers`."""
        return self._threads.submit(self._run, folder)

    def close(self) -> None:
        """See :class:`Workers`."""
        self._held.close()
        self._threads.shutdown(cancel_futures=True)

    def _run(self, folder: Path) -> None:
        environment = self._free.get()
        process = self._context.Process(target=_in_own_process, args=(self.do, folder, environment, self._ends))
        process.start()
        process.join()
        self._free.put(environment)
        if code := process.exitcode:
            by = f"signal {-code}, as by the system when memory is short" if code < 0 else f"exit code {code}"
            raise LorasubError(f"its process ended with {by} (log: {folder / LOG_FILE})")


class RayWorkers(Workers):
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
        super().__init__(jobs)
        if cpus < 1 or gpus < 0:
            raise ConfigError(f"cpus ({cpus}) must be at least 1, gpus ({gpus}) at least 0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError("Ray is not installed: pip install 'lorasub[ray]'") from error
        self._ray = ray
        self._tasks: list[Any] = []
        self._started = not ray.is_initialized()
        options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR", **options)
        # a process of its own, begun again by the runner alone, which clears the step's folder
        self._remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=0)(_in_a_log)

    def submit(self, folder: Path) -> Future[None]:
        """See :class:`Workers`."""
        self._tasks.append(self._remote.remote(self.do, folder.resolve()))
        future: Future[None] = self._tasks[-1].future()
        return future

    def close(self) -> None:
        """See :class:`Workers`."""
        for task in self._tasks:
            self._ray.cancel(task, force=True)
        if self._started:
            self._ray.shutdown()


def _in_own_process(do: Callable[[Path], None], folder: Path, environment: dict[str, str], ends: Connection) -> None:
    """Runs a step, and ends; at once when the runner closes the pipe or has gone, however it was killed."""
    threading.Thread(target=_end_with, args=(ends,), daemon=True).start()
    os.environ.update(environment)
    # torch is loaded already and does not look at the environment again
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    _in_a_log(do, folder)
    sys.stdout.flush()
    # at once: an ordinary end would wait for threads that the step has left
    os._exit(0)


def _end_with(pipe: Connection) -> None:
    pipe.poll(None)
    os._exit(1)


def _in_a_log(do: Callable[[Path], None], folder: Path) -> None:
    """Runs a step in this process, which ends after it; what it prints goes into its folder."""
    log = os.open(folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number in (1, 2):
        os.dup2(log, number)
    _attempt(do, folder)


def _attempt(do: Callable[[Path], None], folder: Path) -> None:
    """Runs a step, and leaves in its folder why it failed."""
    try:
        do(folder)
    except (Exception, SystemExit) as error:  # a parser of settings exits
        traceback.print_exc()
        told = str(error) if isinstance(error, LorasubError) else f"{type(error).__name__}: {error}; the log says more"
        (folder / FAILURE_FILE).write_text(told, encoding="utf-8")

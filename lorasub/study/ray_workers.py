"""Where steps are done: on a Ray cluster, or Ray on this machine (extra ``ray``).

The plan, the store and the steps are the same as with processes of this machine; only the place differs. The folder of
the study has to be one that every node sees under the same path.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from lorasub.errors import ConfigError
from lorasub.study.store import FAILURE_FILE, LOG_FILE
from lorasub.study.workers import StepError


class RayWorkers:
    """Every step as a Ray task, in a process that is used for no other.

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
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        environment = {"OMP_NUM_THREADS": str(cpus), "MPLBACKEND": "Agg"}
        self._do = ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_calls=1,  # a process of its own: memory, threads and random numbers are nobody else's
            max_retries=0,  # a step is begun again by the runner, which clears its folder
            runtime_env={"env_vars": environment},
        )(_do_step)

    def submit(self, folder: Path) -> Future[None]:
        """See :class:`lorasub.study.workers.Workers`."""
        task = self._do.remote(str(folder.resolve()))
        self._running.add(task)
        found: Future[str] = task.future()
        result: Future[None] = Future()

        def end(done: Future[str]) -> None:
            self._running.discard(task)
            error = done.exception()
            told = str(error) if error is not None else done.result()
            if told:
                result.set_exception(StepError(f"{told} (log: {folder / LOG_FILE})"))
            else:
                result.set_result(None)

        found.add_done_callback(end)
        return result

    def close(self) -> None:
        """See :class:`lorasub.study.workers.Workers`."""
        for task in list(self._running):
            self._ray.cancel(task, force=True)
        if self._started:
            self._ray.shutdown()


def _do_step(folder: str) -> str:
    """Do a step in this process with its log in its folder; why it failed, or an empty text."""
    from lorasub.study.execution import main

    log = os.open(Path(folder) / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(log, number)
        code = main(folder)
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
    return (Path(folder) / FAILURE_FILE).read_text(encoding="utf-8").strip() if code else ""

"""The runner, on steps that only pretend: order, failures, retries, budget, and what a kill costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import fake_steps
import pytest

from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_json, write_json
from lorasub.study import Graph, Progress, Record, Step, Store, Workers, run_graph
from lorasub.study.runner import estimated_seconds


class ThreadWorkers(Workers):
    """Calls a function for every step; it may raise."""

    def __init__(self, do: Callable[[str], None], slots: int = 1) -> None:
        super().__init__(slots)
        self.called, self.pool = do, ThreadPoolExecutor(slots)

    def submit(self, folder: Path) -> Future[None]:
        def work() -> None:
            content = read_json(folder / "step.json")
            for needed in content["spec"]["inputs"]:
                assert (folder.parents[2] / "steps/mine" / needed["key"][:16] / "record.json").is_file()
            self.called(content["name"])
            record = Record(key=content["key"], name=content["name"], seconds=2.0, work=content["work"], finished=0.0)
            write_json(folder / "record.json", record)

        return self.pool.submit(work)

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def graph_of(**needs: str) -> Graph:
    """Steps by name, each with the names of what it needs."""
    graph, keys = Graph(), {}
    for name, inputs in needs.items():
        spec = fake_steps.Fake(place="", name=name, inputs=tuple(keys[each] for each in inputs.split()))
        keys[name] = graph.add(Step(kind="mine", name=name, spec=spec, work=2.0))
    return graph


def names(graph: Graph, keys: set[str]) -> set[str]:
    return {graph[key].name for key in keys}


DIAMOND = {"a": "", "b": "a", "c": "a", "d": "b c", "lonely": ""}


def test_each_step_is_done_once_and_after_what_it_needs(tmp_path: Path) -> None:
    graph, done = graph_of(**DIAMOND), []
    outcome = run_graph(graph, Store(tmp_path), ThreadWorkers(done.append, slots=3))
    assert sorted(done) == sorted(DIAMOND)
    assert done.index("d") > max(done.index("b"), done.index("c"))
    assert outcome.done == graph.keys()
    assert (outcome.failed, outcome.left_out) == ({}, set())

    again: list[str] = []
    run_graph(graph, Store(tmp_path), ThreadWorkers(again.append))
    assert again == []


def test_independent_steps_are_done_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=20)  # is passed by three at once or by nobody
    outcome = run_graph(
        graph_of(a="", b="", c=""), Store(tmp_path), ThreadWorkers(lambda name: together.wait() and None, slots=3)
    )
    assert not outcome.failed


def test_what_fails_once_is_done_again(tmp_path: Path) -> None:
    tries: list[str] = []

    def do(name: str) -> None:
        tries.append(name)
        if name == "b" and tries.count("b") == 1:
            raise OSError("the disk was full")

    told: list[Progress] = []
    graph = graph_of(**DIAMOND)
    outcome = run_graph(graph, Store(tmp_path), ThreadWorkers(do), report=told.append)
    assert outcome.done == graph.keys()
    assert tries.count("b") == 2
    assert [(p.step.name, p.error) for p in told if p.event == "again"] == [("b", "the disk was full")]


def test_what_fails_twice_takes_only_its_descendants_down(tmp_path: Path) -> None:
    tries: list[str] = []

    def do(name: str) -> None:
        tries.append(name)
        if name == "b":
            raise OSError("no luck")

    graph = graph_of(**DIAMOND)
    outcome = run_graph(graph, Store(tmp_path), ThreadWorkers(do))
    assert tries.count("b") == 2
    assert names(graph, set(outcome.failed)) == {"b"}
    assert list(outcome.failed.values()) == ["no luck"]
    assert names(graph, outcome.left_out) == {"d"}
    assert names(graph, outcome.done) == {"a", "c", "lonely"}


def test_a_step_that_leaves_no_record_has_failed(tmp_path: Path) -> None:
    workers = ThreadWorkers(lambda name: None)
    workers.submit = lambda folder: workers.pool.submit(lambda: None)  # type: ignore[method-assign]
    outcome = run_graph(graph_of(a=""), Store(tmp_path), workers)
    assert "without a record" in next(iter(outcome.failed.values()))


def test_no_step_begins_when_the_time_is_up(tmp_path: Path) -> None:
    graph = graph_of(a="", b="a", c="b")
    outcome = run_graph(graph, Store(tmp_path), ThreadWorkers(lambda name: time.sleep(0.3)), budget_hours=0.2 / 3600)
    assert outcome.out_of_time
    assert names(graph, outcome.done) == {"a"}
    assert names(graph, outcome.left_out) == {"b", "c"}


def test_time_left_comes_from_finished_steps_of_the_kind(tmp_path: Path) -> None:
    store, graph = Store(tmp_path), graph_of(a="", b="")
    told: list[Progress] = []
    run_graph(graph, store, ThreadWorkers(lambda name: None), report=told.append)
    assert store.timings() == {"mine": 1.0}  # 2 seconds for 2 units
    assert told[-1].seconds_left == 0
    assert next(p for p in told if p.event == "done").seconds_left == pytest.approx(2.0)
    tune = Step(kind="finetune", name="t", spec=fake_steps.Fake(place="", name="t"), work=100)
    assert estimated_seconds([*graph.values(), tune], store.timings()) == pytest.approx(2 * 2 + 100 * 0.5)


def test_a_record_of_something_else_is_not_taken(tmp_path: Path) -> None:
    store, graph = Store(tmp_path), graph_of(a="", b="")
    run_graph(graph, store, ThreadWorkers(lambda name: None))
    first, second = (store.folder(step) / "record.json" for step in graph.values())
    first.write_bytes(second.read_bytes())
    with pytest.raises(ArtefactError, match="another step"):
        store.record(next(iter(graph.values())))


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with Store(tmp_path).lock(), pytest.raises(ConfigError, match="another study"):
        run_graph(graph_of(a=""), Store(tmp_path), ThreadWorkers(lambda name: None))


def test_a_process_that_fails_tells_why(tmp_path: Path) -> None:
    graph = Graph()
    graph.add(fake_steps.fake_step("a", tmp_path, fails=True))
    outcome = run_graph(graph, Store(tmp_path / "study"), fake_steps.workers())
    (told,) = outcome.failed.values()
    assert told.startswith("no luck (log: ")
    assert (tmp_path / "diary").read_text().split() == ["a", "a"]


def test_a_step_that_the_system_kills_takes_no_other_with_it(tmp_path: Path) -> None:
    store, graph = Store(tmp_path / "study"), Graph()
    for name in "ab":
        graph.add(fake_steps.fake_step(name, tmp_path, waits=True))
    pids = [store.folder(step) / "pid" for step in graph.values()]

    def kill_the_first() -> None:
        _until(lambda: all(pid.is_file() and pid.read_text() for pid in pids))
        os.kill(int(pids[0].read_text()), signal.SIGKILL)
        (tmp_path / "gate").touch()

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    outcome = run_graph(graph, store, fake_steps.workers(2), retries=0)
    killer.join()
    (told,) = outcome.failed.values()
    assert told == f"its process ended with signal 9, as by the system when memory is short (log: {_log(pids[0])})"
    assert names(graph, outcome.done) == {"b"}


def _log(pid: Path) -> Path:
    return pid.with_name("log.txt")


def test_processes_share_cores_and_gpus_and_write_their_own_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    store, graph = Store(tmp_path / "study"), Graph()
    for name in "ab":
        graph.add(fake_steps.fake_step(name, tmp_path, waits=True))
    pids = [store.folder(step) / "pid" for step in graph.values()]

    def open_the_gate() -> None:
        _until(lambda: all(pid.is_file() and pid.read_text() for pid in pids))  # both at once
        (tmp_path / "gate").touch()

    opener = threading.Thread(target=open_the_gate)
    opener.start()
    outcome = run_graph(graph, store, fake_steps.workers(2))
    opener.join()
    assert outcome.done == graph.keys()
    assert len({pid.read_text() for pid in pids}) == 2
    logs = {(store.folder(step) / "log.txt").read_text() for step in graph.values()}
    assert logs == {"threads 3, GPU 4\n", "threads 3, GPU 7\n"}
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_killed_run_goes_on_and_repeats_only_what_was_being_done(tmp_path: Path) -> None:
    graph, store = fake_steps.chain(tmp_path), Store(tmp_path / "study")
    first = multiprocessing.get_context("spawn").Process(target=fake_steps.run_chain, args=(tmp_path,), daemon=False)
    first.start()
    pid = store.folder(list(graph.values())[2]) / "pid"
    _until(lambda: pid.is_file() and bool(pid.read_text()))
    with pytest.raises(ConfigError, match="another study"):
        fake_steps.run_chain(tmp_path)
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    _until(lambda: _ended(pid.read_text()))  # the step does not outlive its runner
    (tmp_path / "gate").touch()
    assert fake_steps.run_chain(tmp_path).done == graph.keys()
    assert (tmp_path / "diary").read_text().split() == ["one", "two", "three", "three", "four"]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _ended(pid: str) -> bool:
    """Gone, or a zombie that nobody has collected."""
    state = Path("/proc", pid, "stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"

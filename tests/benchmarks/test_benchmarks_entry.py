"""The one entry to the benchmarks, and how they time and report."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from benchmarks import __main__ as entry
from benchmarks import report
from lorasub.files import read_json


def test_every_script_is_in_the_entry_and_can_be_run(repository: Path, capsys: pytest.CaptureFixture) -> None:
    scripts = {path.stem for path in (repository / "benchmarks").glob("*.py")} - {
        "__main__",
        "report",
        "forked",
        "damaged_inputs",
        "models",
    }
    modules = {module.rpartition(".")[2] for module, _ in entry.BENCHMARKS.values()}
    assert modules == scripts
    for module, _ in entry.BENCHMARKS.values():
        assert callable(importlib.import_module(module).main), module
    assert entry.main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in entry.BENCHMARKS)
    assert entry.main(["nonsense"]) == 2
    assert "no benchmark 'nonsense'" in capsys.readouterr().err


def test_rounds_are_interleaved_there_and_back() -> None:
    order: list[str] = []
    cases = {name: (lambda name=name: order.append(name)) for name in "abc"}
    seconds = report.interleaved(cases, rounds=3, warmup=1)
    assert "".join(order[3:]) == "abc" + "cba" + "abc"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_ratios_are_taken_round_by_round() -> None:
    """A round in which everything is ten times slower changes nothing."""
    found = report.ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0])
    assert (found["median"], found["count"]) == (2.0, 3)
    assert found["quartile_1"] == 2.0
    assert found["quartile_3"] == 2.5
    assert report.spread(found) == "2 (2 to 2.5)"
    assert report.summary([4.0])["median"] == 4.0


def test_results_say_where_when_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["python -m benchmarks mining", "--blocks", "4"])
    report.write_report(tmp_path / "out.json", "mining", {"rows": [1]})
    report.write_report(None, "mining", {"rows": [2]})
    written = read_json(tmp_path / "out.json")
    assert written["command"] == "python -m benchmarks mining --blocks 4"
    assert written["results"] == {"rows": [1]}
    assert {"cores", "torch", "threads", "load", "processor"} <= set(written["machine"])
    assert written["date"].endswith("+00:00")

"""Fits of this folder leave no figures: they look at what is trained, and drawing would take longer than that."""

from __future__ import annotations

import pytest

from lorasub import run_callbacks


@pytest.fixture(autouse=True)
def _no_callbacks_of_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_callbacks, "_makers", [])

"""Fixtures of the tests of data."""

from __future__ import annotations

import pytest
from plane_world import PlaneWorld


@pytest.fixture
def world() -> PlaneWorld:
    return PlaneWorld()

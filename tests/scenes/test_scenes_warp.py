"""Warp as the only renderer: its first use on a machine, quietly and without a network; configs from before."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lorasub.data import SyntheticScenes

FIRST_USE = textwrap.dedent("""
    import os, socket

    def refuse(*arguments, **options):
        raise AssertionError("the network was used")

    socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
    os.write(2, b"before\\n")
    from lorasub.scenes.presets import SceneSampler
    from lorasub.scenes.rendering.renderer import Renderer

    seen = Renderer((16, 16)).render(SceneSampler(attribute="all", num_views=1).sample([0]))
    assert seen.valid.any()
    print("rendered")
""")


def test_first_use_compiles_quietly_and_without_a_network(tmp_path: Path) -> None:
    """A process of its own, whose kernels are compiled anew; Clang, Warp and its C library have nothing to say."""
    code = Path(__file__).parents[2]
    environment = {**os.environ, "WARP_CACHE_PATH": str(tmp_path), "PYTHONPATH": str(code), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "rendered\n"
    assert done.stderr == "before\n"
    assert any(tmp_path.rglob("*.o")), "nothing was compiled: the test did not see a first use"


def test_configs_that_name_an_engine_still_work(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lorasub"):
        SyntheticScenes(engine="torch", image_size=28)
    assert "engine: torch is ignored" in caplog.text

"""Which engine renders."""

from __future__ import annotations

import functools
import importlib.util
import logging
from typing import Literal, get_args

from lorasub.errors import ConfigError

_logger = logging.getLogger(__name__)
EngineName = Literal["auto", "warp", "torch"]


def choose_engine(name: EngineName) -> Literal["warp", "torch"]:
    """The engine to use for a name in a configuration.

    Raises:
        ConfigError: an unknown engine, or Warp is asked for and not installed.
    """
    if name not in get_args(EngineName):
        raise ConfigError(f"unknown rendering engine '{name}'; choose from {list(get_args(EngineName))}")
    found = importlib.util.find_spec("warp") is not None
    if name == "warp" and not found:
        raise ConfigError("the rendering engine 'warp' needs NVIDIA Warp: pip install 'lorasub[warp]'")
    if name == "torch" or not found:
        if name == "auto":
            _advise()
        return "torch"
    return "warp"


@functools.cache
def _advise() -> None:
    _logger.info("scenes are rendered by torch; pip install 'lorasub[warp]' makes that some eight times faster")

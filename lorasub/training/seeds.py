"""From which random numbers adapters start: each from those of its own data, also when several are fitted at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace


def mixed_seed(seed: int, data: Any) -> int:
    """A seed that depends on which data is trained on: 32 bits of SHA-256 over the seed and the data's settings.

    How the data is loaded does not count (workers, batch size), so that a run can be repeated on another machine.
    """
    settings = data.get("init_args", {}) if isinstance(data, Mapping) else {}
    identity = {key: value for key, value in settings.items() if key not in ("num_workers", "batch_size", "cache")}
    text = json.dumps([seed, identity], sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def give_bank_seeds(model: Namespace, seed: int, data: Any) -> None:
    """Let each adapter of a bank start as it would in a fit of its own; nothing is done about other adapters.

    Args:
        model: the task's settings as parsed. A LoRABank in it that has no seeds is given those of the data's members.
        seed: of the run.
        data: the data module's settings in plain values.
    """
    adapter = (model.get("init_args") or {}).get("adapter")
    if isinstance(adapter, list) and len(adapter) == 1:
        adapter = adapter[0]
    members = data["init_args"].get("members") if isinstance(data, Mapping) and "init_args" in data else None
    if not members or not isinstance(adapter, Namespace) or not adapter.class_path.endswith("LoRABank"):
        return
    if adapter.init_args.seeds is None:
        adapter.init_args.seeds = [mixed_seed(seed, member) for member in members]

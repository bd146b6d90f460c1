"""Stateless randomness: every number is a pure function of names and indices, whoever asks, in whatever order.

A key such as ``(seed, "texture", 3, "scene", 41)`` is hashed to 128 bits, which are the key of a Philox counter
generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): neighbouring keys give independent
streams.
"""

from __future__ import annotations

import hashlib

import numpy as np

Key = tuple[int | str, ...]


def hash_key(*key: int | str) -> int:
    """A 128-bit number that depends on every part of the key, the same on every machine and Python."""
    # repr tells 1 from "1", and the tuple's commas tell ("a", "b") from ("ab",)
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=16).digest(), "little")


def uniforms(key: Key, count: int) -> np.ndarray:
    """``[count]`` float64 numbers in [0, 1): the first ones of the stream that belongs to the key."""
    return np.random.Generator(np.random.Philox(key=hash_key(*key))).random(count)

"""Keyed, stateless random streams: every number is a pure function of names and indices, in whatever order they come.

A key such as ``(seed, "texture", 3, "scene", 41)`` is hashed to 128 bits, which are the key of a Philox counter
generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): neighbouring keys give independent
streams, on every machine, worker and rank the same. Nothing here touches the global random state.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch

#: The golden ratio's fraction. Its multiples, modulo 1, fill the unit interval as evenly as any sequence can, however
#: many are taken (Knuth, TAOCP 3, section 6.4).
GOLDEN = (5**0.5 - 1) / 2

#: What names a stream: seeds, words and indices. ``1`` and ``"1"`` are different keys.
Key = tuple[int | str, ...]


def hash_key(*key: int | str) -> int:
    """Returns 128 bits that depend on the whole key and on nothing else."""
    # repr tells 1 from "1", and the tuple's commas tell ("a", "b") from ("ab",)
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=16).digest(), "little")


def seed_of(*key: int | str) -> int:
    """Returns a seed in [0, 2^63), as :func:`torch.manual_seed` takes it."""
    return hash_key(*key) % 2**63


def generator(*key: int | str) -> np.random.Generator:
    """Returns numpy's generator of a key."""
    return np.random.Generator(np.random.Philox(key=hash_key(*key)))


def torch_generator(*key: int | str) -> torch.Generator:
    """Returns torch's generator of a key, on the CPU: other devices would give other numbers."""
    return torch.Generator().manual_seed(seed_of(*key))


def uniforms(key: Key, count: int) -> npt.NDArray[np.float64]:
    """Returns the first ``count`` numbers in [0, 1) of a key's stream."""
    return generator(*key).random(count)


def subspace_generator(seed: int, *keys: object) -> np.random.Generator:
    """Returns the generator of random bases and of nulls.

    It hashes in another way than :func:`generator`. It is kept as it is, because random bases are made again from
    their seeds, and published nulls were drawn from it.
    """
    digest = hashlib.sha256("|".join(map(str, (seed, *keys))).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32).tolist())

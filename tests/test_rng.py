"""Random streams: the same everywhere, independent of each other, and without influence on the global state."""

from __future__ import annotations

import numpy as np
import torch

from lorasub.rng import generator, hash_key, seed_of, subspace_generator, torch_generator, uniforms


def test_keys_are_hashed_the_same_everywhere() -> None:
    # fixed values: a change would silently change every data set and every random basis
    assert hash_key(0, "geometry", 3) == 0x25411375EFE72EB49D747FF304A8ACC9
    assert len({hash_key(1, "a"), hash_key("1", "a"), hash_key(1, "b"), hash_key("1a"), hash_key(1)}) == 5
    assert subspace_generator(0, "random basis", "blocks.0").integers(2**62) == 4150897888332453449


def test_every_generator_of_a_key_begins_anew_and_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    assert np.array_equal(generator(1, "a").random(5), uniforms((1, "a"), 5))
    first, second = (torch.rand(5, generator=torch_generator(1, "a")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 <= seed_of(1, "a") < 2**63


def test_streams_of_neighbouring_keys_are_uncorrelated() -> None:
    drawn = np.stack([uniforms((index, "x"), 4000) for index in range(8)])
    correlation = np.corrcoef(drawn) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)

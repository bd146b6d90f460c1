"""Shuffled labels: likeness against dense matrices, planted attributes are found, and chance is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from planted import dense, frame, planted, random_update

from lorasub.errors import ConfigError
from lorasub.subspaces import LowRankUpdate, attribute_separation

PATHS = ("aggregator.frame_blocks.0.attn.qkv", "aggregator.global_blocks.0.mlp.fc1")


def rv(one: np.ndarray, other: np.ndarray) -> float:
    """The formula on dense matrices, output side."""
    first, second = one @ one.T, other @ other.T
    return float(np.trace(first @ second) / np.linalg.norm(first) / np.linalg.norm(second))


def attributes(seed: int, *, count: int = 4, shared: float = 1.0) -> dict[str, list[dict[str, LowRankUpdate]]]:
    """Three attributes with a direction of their own each, of some strength."""
    return {
        f"attribute {a}": [
            {
                path: planted(
                    frame(40, 1, 97 * seed + 10 * a + p),
                    [shared],
                    frame(30, 1, 97 * seed + 10 * a + p + 5),
                    noise=0.6,
                    rank=3,
                    seed=100_000 + 1000 * seed + 100 * a + 10 * p + k,
                )
                for p, path in enumerate(PATHS)
            }
            for k in range(count)
        ]
        for a in range(3)
    }


def test_likeness_is_that_of_the_dense_matrices() -> None:
    adapters = {
        "a": [{"w": random_update(20, 15, r, seed, scale=0.5)} for seed, r in ((0, 2), (1, 4))],
        "b": [{"w": random_update(20, 15, 3, seed)} for seed in (2, 3)],
    }
    updates = [dense(member["w"]) for group in adapters.values() for member in group]
    found = {row.side: row for row in attribute_separation(adapters, permutations=20) if row.layers == "all"}
    for side, matrices in (("output", updates), ("input", [update.T for update in updates])):
        alike = {pair: rv(matrices[pair[0]], matrices[pair[1]]) for pair in itertools.combinations(range(4), 2)}
        within, between = [alike.pop((0, 1)), alike.pop((2, 3))], list(alike.values())
        # subspaces are kept in float32
        assert found[side].within == pytest.approx(np.mean(within), abs=1e-6)  # type: ignore[index]
        assert found[side].between == pytest.approx(np.mean(between), abs=1e-6)  # type: ignore[index]


def test_planted_attributes_are_found_in_every_kind_of_layer() -> None:
    rows = attribute_separation(attributes(0))
    assert [(row.side, row.layers) for row in rows] == [
        *(("output", kind) for kind in ("all", "frame_blocks qkv", "global_blocks fc1")),
        *(("input", kind) for kind in ("all", "frame_blocks qkv", "global_blocks fc1")),
    ]
    for row in rows:
        assert row.within > row.between + 0.2
        assert row.p < 0.005


def test_signs_do_not_matter() -> None:
    groups = attributes(1)
    flipped = {
        name: [
            {path: LowRankUpdate(update.B * (-1) ** k, update.A, 3.0 * update.scale) for path, update in member.items()}
            for k, member in enumerate(group)
        ]
        for name, group in groups.items()
    }
    for row, other in zip(attribute_separation(groups), attribute_separation(flipped), strict=True):
        assert (row.within, row.between) == pytest.approx((other.within, other.between), rel=1e-5)


def test_chance_is_called_clear_as_often_as_it_may() -> None:
    tests = [attribute_separation(attributes(seed, shared=0.0), permutations=199)[0].p for seed in range(80)]
    # at a level of 5 % four of 80 are expected; eleven or more have a chance of 0.2 %
    assert sum(p <= 0.05 for p in tests) < 11
    assert 0.35 < np.mean(tests) < 0.65


def test_layers_that_did_not_change_are_alike_to_none() -> None:
    groups = attributes(2, count=2)
    for member in groups["attribute 0"]:
        member[PATHS[0]] = random_update(40, 30, 3, 0, scale=0.0)
    rows = {row.layers: row for row in attribute_separation(groups) if row.side == "output"}
    assert np.isfinite([rows["frame_blocks qkv"].within, rows["frame_blocks qkv"].p]).all()
    assert rows["frame_blocks qkv"].within < rows["global_blocks fc1"].within


def test_bad_input() -> None:
    groups = attributes(3, count=2)
    with pytest.raises(ConfigError, match=r"two attributes and two adapters of one, not \{'attribute 0': 2\}"):
        attribute_separation({"attribute 0": groups["attribute 0"]})
    with pytest.raises(ConfigError, match="two adapters of one"):
        attribute_separation({name: group[:1] for name, group in groups.items()})
    del groups["attribute 1"][0][PATHS[0]]
    with pytest.raises(ConfigError, match="do not have the same layers"):
        attribute_separation(groups)

"""Whether sets of scenes pull alike: cosines against a direct computation, p-values against a count by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lorasub.errors import ConfigError
from lorasub.subspaces.gradients import Halves, label_test, pull_cosines

SHAPES = {"a": (6, 4), "b": (3, 5)}


def noisy(direction: dict[str, torch.Tensor], noise: float, generator: torch.Generator) -> Halves:
    def half() -> dict[str, torch.Tensor]:
        return {
            name: value / value.norm() + noise * torch.randn(value.shape, generator=generator)
            for name, value in direction.items()
        }

    return half(), half()


def direction(generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {name: torch.randn(*shape, generator=generator) for name, shape in SHAPES.items()}


def test_cosines_are_those_of_pairs_of_halves() -> None:
    generator = torch.Generator().manual_seed(0)
    sets = [noisy(direction(generator), 0.3, generator) for _ in range(3)]
    found = pull_cosines(sets)

    def cosine(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
        each = [torch.cosine_similarity(one[name].flatten(), two[name].flatten(), dim=0) for name in SHAPES]
        return float(torch.stack(each).mean())

    for i, j in itertools.product(range(3), repeat=2):
        pairs = [(sets[i][0], sets[i][1])] if i == j else list(itertools.product(sets[i], sets[j]))
        assert found[i, j] == pytest.approx(np.mean([cosine(dict(a), dict(b)) for a, b in pairs]), abs=1e-6)


def test_a_layer_that_is_not_pulled_does_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    still, other = ({"a": torch.randn(2, 2, generator=generator), "b": torch.zeros(2, 2)} for _ in range(2))
    found = pull_cosines([(still, still), (other, other)])
    expected = torch.cosine_similarity(still["a"].flatten(), other["a"].flatten(), dim=0)
    assert found[0, 1] == pytest.approx(float(expected), abs=1e-6)


def test_p_is_the_share_of_choices_that_set_themselves_apart_as_far() -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform(-1, 1, (7, 7))
    cosines = (values + values.T) / 2
    own, others = [1, 4, 6], [0, 2, 5]
    found = label_test(cosines, own, others)

    def apart(chosen: tuple[int, ...]) -> float:
        rest = [each for each in [*own, *others] if each not in chosen]
        within = [cosines[i, j] for i, j in itertools.combinations(chosen, 2)]
        return float(np.mean(within) - np.mean([cosines[i, j] for i in chosen for j in rest]))

    choices = list(itertools.combinations([*own, *others], 3))
    assert found.choices == len(choices) == 20
    assert found.p == pytest.approx(np.mean([apart(each) >= apart((1, 4, 6)) - 1e-12 for each in choices]))
    assert found.own - found.other == pytest.approx(apart((1, 4, 6)))


def test_a_planted_direction_is_found_and_labels_without_one_are_not() -> None:
    generator = torch.Generator().manual_seed(1)
    common, own = direction(generator), direction(generator)
    planted = {name: common[name] + 0.7 * own[name] for name in SHAPES}
    sets = [noisy(planted, 0.1, generator) for _ in range(4)] + [noisy(common, 0.1, generator) for _ in range(8)]
    cosines = pull_cosines(sets)
    assert label_test(cosines, range(4), range(4, 12)).p == pytest.approx(1 / 495)
    assert cosines.min() > 0.3  # sets of all labels agree, as they do in networks: that is not what is tested

    false = []
    for _ in range(200):
        same = pull_cosines([noisy(common, 0.3, generator) for _ in range(9)])
        false.append(label_test(same, range(3), range(3, 9)).p <= 0.05)
    assert np.mean(false) < 0.11  # 5 % expected; 0.11 is four standard deviations above


def test_more_choices_than_can_be_tried_are_drawn() -> None:
    cosines = np.full((30, 30), 0.1)
    cosines[:10, :10] = 0.5
    found = label_test(cosines, range(10), range(10, 30))
    assert found.choices == 20_000
    assert found.p == pytest.approx(1 / 20_000)


@pytest.mark.parametrize(("own", "others"), [([0], [1, 2]), ([0, 1], [])])
def test_too_few_sets_are_told(own: list[int], others: list[int]) -> None:
    with pytest.raises(ConfigError, match="it takes 2 and 1"):
        label_test(np.eye(3), own, others)


def test_gradients_of_different_layers_are_told() -> None:
    one, two = {"a": torch.ones(1, 1)}, {"b": torch.ones(1, 1)}
    with pytest.raises(ConfigError, match="not of the same layers"):
        pull_cosines([(one, one), (two, two)])

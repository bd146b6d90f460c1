"""Sparsification against explicit removal, ranks against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lorasub.errors import ConfigError
from lorasub.metrics.functional import error_by_confidence, rank_correlation, sparsification


def sample(seed: int = 0, count: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    errors = rng.exponential(1, count)
    return torch.from_numpy(errors), torch.from_numpy(-errors + rng.normal(0, 1, count))


def test_curves_are_means_after_removal() -> None:
    errors, confidence = sample()
    found = sparsification(errors, confidence, steps=20)
    e, c = errors.numpy(), confidence.numpy()
    for k in range(20):
        left = len(e) - k * len(e) // 20
        by_confidence = e[np.argsort(-c)[:left]].mean() / e.mean()
        by_error = np.sort(e)[:left].mean() / e.mean()
        assert found.removed[k] == pytest.approx(k / 20)
        assert found.by_confidence[k].item() == pytest.approx(by_confidence)
        assert found.by_error[k].item() == pytest.approx(by_error)
    area = np.trapezoid(found.by_confidence - found.by_error, np.arange(20) / 20)
    assert found.ause.item() == pytest.approx(area)


def test_perfect_useless_and_wrong_confidence_stand_in_order() -> None:
    errors, _ = sample()
    perfect = sparsification(errors, 1 / errors).ause
    useless = sparsification(errors, torch.ones_like(errors))
    wrong = sparsification(errors, errors).ause
    assert perfect.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(useless.by_confidence, torch.ones(50, dtype=torch.float64))
    assert 0.3 < useless.ause < wrong


def test_ties_do_not_depend_on_the_order_of_pixels() -> None:
    errors, confidence = sample()
    confidence = confidence.round()
    order = torch.randperm(len(errors))
    torch.testing.assert_close(
        sparsification(errors, confidence).by_confidence, sparsification(errors[order], confidence[order]).by_confidence
    )


def test_too_little_to_say_is_nan() -> None:
    assert sparsification(torch.ones(1), torch.ones(1)).ause.isnan()
    assert sparsification(torch.zeros(5), torch.ones(5)).ause.isnan()
    assert rank_correlation(torch.ones(1), torch.ones(1)).isnan()
    with pytest.raises(ConfigError):
        sparsification(torch.ones(5), torch.ones(5), steps=1)


def test_rank_correlation_is_scipys_with_ties() -> None:
    errors, confidence = sample(1)
    confidence = (4 * confidence).round()
    assert rank_correlation(errors, confidence).item() == pytest.approx(spearmanr(errors, confidence).statistic)


def test_error_by_confidence_groups_equally() -> None:
    errors, confidence = sample(2)
    mean_confidence, mean_error = error_by_confidence(errors, confidence, bins=10)
    lowest = np.argsort(confidence.numpy(), kind="stable")[:100]
    assert mean_confidence[0].item() == pytest.approx(confidence.numpy()[lowest].mean())
    assert mean_error[0].item() == pytest.approx(errors.numpy()[lowest].mean())
    assert (mean_confidence.diff() > 0).all()
    assert mean_error[-1] < mean_error[0]

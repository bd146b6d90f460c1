"""How many dimensions: planted truth, and the null against direct simulation with full-sized matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import frame, planted, random_update

from lorasub.rng import subspace_generator
from lorasub.subspaces import DimensionRule, LowRankUpdate, RobustLowRank, UpdateCores, mine_updates, null_spectrum
from lorasub.subspaces.angles import haar_frames

SHARED = [1.0, 0.9, 0.8, 0.7]


def planted_adapters(noise: float = 0.5, count: int = 6) -> list[dict[str, LowRankUpdate]]:
    layers = {f"blocks.{i}": (frame(120, 4, 2 * i), frame(100, 4, 2 * i + 1)) for i in range(2)}
    return [
        {
            path: planted(U, SHARED, V, noise=noise, rank=4, seed=100 * k + i)
            for i, (path, (U, V)) in enumerate(layers.items(), start=1)
        }
        for k in range(count)
    ]


@pytest.mark.parametrize("rule", ["gap", "parallel"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_planted_dimension_is_found(rule: str, scope: str) -> None:
    basis = mine_updates(planted_adapters(), dim=rule, dim_scope=scope)  # type: ignore[arg-type]
    assert set(basis.dims.values()) == {(4, 4)}
    for i, layer in enumerate(basis.layers.values()):
        overlap = torch.linalg.matrix_norm(layer.U.double().T @ frame(120, 4, 2 * i)).square() / 4
        assert overlap > 0.9


def test_nothing_shared_is_zero_dimensions_for_parallel_but_not_for_gap() -> None:
    """The mean of k adapters that share nothing has a step at k; only the null knows that."""
    own = [LowRankUpdate(frame(120, 2, i) * torch.tensor([1.0, 0.1]), frame(100, 2, 50 + i).T) for i in range(5)]
    adapters = [{"w": update} for update in own]
    assert mine_updates(adapters, dim="parallel", null_draws=100).dims == {"w": (0, 0)}
    assert mine_updates(adapters, dim="gap").dims == {"w": (5, 5)}


def test_parallel_is_a_test_at_five_per_cent() -> None:
    """Of 30 layers in which nothing is shared, 1.5 are expected to pass; more than six have a chance of 0.1%."""
    adapters = [{f"w{i}": random_update(30, 25, 2, 100 * i + j) for i in range(30)} for j in range(4)]
    dims = mine_updates(adapters, dim="parallel", null_draws=60).dims
    assert sum(d_out > 0 for d_out, _ in dims.values()) <= 6


def test_energy() -> None:
    spectrum = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)  # energies 9, 13, 14 of 14
    for fraction, expected in ((0.5, 1), (9 / 14 - 1e-9, 1), (0.7, 2), (0.95, 3), (1.0, 3)):
        assert DimensionRule.parse(f"energy:{fraction}").choose(spectrum) == expected


def test_energy_of_one_stops_at_the_rank() -> None:
    spectrum = torch.tensor([3.0, 2.0, 1e-14, 1e-15], dtype=torch.float64)
    assert DimensionRule("energy", 1.0).choose(spectrum) == 2


def test_gap_is_searched_in_the_first_half() -> None:
    spectrum = torch.tensor([5.0, 4.0, 1.0, 0.9, 0.8, 1e-7], dtype=torch.float64)
    assert DimensionRule("gap").choose(spectrum) == 2


def test_null_is_recorded_on_request() -> None:
    record = mine_updates(planted_adapters(), dim=4, null_draws=30).layers["blocks.0"].record
    assert record is not None
    assert record.null is not None
    assert record.null.shape == (3, len(record.spectrum))
    assert (record.null[0] <= record.null[1]).all()
    assert (record.null[1] <= record.null[2]).all()
    assert record.beyond_chance == 4


def test_result_depends_on_seed_and_layer_only() -> None:
    one = mine_updates(planted_adapters(), dim=4, null_draws=10, seed=3)
    two = mine_updates([dict(reversed(a.items())) for a in planted_adapters()], dim=4, null_draws=10, seed=3)
    for path, layer in one.layers.items():
        other = two.layers[path].record
        assert layer.record is not None
        assert other is not None
        assert torch.equal(layer.record.null, other.null)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("out", "in_", "alpha", "dim", "draws", "tolerance"),
    [(30, 20, 2.0, None, 500, 0.2), (7, 40, 2.0, None, 500, 0.2), (30, 20, 1.0, 3, 150, 0.35)],
)
def test_null_equals_simulation_with_full_matrices(
    out: int, in_: int, alpha: float, dim: int | None, draws: int, tolerance: float
) -> None:
    """The tolerance is some five standard errors of a 5% quantile, relative to the width of the 90% band."""
    shapes = [(3, 1.0), (2, 2.0), (4, 1.0)]
    updates = [random_update(out, in_, r, seed, scale) for seed, (r, scale) in enumerate(shapes)]
    solver = RobustLowRank(alpha=alpha, tolerance=1e-4)
    null = null_spectrum(UpdateCores.of(updates), solver, dim, draws=draws, rng=subspace_generator(0, "test")).numpy()
    generator = np.random.default_rng(1)
    spectra = []
    for _ in range(draws):
        D = []
        for update in updates:
            S = np.linalg.svd(update.scale * (update.B @ update.A).numpy(), compute_uv=False)[: update.r]
            P, _ = np.linalg.qr(generator.standard_normal((out, update.r)))
            Q, _ = np.linalg.qr(generator.standard_normal((in_, update.r)))
            D.append(P @ np.diag(S) @ Q.T)
        spectra.append(solver.fit(torch.from_numpy(np.stack(D)), dim).spectrum[: null.shape[1]].numpy())
    expected = np.percentile(spectra, [5, 50, 95], axis=0)
    assert (np.abs(null - expected) / (expected[2] - expected[0])).max() < tolerance


@pytest.mark.parametrize(("n", "widths"), [(12, (3, 4)), (5, (3, 4))])
def test_haar_frames_have_the_moments_of_haar(n: int, widths: tuple[int, int]) -> None:
    first, second = haar_frames(n, widths, np.random.default_rng(0), draws=20_000)
    for drawn in (first, second):
        eye = torch.eye(drawn.shape[-1], dtype=torch.float64)
        assert torch.allclose(drawn.mT @ drawn, eye.expand(20_000, -1, -1), atol=1e-10)
    cross = first.mT @ second
    # entries of a product of independent Haar frames: mean 0, variance 1 / n, fourth moment 3 / (n (n + 2))
    assert cross.mean(0).abs().max() < 5 / np.sqrt(20_000 * n)
    assert cross.square().mean(0).numpy() == pytest.approx(1 / n, rel=0.06)
    assert cross.pow(4).mean(0).numpy() == pytest.approx(3 / (n * (n + 2)), rel=0.12)

"""Mining against a dense implementation, closed forms, planted truth, invariances, and bad input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import dense, dense_mining, frame, planted, random_update
from scipy.linalg import subspace_angles

from lorasub.errors import ArtefactError, ConfigError
from lorasub.subspaces import (
    AdapterSource,
    LowRankUpdate,
    RobustLowRank,
    adapter_subspace,
    combine_subspaces,
    common_subspace,
    explained_fraction,
    mine_updates,
    overlap_matrix,
)

OPTIONS = {"eps": 1e-3, "tolerance": 1e-9, "max_iterations": 60}


def mined_update(updates: list[LowRankUpdate], **options: object) -> np.ndarray:
    """U S V^T of a single layer."""
    basis = mine_updates([{"w": update} for update in updates], dtype=torch.float64, **options)  # type: ignore[arg-type]
    layer = basis.layers["w"]
    assert layer.S is not None
    return ((layer.U * layer.S) @ layer.V.T).numpy()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize(("out", "in_"), [(40, 30), (12, 50), (9, 8)])
def test_equals_the_dense_implementation(alpha: float, out: int, in_: int) -> None:
    ranks, scales = [4, 3, 4, 2], [1.0, 2.0, 0.5, 3.0]
    updates = [random_update(out, in_, r, seed, s) for seed, (r, s) in enumerate(zip(ranks, scales, strict=True))]
    expected = dense_mining(updates, 5, alpha, **OPTIONS)
    basis = mine_updates([{"w": u} for u in updates], dim=5, alpha=alpha, dtype=torch.float64, **OPTIONS)
    layer = basis.layers["w"]
    assert layer.record is not None
    size = np.linalg.norm(expected["L"])
    found = ((layer.U * layer.S) @ layer.V.T).numpy()
    assert np.abs(found - expected["L"]).max() < 1e-10 * size
    m = len(layer.record.spectrum)
    assert np.abs(layer.record.spectrum.numpy() - expected["S"][:m]).max() < 1e-10 * size
    assert np.abs(expected["S"][m:]).max(initial=0) < 1e-10 * size
    assert np.abs(layer.record.weights.numpy() - expected["w"]).max() < 1e-10
    assert layer.record.objective.numpy() == pytest.approx(expected["objective"], rel=1e-10)
    for columns in (layer.U, layer.V):
        assert torch.allclose(columns.T @ columns, torch.eye(5, dtype=torch.float64), atol=1e-12)


def test_alpha_two_is_the_truncated_svd_of_the_mean() -> None:
    updates = [random_update(20, 15, 3, seed) for seed in range(4)]
    U, S, Vh = np.linalg.svd(np.mean([dense(u) for u in updates], axis=0))
    expected = U[:, :3] @ np.diag(S[:3]) @ Vh[:3]
    assert np.abs(mined_update(updates, dim=3, alpha=2.0) - expected).max() < 1e-10 * S[0]


def test_explained_is_the_energy_inside() -> None:
    updates = [random_update(20, 15, 3, seed) for seed in range(3)]
    layer = mine_updates([{"w": u} for u in updates], dim=4, dtype=torch.float64).layers["w"]
    assert layer.record is not None
    U, V = layer.U.numpy(), layer.V.numpy()
    expected = [np.linalg.norm(U @ U.T @ dense(u) @ V @ V.T) ** 2 / np.linalg.norm(dense(u)) ** 2 for u in updates]
    assert layer.record.explained.numpy() == pytest.approx(expected, rel=1e-10)


def test_an_outlier_is_resisted_at_alpha_one_but_not_at_two() -> None:
    U, V, other_U, other_V = frame(60, 3, 1), frame(50, 3, 2), frame(60, 3, 3), frame(50, 3, 4)
    updates = [planted(U, [1.0, 0.9, 0.8], V, noise=0.1, rank=2, seed=seed) for seed in range(10, 16)]
    outlier = planted(other_U, [30.0, 30.0, 30.0], other_V, noise=0.1, rank=2, seed=16)
    adapters = [{"w": update} for update in [*updates, outlier]]

    def angle(alpha: float) -> float:
        return float(subspace_angles(mine_updates(adapters, dim=3, alpha=alpha).layers["w"].U.numpy(), U.numpy())[0])

    # half way in angle: 45 degrees; the plain mean leaves the truth altogether
    assert angle(1.0) < np.radians(15)
    assert angle(2.0) > np.radians(60)
    record = mine_updates(adapters, dim=3, alpha=1.0).layers["w"].record
    assert record is not None
    assert record.weights[-1] < record.weights[:-1].min() / 10


def test_normalisation_takes_norms_out() -> None:
    updates = [random_update(20, 15, 3, seed) for seed in range(3)]
    louder = [LowRankUpdate(u.B, u.A, s) for u, s in zip(updates, (1.0, 50.0, 0.1), strict=True)]
    one, two = (
        mine_updates([{"w": u} for u in several], dim=4, normalize="frobenius").layers["w"]
        for several in (updates, louder)
    )
    assert one.record is not None
    assert two.record is not None
    assert torch.allclose(one.record.weights, two.record.weights)
    assert np.degrees(subspace_angles(one.U.double().numpy(), two.U.double().numpy())).max() < 1e-3


def test_reading_is_lazy_one_layer_at_a_time() -> None:
    class Lazy(Mapping[str, LowRankUpdate]):
        read: list[str] = []  # noqa: RUF012 - shared on purpose

        def __getitem__(self, path: str) -> LowRankUpdate:
            self.read.append(path)
            return random_update(8, 7, 2, seed=len(self.read))

        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

        def __len__(self) -> int:
            return 2

    mine_updates([Lazy(), Lazy(), Lazy()], dim=2)
    assert Lazy.read == ["a", "a", "a", "b", "b", "b"]


def test_progress_sees_every_layer() -> None:
    seen: list[list[str]] = []

    def bar(paths: Sequence[str]) -> Sequence[str]:
        seen.append(list(paths))
        return paths

    adapters = {name: adapters_of() for name in ("one", "two")}
    bases = {name: mine_updates(group, dim=2, progress=bar) for name, group in adapters.items()}
    overlap_matrix(bases, draws=2, progress=bar)
    common_subspace(bases, draws=2, progress=bar)
    combine_subspaces(bases, progress=bar)
    explained_fraction(bases["one"], adapters["one"][0], progress=bar)
    assert seen == [["a", "b"]] * 6


def test_single_adapter() -> None:
    update = random_update(20, 15, 4, seed=0, scale=2.0)
    layer = adapter_subspace({"w": update}, dim=3).layers["w"]
    _, S, Vh = np.linalg.svd(dense(update))
    assert layer.S is not None
    assert layer.S.numpy() == pytest.approx(S[:3], rel=1e-10)
    assert np.abs(subspace_angles(layer.V.double().numpy(), Vh[:3].T)).max() < 1e-5
    assert adapter_subspace({"w": update}).dims == {"w": (4, 4)}
    untouched = LowRankUpdate(torch.zeros(20, 4), torch.randn(4, 15))
    assert adapter_subspace({"w": untouched}).dims == {"w": (0, 0)}


# --- properties ------------------------------------------------------------------------------------------------------

seeds = st.integers(0, 10_000)
alphas = st.sampled_from([0.7, 1.0, 1.6, 2.0])


@settings(max_examples=15, deadline=None)
@given(seed=seeds, alpha=alphas)
def test_factorisation_does_not_matter(seed: int, alpha: float) -> None:
    updates = [random_update(14, 11, 3, seed + i, 1.5) for i in range(3)]
    mixed = []
    for i, update in enumerate(updates):
        # well conditioned, so that float64 allows a tight comparison
        X = frame(3, 3, seed + 50 + i) @ torch.diag(torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64))
        mixed.append(LowRankUpdate(update.B @ X * 3.0, torch.linalg.inv(X) @ update.A, 0.5))
    assert np.allclose(mined_update(updates, dim=3, alpha=alpha), mined_update(mixed, dim=3, alpha=alpha), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, alpha=alphas, order=st.permutations(range(4)))
def test_order_of_adapters_does_not_matter(seed: int, alpha: float, order: list[int]) -> None:
    updates = [random_update(14, 11, 3, seed + i) for i in range(4)]
    one = mined_update(updates, dim=3, alpha=alpha)
    assert np.allclose(one, mined_update([updates[i] for i in order], dim=3, alpha=alpha), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, alpha=alphas, factor=st.floats(1e-4, 1e4))
def test_orthogonal_changes_of_basis_and_scale_carry_over(seed: int, alpha: float, factor: float) -> None:
    updates = [random_update(14, 11, 3, seed + i) for i in range(3)]
    P, Q = frame(14, 14, seed + 70), frame(11, 11, seed + 71)
    turned = [LowRankUpdate(P @ u.B, u.A @ Q.T, factor) for u in updates]
    expected = factor * P.numpy() @ mined_update(updates, dim=3, alpha=alpha) @ Q.numpy().T
    assert np.allclose(mined_update(turned, dim=3, alpha=alpha), expected, atol=1e-8 * factor)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, alpha=st.floats(0.2, 2.0))
def test_the_objective_never_rises(seed: int, alpha: float) -> None:
    cores = torch.from_numpy(np.random.default_rng(seed).standard_normal((5, 6, 7)))
    objective = RobustLowRank(alpha=alpha, tolerance=0.0, max_iterations=30).fit(cores, 2).objective
    assert (objective[1:] <= objective[:-1] * (1 + 1e-12)).all()


# --- bad input -------------------------------------------------------------------------------------------------------


def adapters_of(count: int = 3, r: int = 2) -> list[dict[str, LowRankUpdate]]:
    return [{name: random_update(8, 7, r, 10 * i + j) for j, name in enumerate(("a", "b"))} for i in range(count)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, r"dim=0"),
        ({"dim": "energy:1.5"}, r"dim='energy:1\.5'"),
        ({"dim": "cliff"}, r"dim='cliff'"),
        ({"alpha": 0.0}, r"alpha=0\.0"),
        ({"alpha": 2.5}, r"alpha=2\.5"),
        ({"eps": 0.0}, r"eps=0\.0"),
        ({"tolerance": -1.0}, r"tolerance=-1\.0"),
        ({"max_iterations": 0}, r"max_iterations=0"),
        ({"null_draws": -1}, r"null_draws=-1"),
        ({"normalize": "l1"}, r"normalize='l1'"),
        ({"dim_scope": "model"}, r"dim_scope='model'"),
        ({"dim": 7}, r"layer 'a': dim=7 is more than the 6 dimensions that 3 adapters of ranks \[2\]"),
        ({"sources": [AdapterSource(name="one")]}, r"1 sources for 3 adapters"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mine_updates(adapters_of(), **({"dim": 2} | options))  # type: ignore[arg-type]


def test_a_layer_narrower_than_the_dimension_is_kept_whole() -> None:
    """A head's last layer has two outputs; it should not keep all others from being mined at 5."""
    generator = torch.Generator().manual_seed(0)

    def update(out: int, in_: int) -> LowRankUpdate:
        return LowRankUpdate(
            B=torch.randn(out, 6, generator=generator), A=torch.randn(6, in_, generator=generator), scale=1.0
        )

    basis = mine_updates([{"wide": update(20, 12), "narrow": update(2, 12)} for _ in range(3)], dim=5)
    assert basis.dims == {"wide": (5, 5), "narrow": (2, 2)}


def test_one_adapter_is_not_enough() -> None:
    with pytest.raises(ConfigError, match=r"at least two adapters .* not 1"):
        mine_updates(adapters_of(1))


def test_layers_must_be_the_same() -> None:
    adapters = adapters_of()
    del adapters[2]["b"]
    with pytest.raises(ConfigError, match=r"adapter 2 and adapter 0 do not adapt the same layers: .* 'b'"):
        mine_updates(adapters, dim=2)


def test_shapes_must_be_the_same() -> None:
    adapters = adapters_of()
    adapters[1]["b"] = random_update(9, 7, 2, 0)
    with pytest.raises(ConfigError, match=r"layer 'b' has shape \(9, 7\) in adapter 1 and \(8, 7\) in adapter 0"):
        mine_updates(adapters, dim=2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_numbers_are_named(value: float) -> None:
    adapters = adapters_of()
    adapters[1]["b"].A[0, 0] = value
    sources = [AdapterSource(name=f"runs/{i}") for i in range(3)]
    with pytest.raises(ArtefactError, match=r"runs/1: lora_A of layer 'b' holds NaN or infinity"):
        mine_updates(adapters, dim=2, sources=sources)


def test_base_models_must_agree() -> None:
    sources = [AdapterSource(name=f"runs/{i}", base_model_hash=f"hash{i // 2}") for i in range(3)]
    with pytest.raises(ArtefactError, match=r"runs/2 .* hash1, runs/0 .* hash0"):
        mine_updates(adapters_of(), dim=2, sources=sources)


def test_untrained_adapters() -> None:
    silent = {name: LowRankUpdate(torch.zeros(8, 2), torch.randn(2, 7)) for name in ("a", "b")}
    with pytest.raises(ArtefactError, match="layer 'a': no adapter has changed it"):
        mine_updates([silent, silent], dim=2)
    with pytest.raises(ArtefactError, match="layer 'a': adapter 3 has not changed it"):
        mine_updates([*adapters_of(), silent], dim=2, normalize="frobenius")


def test_copies_span_less_than_their_ranks() -> None:
    with pytest.raises(ConfigError, match="the mean update has rank 2 only"):
        mine_updates(adapters_of()[:1] * 3, dim=3)


def test_thread_count_is_restored() -> None:
    torch.set_num_threads(2)
    mine_updates(adapters_of(), dim=2)
    assert torch.get_num_threads() == 2

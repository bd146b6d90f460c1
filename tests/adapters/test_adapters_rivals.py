"""Kinds that others have published, against PEFT where it has them and closed forms elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_toys import TOYS, Toy
from torch import nn

from lorasub.adapters import (
    BitFit,
    LoRAXS,
    MeanAdapter,
    ProjectedLoRA,
    TruncatedFineTuning,
    VeRA,
    inject_adapters,
    load_adapter_updates,
)
from lorasub.errors import ArtefactError, ConfigError
from lorasub.subspaces import LayerSubspace, LowRankUpdate, SubspaceBasis, mine_updates


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 4)).double()


def moved(parameter: torch.Tensor, seed: int = 5) -> None:
    """As if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def test_lora_xs_with_the_identity_adds_the_best_approximation_of_the_weight() -> None:
    """U S I V^T of rank 3 is the truncated SVD of W; and one entry of R moves one pair of singular vectors."""
    base = nn.Linear(9, 7).double()
    layer = LoRAXS(dim=3, scale=1.5).wrap("", base)
    U, S, Vh = torch.linalg.svd(base.weight.detach())
    with torch.no_grad():
        layer.M.copy_(torch.eye(3))
    torch.testing.assert_close(layer.delta_weight(), 1.5 * U[:, :3] * S[:3] @ Vh[:3])
    with torch.no_grad():
        layer.M.copy_(torch.eye(3)[:, [1]] @ torch.eye(3)[[2]])
    assert float(torch.linalg.matrix_norm(layer.delta_weight(), ord=2)) == pytest.approx(1.5 * float(S[1]))
    assert sum(p.numel() for p in layer.adapter_parameters().values()) == 9


def test_bitfit_trains_what_peft_calls_bias_all() -> None:
    peft = pytest.importorskip("peft")
    model = network()
    adapters = inject_adapters(model, BitFit(targets="all"))
    theirs = peft.get_peft_model(network(), peft.LoraConfig(target_modules=["0"], bias="all")).base_model.model
    expected = {
        name.replace("base_layer.", "")
        for name, parameter in theirs.named_parameters()
        if parameter.requires_grad and "lora_" not in name
    }
    assert set(adapters.trainable_parameters()) == expected == {"0.bias", "2.bias", "3.bias"}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == expected
    assert adapters.table().trainable == 8 + 8 + 4


def test_bitfit_of_layers_without_biases_is_refused() -> None:
    with pytest.raises(ConfigError, match="BitFit"):
        inject_adapters(nn.Sequential(nn.Linear(3, 3, bias=False)), BitFit(targets="all"))


def test_vera_is_pefts() -> None:
    """The same matrices from the same seed, the same output for the same vectors; the layers differ in both sizes."""
    peft = pytest.importorskip("peft")
    model, x = network().float(), torch.randn(5, 6)
    adapters = inject_adapters(model, VeRA(r=12, seed=3, targets="all"))
    config = peft.VeraConfig(r=12, projection_prng_key=3, target_modules=["0", "3"], d_initial=0.1)
    theirs = peft.get_peft_model(network().float(), config)
    torch.testing.assert_close(model(x), theirs(x))
    named = dict(theirs.base_model.model.named_parameters())
    for number, (name, parameter) in enumerate(adapters.trainable_parameters().items()):
        moved(parameter, number)
        named[f"{name}.default"].data.copy_(parameter)
    torch.testing.assert_close(model(x), theirs(x))
    assert not torch.allclose(model(x), network().float()(x), atol=1e-2)
    assert adapters.table().trainable == (12 + 8) + (12 + 4)


def test_vera_of_another_seed_does_not_load(tmp_path: Path) -> None:
    inject_adapters(first := network(), VeRA(r=4, seed=0, targets="all")).save(tmp_path / "adapter")
    same = inject_adapters(network(), VeRA(r=4, seed=0, targets="all"))
    same.load(tmp_path / "adapter")
    other = inject_adapters(network(), VeRA(r=4, seed=1, targets="all"))
    with pytest.raises(ArtefactError, match="basis"):
        other.load(tmp_path / "adapter")
    assert first[0].projections is first[3].projections


@pytest.fixture
def fitted() -> tuple[Toy, list[dict[str, LowRankUpdate]]]:
    """Three adapters of a toy model with convolutions."""
    toy = TOYS["conv"]
    shapes = {path: toy.model().get_submodule(path).weight.flatten(1).shape for path in toy.layers}
    torch.manual_seed(9)
    return toy, [
        {
            path: LowRankUpdate(B=torch.randn(out, 2), A=torch.randn(2, features), scale=0.5)
            for path, (out, features) in shapes.items()
        }
        for _ in range(3)
    ]


def dense_mean(adapters: list[dict[str, LowRankUpdate]], path: str) -> torch.Tensor:
    updates = [adapter[path] for adapter in adapters]
    return sum(update.scale * update.B.double() @ update.A.double() for update in updates) / len(updates)


def test_the_mean_adapter_at_gain_one_is_the_mean(fitted: tuple[Toy, list[dict[str, LowRankUpdate]]]) -> None:
    toy, updates = fitted
    mean = mine_updates(updates, alpha=2, dim="energy:1")
    adapters = inject_adapters(toy.model(), MeanAdapter(basis=mean, targets="all"))
    assert adapters.table().trainable == len(toy.layers)
    for gain in adapters.trainable_parameters().values():
        gain.data.fill_(1.0)
    for path, layer in adapters.layers.items():
        expected = dense_mean(updates, path)
        torch.testing.assert_close(layer.delta_weight().flatten(1), expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_the_gain_is_the_product_with_the_mean(
    fitted: tuple[Toy, list[dict[str, LowRankUpdate]]],
) -> None:
    toy, updates = fitted
    plain, x = toy.model(), toy.input()
    plain(x).square().sum().backward()
    model = toy.model()
    adapters = inject_adapters(model, MeanAdapter(basis=mine_updates(updates, alpha=2, dim="energy:1"), targets="all"))
    model(x).square().sum().backward()
    for path, layer in adapters.layers.items():
        expected = (plain.get_submodule(path).weight.grad.flatten(1) * dense_mean(updates, path)).sum()
        assert float(layer.adapter_parameters()["gain"].grad) == pytest.approx(float(expected), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("as_folder", [False, True])
def test_m_may_start_from_the_projected_mean(
    fitted: tuple[Toy, list[dict[str, LowRankUpdate]]], tmp_path: Path, as_folder: bool
) -> None:
    toy, updates = fitted
    mean, basis = mine_updates(updates, alpha=2, dim="energy:1"), toy.basis(2, 3)
    start = str(mean.save(tmp_path / "mean")) if as_folder else mean.updates()
    spec = ProjectedLoRA(basis=basis, init_from=start, targets="all")
    adapters = inject_adapters(toy.model(), spec)
    for path, layer in adapters.layers.items():
        U, V = basis.layers[path].U.double(), basis.layers[path].V.double()
        nearest = U @ U.T @ dense_mean(updates, path) @ V @ V.T
        torch.testing.assert_close(layer.delta_weight().flatten(1), nearest, rtol=1e-4, atol=1e-5)
    # a checkpoint carries what the adapter is built from
    assert (str(tmp_path / "mean") in spec.carried_bases()) is as_folder


def test_a_basis_without_singular_values_is_no_mean(transformer: Toy) -> None:
    with pytest.raises(ConfigError, match="no singular values"):
        inject_adapters(transformer.model(), MeanAdapter(basis=transformer.basis(), targets="all"))


def test_a_mean_of_another_model_is_refused() -> None:
    wrong = LayerSubspace(U=torch.eye(3)[:, :1], V=torch.eye(6)[:, :1], S=torch.ones(1))
    with pytest.raises(ArtefactError, match=r"\(3, 6\)"):
        inject_adapters(network(), MeanAdapter(basis=SubspaceBasis(layers={"0": wrong}), targets="0"))


@pytest.mark.parametrize("base", [nn.Linear(6, 5).double(), nn.Conv2d(2, 4, 3).double()], ids=["linear", "conv"])
def test_truncated_fine_tuning_trains_the_whole_weight_and_keeps_the_best_of_it(base: nn.Linear | nn.Conv2d) -> None:
    model = nn.Sequential(base)
    x = torch.randn((3, 6) if isinstance(base, nn.Linear) else (3, 2, 5, 5), dtype=torch.float64)
    plain, (gradient,) = base(x), torch.autograd.grad(base(x).square().sum(), base.weight)
    adapters = inject_adapters(model, TruncatedFineTuning(r=2, targets="all"))
    (layer,) = adapters.layers.values()
    (delta,) = layer.adapter_parameters().values()
    assert torch.equal(model.train()(x), plain)
    model(x).square().sum().backward()
    torch.testing.assert_close(delta.grad, gradient)  # that of full fine-tuning
    moved(delta)
    trained = torch.func.functional_call(base, {"weight": base.weight + delta}, (x,))
    torch.testing.assert_close(model.train()(x), trained)
    U, S, Vh = torch.linalg.svd(delta.detach().flatten(1))
    best = ((U[:, :2] * S[:2]) @ Vh[:2]).reshape(delta.shape)
    kept = torch.func.functional_call(base, {"weight": base.weight + best}, (x,))
    torch.testing.assert_close(model.eval()(x), kept)
    assert not torch.allclose(kept, trained, atol=1e-3)
    moved(delta, 6)  # another change, another approximation
    assert not torch.allclose(model(x), kept, atol=1e-3)


def test_truncated_fine_tuning_is_mined_like_a_lora(tmp_path: Path) -> None:
    adapters = inject_adapters(network().float(), TruncatedFineTuning(r=2, targets="all"))
    for number, delta in enumerate(adapters.trainable_parameters().values()):
        moved(delta, number)
    adapters.save(tmp_path / "adapter")
    updates, _ = load_adapter_updates(tmp_path / "adapter")
    for path, update in updates.items():
        U, S, Vh = torch.linalg.svd(adapters.trainable_parameters()[f"{path}.delta"].detach())
        torch.testing.assert_close(update.scale * update.B @ update.A, (U[:, :2] * S[:2]) @ Vh[:2])


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation mode"])
def test_truncated_fine_tuning_keeps_the_best_of_what_any_optimizer_left(fused: bool, training: bool) -> None:
    """Fused steps, which fits on a GPU take, leave the version of a tensor as it is."""
    model = nn.Sequential(nn.Linear(6, 8))
    adapters = inject_adapters(model, TruncatedFineTuning(r=2, targets="all"))
    (delta,) = adapters.trainable_parameters().values()
    optimizer = torch.optim.AdamW([delta], lr=0.05, fused=fused)
    x, target = torch.randn(32, 6), torch.randn(32, 8)
    for _ in range(2):  # each with a validation before it, as fits have
        with torch.no_grad():
            model.eval()(x)
        model.train(training)
        for _ in range(5):
            optimizer.zero_grad()
            (model(x) - target).square().mean().backward()
            optimizer.step()
        U, S, Vh = torch.linalg.svd(delta.detach())
        best = (U[:, :2] * S[:2]) @ Vh[:2]
        with torch.no_grad():
            found = model.eval()(x)
        torch.testing.assert_close(found, x @ (model[0].base_layer.weight + best).T + model[0].base_layer.bias)
        (update,) = adapters.updates().values()
        torch.testing.assert_close(update.B @ update.A, best)

"""What passes the layers of a model, and bases from it, against autograd, SVDs and PEFT."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from adapter_toys import TOYS, Toy
from torch import Tensor, nn

from lorasub.adapters import (
    EVA,
    AdapterSet,
    AdapterSpec,
    LoRA,
    ProjectedLoRA,
    activation_moments,
    curvature_moments,
    gradient_basis,
    gradient_moments,
    gradient_share,
    inject_adapters,
    model_basis,
    weight_moments,
)
from lorasub.adapters.layer_pass import visit_layers
from lorasub.adapters.mining import mine_subspace
from lorasub.errors import ConfigError
from lorasub.subspaces import LayerSubspace, SubspaceBasis, moment_basis, random_basis


def losses(model: nn.Module, *inputs: Tensor) -> Iterator[Tensor]:
    for x in inputs:
        yield model(x).square().sum()


@pytest.mark.parametrize("name", ["mlp", "conv", "transformer"])
def test_gradients_are_errors_times_activations(name: str) -> None:
    """W's gradient is the sum over rows of error x^T: the three visitors see parts of one equation."""
    toy = TOYS[name]
    model = toy.model()
    rows: dict[str, Tensor] = {}
    errors: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    seen = visit_layers(
        model,
        losses(model, toy.input()),
        targets="all",
        gradient=lambda path, G: gradients.update({path: G.flatten(1).clone()}),
        activation=lambda path, x: rows.update({path: x}),
        error=lambda path, g: errors.update({path: g}),
    )
    assert seen == 1
    assert set(gradients) == set(toy.layers)
    plain = toy.model()
    plain(toy.input()).square().sum().backward()
    for path in toy.layers:
        expected = plain.get_submodule(path).weight.grad.flatten(1)
        torch.testing.assert_close(gradients[path], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(errors[path].mT @ rows[path], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular", "replicate"])
def test_patches_of_padded_convolutions(mode: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, stride=2, padding_mode=mode))
    rows: list[Tensor] = []
    x = torch.randn(2, 2, 7, 6)
    visit_layers(model, losses(model, x), targets="all", activation=lambda path, found: rows.append(found))
    result = rows[0] @ model[0].weight.flatten(1).T + model[0].bias
    torch.testing.assert_close(result, model(x).movedim(1, -1).flatten(0, -2))


def test_the_model_is_left_as_it_was(transformer: Toy) -> None:
    model = transformer.model().train()
    model.blocks[0].requires_grad_(False)
    kept = model.head.weight.grad = torch.ones_like(model.head.weight)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    gradient_moments(model, losses(model, transformer.input()), targets="all")
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert model.head.weight.grad is kept
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "head.weight")
    assert model.training
    assert model.blocks[1].training


@dataclass
class Planted:
    """A model, and a task whose targets differ from it by one update of rank 2; inputs lie in few dimensions."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor

    @classmethod
    def drawn(cls) -> Planted:
        torch.manual_seed(3)
        model, U, V = nn.Sequential(nn.Linear(24, 20)), torch.randn(20, 2), torch.randn(24, 2)
        teacher = copy.deepcopy(model)
        teacher[0].weight.data += 0.3 * U @ V.T
        inputs = 3.0 * torch.randn(4096, 2) @ V.T + 0.3 * torch.randn(4096, 24)
        return cls(model, inputs, teacher(inputs).detach())

    def loss(self, model: nn.Module, rows: slice = slice(None)) -> Tensor:
        return (model(self.inputs[rows]) - self.targets[rows]).square().mean()

    def losses(self) -> Iterator[Tensor]:
        for first in range(0, 4096, 512):
            yield self.loss(self.model, slice(first, first + 512))

    def fitted(self, spec: AdapterSpec, rows: slice = slice(None)) -> tuple[AdapterSet, float]:
        """An adapter that was trained to the end, and the share of the loss that it leaves."""
        host = copy.deepcopy(self.model)
        adapters = inject_adapters(host, spec)
        optimiser = torch.optim.LBFGS(adapters.trainable_parameters().values(), max_iter=200)

        def step() -> Tensor:
            optimiser.zero_grad()
            found = self.loss(host, rows)
            found.backward()
            return found

        optimiser.step(step)
        return adapters, float((self.loss(host) / self.loss(self.model)).detach())

    def mined(self) -> SubspaceBasis:
        """From three adapters, each fitted to a third of the data."""
        adapters = []
        for seed in range(3):
            torch.manual_seed(seed)
            rows = slice(1300 * seed, 1300 * (seed + 1))
            adapters.append(self.fitted(LoRA(r=2, targets="all"), rows)[0].updates())
        return mine_subspace(adapters, dim=2)


def test_a_planted_task_is_found_by_the_sources_that_can_see_it() -> None:
    planted = Planted.drawn()
    model = planted.model
    bases = {
        "gradients": gradient_basis(model, planted.losses(), dim=2, targets="all"),
        "kfac": gradient_basis(model, planted.losses(), dim=2, columns="kfac", targets="all"),
        "adapters": planted.mined(),
        "weights": model_basis(model, {}, source="weights", dim=2, targets="all"),
        "random": random_basis({"0": (20, 24)}, dim=2, seed=1),
    }
    left = {name: planted.fitted(ProjectedLoRA(basis=basis, targets="all"))[1] for name, basis in bases.items()}
    assert max(left[name] for name in ("gradients", "kfac", "adapters")) < 0.02
    assert min(left["weights"], left["random"]) > 0.3
    # activations know nothing of the outputs, but where the inputs are
    active = model_basis(model, {"": planted.losses()}, source="activations", dim=2, targets="all").layers["0"]
    cosines = torch.linalg.svdvals(active.V.T @ bases["gradients"].layers["0"].V)
    assert float(cosines.min()) > 0.99


def test_the_share_of_a_gradient_that_a_basis_holds() -> None:
    torch.manual_seed(5)
    model, x = nn.Linear(9, 7), torch.randn(12, 9)
    model(x).square().sum().backward()
    G = model.weight.grad.double()
    U, S, Vh = torch.linalg.svd(G)
    skewed = LayerSubspace(U=(U[:, :2] * torch.tensor([5.0, 0.1])).float(), V=Vh[:3].T.float())
    bases = {
        "two": SubspaceBasis(layers={"": skewed}, scaled=True),
        "all": random_basis({"": (7, 9)}, dim=7, seed=0),
        **{f"random {seed}": random_basis({"": (7, 9)}, dim=2, seed=seed) for seed in range(200)},
    }
    found = gradient_share(model, losses(model, x), bases, targets="all")
    shares = {name: share.layers[""] for name, share in found.items()}
    assert shares["two"] == pytest.approx(float(S[:2].square().sum() / S.square().sum()), rel=1e-4)
    V = torch.linalg.qr(bases["all"].layers[""].V.double()).Q
    assert shares["all"] == pytest.approx(float((G @ V).square().sum() / G.square().sum()), rel=1e-4)
    drawn = [share for name, share in shares.items() if "random" in name]
    assert sum(drawn) / 200 == pytest.approx(4 / 63, rel=0.15)


def test_shares_of_layers_and_of_all_energy() -> None:
    """Two layers with gradients of known size, of which the basis holds all and nothing."""
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    first, second = torch.eye(2).split(1, dim=1)
    held = LayerSubspace(U=first, V=first)
    missed = LayerSubspace(U=second, V=second)
    loss = (3.0 * model["a"].weight[0, 0] + 4.0 * model["b"].weight[0, 0] for _ in range(1))
    found = gradient_share(model, loss, {"x": SubspaceBasis(layers={"a": held, "b": missed})}, targets="all")["x"]
    assert found.layers == {"a": 1.0, "b": 0.0}
    assert found.mean == 0.5
    assert found.whole == pytest.approx(9 / 25)


def test_activations_are_covariances_of_inputs_and_outputs() -> None:
    model, x = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), torch.randn(40, 5) + 1.0
    moments = activation_moments(model, (model(part) for part in x.split(10)), targets="all")
    torch.testing.assert_close(moments.input["0"], torch.cov(x.T, correction=0), rtol=1e-3, atol=1e-3)
    hidden = model[0](x)
    torch.testing.assert_close(moments.output["0"], torch.cov(hidden.T, correction=0), rtol=1e-3, atol=1e-3)


def test_curvature_is_the_factors_of_kfac() -> None:
    model, x = nn.Linear(4, 3), torch.randn(6, 4)
    moments = curvature_moments(model, losses(model, x), targets="all")
    y = model(x).detach()
    torch.testing.assert_close(moments.input[""], x.T @ x / 6, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moments.output[""], 4 * y.T @ y / 6, rtol=1e-4, atol=1e-5)  # of the sum of squares: 2 y


def test_columns_of_kfac_from_one_pass() -> None:
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), torch.randn(30, 6) * torch.arange(1, 7)
    basis = gradient_basis(model, losses(model, *x.split(5)), dim=3, columns="kfac", targets="all")
    curvature = curvature_moments(model, losses(model, *x.split(5)), targets="all")
    for path, layer in basis.layers.items():
        seen = layer.V.T @ curvature.input[path] @ layer.V
        torch.testing.assert_close(seen, torch.eye(3) * seen.trace() / 3, rtol=0.05, atol=0.05 * float(seen.trace()))
    assert basis.options["batches"] == 6


def test_sources_are_those_of_their_moments() -> None:
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), torch.randn(30, 6)

    def groups() -> dict[str, Iterator[Tensor]]:
        return {"one": losses(model, *x[:15].split(5)), "two": losses(model, *x[15:].split(5))}

    made = {
        "gradients": gradient_moments(model, losses(model, *x.split(5)), targets="all"),
        "activations": activation_moments(model, losses(model, *x.split(5)), targets="all"),
        "weights": weight_moments(model, targets="all"),
    }
    for source, moments in made.items():
        basis = model_basis(model, groups(), source=source, dim=2, targets="all")
        expected = moment_basis(moments, dim=2)
        for path, layer in basis.layers.items():
            cosines = torch.linalg.svdvals(layer.V.T @ expected.layers[path].V)
            torch.testing.assert_close(cosines, torch.ones(2), atol=1e-4, rtol=0)
        assert basis.method == source
        assert basis.attributes == ("one", "two")


def test_specific_parts_stand_side_by_side() -> None:
    """Two tasks that pull a layer to outputs of their own, beside one output that both pull."""
    model, x = nn.Linear(6, 6), torch.randn(400, 6)

    def pulled(outputs: list[int]) -> Iterator[Tensor]:
        for part in x.split(20):
            yield (model(part)[:, outputs] * torch.randn(20, len(outputs))).sum()

    torch.manual_seed(2)
    basis = model_basis(model, {"a": pulled([0, 1]), "b": pulled([0, 2])}, part="specific", dim=2, targets="all")
    (layer,) = basis.layers.values()
    assert layer.U_attributes == ("a", "b")
    assert float(layer.U[[1, 2]].square().sum(0).min()) > 0.9
    with pytest.raises(ConfigError, match="share equally, not dim=3"):
        model_basis(model, {"a": pulled([0]), "b": pulled([1])}, part="specific", dim=3, targets="all")


def test_eva_starts_where_pefts_does() -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    x = torch.randn(200, 8) @ torch.diag(torch.tensor([9.0, 7.0, 5.0, 3.0, 1.0, 0.5, 0.2, 0.1])) + 2.0
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 5))
    moments = activation_moments(model, (model(part) for part in [x]), targets="all")
    basis = moment_basis(moments, dim=3)
    config = peft.LoraConfig(
        r=3,
        lora_alpha=6,
        target_modules=["0", "1"],
        init_lora_weights="eva",
        eva_config=peft.EvaConfig(rho=1.0, tau=1.0),
    )
    theirs = peft.get_peft_model(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 5)), config, low_cpu_mem_usage=True)
    theirs.base_model.model[0].base_layer.load_state_dict(model[0].state_dict())
    theirs.base_model.model[1].base_layer.load_state_dict(model[1].state_dict())
    peft.initialize_lora_eva_weights(
        theirs,
        [x],
        forward_fn=lambda host, batch: host(batch),
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=None,
        show_progress_bar=False,
    )
    adapters = inject_adapters(model, EVA(basis=basis, r=3, targets="all"))
    for path, layer in adapters.layers.items():
        found = theirs.base_model.model.get_submodule(path).lora_A["default"].weight.detach()
        cosines = (layer.lora_A.weight.detach() @ found.T).abs()
        torch.testing.assert_close(cosines, torch.eye(3), rtol=0, atol=2e-2)
        assert not layer.lora_B.weight.any()


def test_a_start_from_a_basis_is_not_drawn_anew(transformer: Toy) -> None:
    spec = EVA(basis=transformer.basis(), r=2)
    adapters = inject_adapters(transformer.model(), spec)
    before = {path: layer.lora_A.weight.detach().clone() for path, layer in adapters.layers.items()}
    adapters.draw_starts(["geometry 0"])
    for path, layer in adapters.layers.items():
        assert torch.equal(layer.lora_A.weight, before[path])
        torch.testing.assert_close(before[path], transformer.basis().layers[path].V[:, :2].T)
    drawn = inject_adapters(transformer.model(), LoRA(r=2))
    first = next(iter(drawn.layers.values())).lora_A.weight.detach().clone()
    drawn.draw_starts(["geometry 0"])
    assert not torch.equal(next(iter(drawn.layers.values())).lora_A.weight, first)


def test_mistakes_are_told_in_words(transformer: Toy) -> None:
    model = transformer.model()
    with pytest.raises(ConfigError, match="input directions here, fewer than the rank 4"):
        inject_adapters(model, EVA(basis=transformer.basis(2, 3), r=4))
    with pytest.raises(ConfigError, match="no batch"):
        gradient_basis(model, [])
    unused = nn.ModuleDict({"used": nn.Linear(3, 3), "other": nn.Linear(3, 3)})
    with pytest.raises(ConfigError, match="1 layers were never called, such as 'other'"):
        activation_moments(unused, (unused["used"](torch.ones(1, 3)) for _ in range(1)), targets="all")

"""The arithmetic of single adapter layers, against closed forms and over random shapes and dtypes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lorasub as ls
from lorasub.adapters.lora import lora_layer
from lorasub.adapters.projected import projected_layer
from lorasub.errors import ArtefactError, ConfigError

FLOAT64 = {"dtype": torch.float64}


def columns(rows, dim):
    return torch.linalg.qr(torch.randn(rows, dim, **FLOAT64))[0]


def random_layer(kind, base, dims=(2, 3), scale=1.5):
    """An adapter layer in float64 with trained values."""
    if kind == "projected":
        out, features = base.weight.flatten(1).shape
        subspace = ls.LayerSubspace(U=columns(out, min(dims[0], out)), V=columns(features, min(dims[1], features)))
        layer = projected_layer(base, subspace, scale=scale)
    else:
        layer = lora_layer(base, r=dims[0], lora_alpha=scale * dims[0], init=kind)
    with torch.no_grad():
        for parameter in layer.adapter_parameters().values():
            parameter += torch.randn_like(parameter)
    return layer


def dense(base, layer):
    """The same layer with the update in its weight, made by hand."""
    other = type(base).__new__(type(base))
    other.__dict__ = dict(base.__dict__)
    other._parameters = dict(base._parameters)
    update = layer.update()
    delta = (update.scale * update.B @ update.A).reshape(base.weight.shape)
    other._parameters["weight"] = nn.Parameter(base.weight.detach() + delta)
    return other


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["default", "pissa", "projected"]),
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=3),
    sizes=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    dims=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    scale=st.floats(0.1, 8),
)
def test_linear_of_any_shape(kind, shape, sizes, dims, scale):
    base = nn.Linear(*sizes, **FLOAT64)
    layer = random_layer(kind, base, dims, scale)
    x = torch.randn(*shape, sizes[0], **FLOAT64)
    torch.testing.assert_close(layer(x), dense(base, layer)(x), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["default", "pissa", "projected"]),
    channels=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    dims=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    batched=st.booleans(),
)
def test_convolution_of_any_shape(kind, channels, kernel, stride, padding, dilation, mode, dims, batched):
    base = nn.Conv2d(*channels, kernel, stride, padding, dilation, padding_mode=mode, **FLOAT64)
    layer = random_layer(kind, base, dims)
    x = torch.randn(*((2,) if batched else ()), channels[0], 7, 8, **FLOAT64)
    torch.testing.assert_close(layer(x), dense(base, layer)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["default", "pissa", "projected"])
@pytest.mark.parametrize("base", [nn.Linear(5, 4, **FLOAT64), nn.Conv2d(3, 4, 2, **FLOAT64)], ids=["linear", "conv"])
def test_gradients(kind, base):
    layer = random_layer(kind, base.requires_grad_(False))
    x = torch.randn((2, 3, 4, 4) if isinstance(base, nn.Conv2d) else (2, 5), requires_grad=True, **FLOAT64)
    names, values = zip(*layer.adapter_parameters().items(), strict=True)

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize("kind", ["default", "pissa", "projected"])
def test_autocast(kind):
    layer = random_layer(kind, nn.Linear(32, 48, **FLOAT64), dims=(4, 4)).float()
    x = torch.randn(6, 32)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x)
    assert output.dtype == torch.bfloat16
    assert (output - expected).abs().max() < 0.03 * expected.abs().max()
    output.float().square().sum().backward()
    for parameter in layer.adapter_parameters().values():
        assert parameter.dtype == parameter.grad.dtype == torch.float32


@pytest.mark.parametrize(
    "spec", [ls.LoRA(r=4, targets="all"), ls.LoRA(r=4, targets="all", init="pissa"), ls.PSV(dim=4, targets="all")]
)
def test_a_base_in_bfloat16_gets_adapters_in_float32(spec):
    model = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 8)).bfloat16()
    x = torch.randn(5, 16).bfloat16()
    expected = model(x)
    adapters = ls.inject_adapters(model, spec)
    assert {p.dtype for p in adapters.trainable_parameters().values()} == {torch.float32}
    assert torch.equal(model(x), expected)
    for parameter in adapters.trainable_parameters().values():
        parameter.data += 0.05 * torch.randn_like(parameter)
    output = model(x)
    assert output.dtype == torch.bfloat16
    adapters.merge()
    assert model[0].base_layer.weight.dtype == torch.bfloat16
    assert (model(x) - output).abs().max() < 0.05 * output.abs().max()


def test_merging_rounds_once():
    """The stored weight is the nearest bfloat16 to the exact sum, and the reported deviation is that rounding."""
    base = nn.Linear(64, 64).bfloat16()
    layer = lora_layer(base, r=4, lora_alpha=8.0)
    nn.init.normal_(layer.lora_B.weight)
    exact = base.weight.double() + 2.0 * layer.lora_B.weight.double() @ layer.lora_A.weight.double()
    deviation = layer.merge()
    assert torch.equal(base.weight, exact.bfloat16())
    assert deviation == pytest.approx((exact.bfloat16() - exact).abs().max().item(), rel=1e-6)


def test_dropout_only_while_training():
    layer = lora_layer(nn.Linear(6, 4), r=2, lora_alpha=2, dropout=0.5)
    nn.init.normal_(layer.lora_B.weight)
    x = torch.randn(64, 6)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))
    assert lora_layer(nn.Linear(6, 4), r=2, lora_alpha=2).lora_dropout is None


def test_starts_differ_from_run_to_run_and_follow_the_seed():
    """A shared start would look like a shared subspace."""

    def start(seed):
        torch.manual_seed(seed)
        return lora_layer(nn.Linear(6, 4), r=2, lora_alpha=4).lora_A.weight

    assert torch.equal(start(0), start(0))
    assert not torch.equal(start(0), start(1))


@settings(deadline=None, max_examples=25)
@given(dims=st.tuples(st.integers(1, 5), st.integers(1, 5)), scaled=st.booleans())
def test_projection_of_an_update_is_the_nearest_within_the_subspace(dims, scaled):
    base = nn.Linear(7, 6, **FLOAT64)
    U, V = columns(6, dims[0]), columns(7, dims[1])
    update = ls.LowRankUpdate(B=torch.randn(6, 2, **FLOAT64), A=torch.randn(2, 7, **FLOAT64), scale=0.7)
    nearest = U @ U.T @ (update.scale * update.B @ update.A) @ V @ V.T
    if scaled:  # columns as in the paper's files: same subspace, not orthonormal
        U, V = U @ torch.randn(dims[0], dims[0], **FLOAT64), V @ torch.randn(dims[1], dims[1], **FLOAT64)
    layer = projected_layer(base, ls.LayerSubspace(U=U, V=V), scale=2.0)
    layer.project(update)
    torch.testing.assert_close(layer.delta_weight(), nearest, rtol=1e-6, atol=1e-6)


def test_psv_is_the_leading_singular_vectors():
    base = nn.Linear(9, 7)
    layer = ls.PSV(dim=3).wrap("", base)
    U, _, Vh = torch.linalg.svd(base.weight.detach().double(), full_matrices=False)
    assert (layer.Q_out.T.double() @ U[:, :3]).abs() == pytest.approx(torch.eye(3).numpy(), abs=1e-4)
    assert (Vh[:3] @ layer.Q_in.double()).abs() == pytest.approx(torch.eye(3).numpy(), abs=1e-4)


def test_random_bases_depend_on_seed_and_path_alone():
    base = nn.Linear(12, 10)
    first = ls.RandomBasis(dim=4, seed=1).subspace("a", base)
    torch.manual_seed(99)
    again = ls.RandomBasis(dim=4, seed=1).subspace("a", nn.Linear(12, 10))
    assert torch.equal(first.U, again.U)
    assert torch.equal(first.V, again.V)
    for other in (ls.RandomBasis(dim=4, seed=2).subspace("a", base), ls.RandomBasis(dim=4, seed=1).subspace("b", base)):
        assert not torch.equal(first.U, other.U)
    for Q in (first.U, first.V):
        torch.testing.assert_close(Q.T @ Q, torch.eye(4), atol=1e-6, rtol=0)


def test_random_bases_are_uniform():
    """The mean projection on random subspaces of dimension d in n is d / n times the identity."""
    base = nn.Linear(5, 5)
    mean = sum((Q := ls.RandomBasis(dim=2, seed=seed).subspace("", base).U) @ Q.T for seed in range(600)) / 600
    torch.testing.assert_close(mean, 0.4 * torch.eye(5), atol=0.06, rtol=0)


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda: lora_layer(nn.Conv2d(4, 4, 3, groups=2), r=2, lora_alpha=4), ConfigError, "groups=2"),
        (lambda: lora_layer(nn.Linear(4, 3), r=4, lora_alpha=8, init="pissa"), ConfigError, "4 singular vectors"),
        (lambda: ls.RandomBasis(dim=5).wrap("", nn.Linear(4, 8)), ConfigError, "cannot have a basis of 5"),
        (
            lambda: projected_layer(nn.Linear(4, 3), ls.LayerSubspace(U=torch.eye(4), V=torch.eye(3)), scale=1),
            ArtefactError,
            "U needs 3 rows and V 4",
        ),
        (
            lambda: projected_layer(nn.Linear(4, 3), ls.LayerSubspace(U=torch.eye(3), V=torch.zeros(4, 0)), scale=1),
            ConfigError,
            "no dimension",
        ),
    ],
)
def test_what_cannot_be_adapted_is_said(make, error, word):
    with pytest.raises(error, match=word):
        make()

"""The block's fused operations against their plain formulas, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lorasub import VGGT
from lorasub.backbones.vggt.fused import LayerNorm, add_scaled, rotated_queries_keys
from lorasub.backbones.vggt.rope import apply_rotary, grid_positions, rotary_table


def norms() -> tuple[nn.LayerNorm, nn.LayerNorm]:
    """Two that differ and are far from the identity."""
    pair = nn.LayerNorm(16).double(), nn.LayerNorm(16).double()
    for norm in pair:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return pair


def plain_queries_keys(qkv: Tensor, q_norm: nn.Module, k_norm: nn.Module, table: tuple[Tensor, Tensor]) -> list[Tensor]:
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    return [apply_rotary(q_norm(q), table), apply_rotary(k_norm(k), table), v]


def test_queries_and_keys_are_normalised_and_rotated() -> None:
    """The same values and gradients, those of the norms' weights among them, as one operation after the other."""
    q_norm, k_norm = norms()
    table = rotary_table(grid_positions(2, 3, num_special=1), 16, 100.0, torch.float64)
    qkv = torch.randn(2, 7, 3, 2, 16, dtype=torch.float64, requires_grad=True)
    inputs = [qkv, q_norm.weight, q_norm.bias, k_norm.weight, k_norm.bias]
    found = rotated_queries_keys(qkv, q_norm, k_norm, table)
    expected = plain_queries_keys(qkv, q_norm, k_norm, table)
    upstream = [torch.randn_like(part) for part in expected]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-6)  # affine gradients are summed in float32


@pytest.mark.parametrize("trained", [True, False])
def test_layer_scale_with_residual(trained: bool) -> None:
    x, branch = (torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    gamma = torch.randn(8, dtype=torch.float64, requires_grad=trained)
    inputs = [x, branch, *([gamma] if trained else [])]
    assert torch.autograd.gradcheck(add_scaled, (x, branch, gamma))
    upstream = torch.randn_like(x)
    found = torch.autograd.grad(add_scaled(x, branch, gamma), inputs, upstream)
    expected = torch.autograd.grad(x + gamma * branch, inputs, upstream)
    assert all(torch.allclose(one, other) for one, other in zip(found, expected, strict=True))


def test_layer_norm_under_autocast_has_float32_statistics() -> None:
    """A large common offset would drown the differences if anything but the result were in bfloat16."""
    norm = LayerNorm(64)
    nn.init.normal_(norm.weight)
    x = (1000 + torch.randn(3, 64)).requires_grad_()
    expected = nn.functional.layer_norm(x, (64,), norm.weight, norm.bias)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.to(torch.bfloat16))
    upstream = torch.randn(3, 64).to(torch.bfloat16)
    one = torch.autograd.grad(found, [x, norm.weight, norm.bias], upstream)
    other = torch.autograd.grad(expected, [x, norm.weight, norm.bias], upstream.float())
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(one, other, strict=True))


def test_layer_norm_without_autocast_is_torchs_own() -> None:
    norm, x = LayerNorm(8), torch.randn(2, 8)
    assert torch.equal(norm(x), nn.functional.layer_norm(x, (8,), norm.weight, norm.bias))
    assert norm.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_autocast_changes_predictions_by_the_rounding_of_bfloat16_only(tiny: VGGT, images: Tensor) -> None:
    """Against the float32 model, no worse than the same model whose weights and inputs are rounded to bfloat16."""
    with torch.no_grad():
        exact = tiny(images)
        with torch.autocast("cpu", torch.bfloat16):
            found = tiny(images)
        rounded = copy.deepcopy(tiny).bfloat16()(images.bfloat16())
    for name in ("pose_encoding", "depth", "world_points"):
        reference = getattr(exact, name)
        error = (getattr(found, name).float() - reference).norm() / reference.norm()
        limit = (getattr(rounded, name).float() - reference).norm() / reference.norm()
        assert error <= limit, f"{name}: {error:.2g} against {limit:.2g}"


def test_every_weight_gets_the_gradient_of_the_plain_formulas(tiny: VGGT, images: Tensor, monkeypatch) -> None:
    """The whole model in float64; where torch compiles, the plain formulas are what runs."""
    model, images = tiny.double(), images.double()

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        found = model(images)
        (found.pose_encoding.square().sum() + found.depth.log().sum() + found.world_points.square().sum()).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    fused = gradients()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    plain = gradients()
    assert fused.keys() == plain.keys()
    for name, gradient in plain.items():
        scale = gradient.abs().max() + 1e-12
        assert (fused[name] - gradient).abs().max() <= 1e-5 * scale, name

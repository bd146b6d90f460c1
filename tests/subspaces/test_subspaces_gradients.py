"""Sums, moments and agreement of gradients, against numpy and planted directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lorasub.errors import NumericalError
from lorasub.rng import seed_of
from lorasub.subspaces import (
    Agreement,
    GradientSet,
    LayerGradients,
    compare_gradients,
    gradient_agreement,
    mean_agreement,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_sums_and_moments_are_those_of_numpy() -> None:
    gradients = [normal(5, 3, seed=i) for i in range(4)]
    kept = LayerGradients(moments=True, unit=False)
    for gradient in gradients:
        kept.add("layer", gradient)
    array = np.stack([g.double().numpy() for g in gradients])
    assert np.allclose(kept.total["layer"], array.sum(0), atol=1e-5)
    assert np.allclose(kept.output_moment["layer"], sum(g @ g.T for g in array), atol=1e-4)
    assert np.allclose(kept.input_moment["layer"], sum(g.T @ g for g in array), atol=1e-4)
    assert kept.counts == {"layer": 4}


def test_unit_moments_weigh_batches_alike() -> None:
    kept = LayerGradients(moments=True)
    kept.add("layer", 1000.0 * normal(5, 3, seed=1))
    kept.add("layer", 0.001 * normal(5, 3, seed=2))
    assert torch.trace(kept.output_moment["layer"]).item() == pytest.approx(2.0, rel=1e-5)
    assert torch.trace(kept.input_moment["layer"]).item() == pytest.approx(2.0, rel=1e-5)


def test_convolutions_are_read_as_matrices() -> None:
    kept = LayerGradients()
    kept.add("conv", normal(4, 3, 2, 2))
    assert kept.total["conv"].shape == (4, 12)
    assert not kept.output_moment


def test_what_is_added_is_not_kept() -> None:
    kept, gradient = LayerGradients(), torch.ones(2, 2)
    kept.add("layer", gradient)
    gradient.zero_()
    assert torch.equal(kept.total["layer"], torch.ones(2, 2))


def test_not_finite_is_told_with_the_layer() -> None:
    with pytest.raises(NumericalError, match=r"layer blocks\.0 is not finite"):
        LayerGradients().add("blocks.0", torch.tensor([[1.0, torch.nan]]))


def test_they_come_back_from_a_file(tmp_path: Path) -> None:
    kept = LayerGradients()
    for layer in ("a.0", "a.1"):
        kept.add(layer, normal(3, 4, seed=len(layer)))
    stored = kept.save(tmp_path / "gradients.safetensors")
    assert list(stored) == ["a.0", "a.1"]
    assert len(stored) == 2
    assert torch.equal(stored["a.1"], kept.total["a.1"])
    with pytest.raises(KeyError):
        stored["b"]


def test_agreement_is_cosine_and_rv_as_they_are_defined() -> None:
    one, two = normal(7, 4, seed=1), normal(7, 4, seed=2)
    a, b = one.double().numpy(), two.double().numpy()
    found = gradient_agreement(one, two)
    assert found.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)
    for value, (x, y) in {
        found.rv_output: (a @ a.T, b @ b.T),
        found.rv_input: (a.T @ a, b.T @ b),
    }.items():
        assert value == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-5)


def test_agreement_of_what_is_known() -> None:
    gradient = normal(6, 5)
    assert gradient_agreement(gradient, 3 * gradient) == pytest.approx((1, 1, 1), abs=1e-5)
    assert gradient_agreement(gradient, -gradient) == pytest.approx((-1, 1, 1), abs=1e-5)
    rotation = torch.linalg.qr(normal(5, 5, seed=3))[0]
    turned = gradient_agreement(gradient, gradient @ rotation)
    assert turned.rv_output == pytest.approx(1, abs=1e-5)  # the output side is the same
    assert turned.rv_input < 0.9
    left = torch.zeros(6, 5)
    left[0, 0] = 1
    right = torch.zeros(6, 5)
    right[1, 1] = 1
    assert gradient_agreement(left, right) == pytest.approx((0, 0, 0), abs=1e-6)
    assert np.isnan(gradient_agreement(left, torch.zeros(6, 5))).all()


def planted(attribute: str, number: int, strength: float) -> GradientSet:
    """Both halves hold the attribute's own direction, and noise."""
    halves = []
    for half in (0, 1):
        layers = {}
        for place, layer in enumerate(("frame_blocks.0.qkv", "frame_blocks.1.qkv", "global_blocks.0.proj")):
            own = normal(12, 10, seed=seed_of(attribute, place))
            noise = normal(12, 10, seed=seed_of(attribute, number, half, place, "noise"))
            layers[layer] = strength * own / own.norm() + noise / noise.norm()
        halves.append(layers)
    return GradientSet(name=f"{attribute} {number}", attribute=attribute, halves=(halves[0], halves[1]))


def test_planted_attributes_are_found() -> None:
    """Halves and partitions agree at s^2 / (1 + s^2), other attributes do not."""
    sets = [planted(name, number, 2.0) for name in ("one", "two") for number in (0, 1)]
    found = {(a.one, a.two): a for a in compare_gradients(sets)}
    assert len(found) == 4 + 6
    assert found["one 0", "one 0"].whole.cosine == pytest.approx(0.8, abs=0.08)
    assert found["one 0", "one 1"].whole.cosine == pytest.approx(0.8, abs=0.05)
    assert abs(found["one 0", "two 1"].whole.cosine) < 0.12
    assert found["one 0", "one 1"].whole.rv_output > found["one 0", "two 1"].whole.rv_output + 0.2


def test_groups_are_means_over_layers_of_a_kind() -> None:
    (found,) = compare_gradients([planted("one", 0, 1.0)])
    groups = found.groups()
    assert list(groups) == ["frame_blocks qkv", "global_blocks proj"]
    expected = mean_agreement([found.layers["frame_blocks.0.qkv"], found.layers["frame_blocks.1.qkv"]])
    assert groups["frame_blocks qkv"] == expected
    assert mean_agreement([Agreement(1, 0, 0), Agreement(float("nan"), 1, 0)]) == pytest.approx((1, 0.5, 0))


def test_no_sets_no_rows() -> None:
    assert compare_gradients([]) == []

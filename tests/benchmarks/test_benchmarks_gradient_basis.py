"""The cost of a basis from gradients, counted, against closed forms."""

from __future__ import annotations

import pytest

from benchmarks.gradient_basis import count, decomposition_seconds
from lorasub import VGGT
from lorasub.adapters.layer_pass import target_layers


def test_counts_are_those_of_the_layers_shapes() -> None:
    one, found = (count("nano", views=views, size=28) for views in (1, 2))
    model = VGGT.from_preset("nano", heads=("camera", "depth"))
    shapes = [layer.weight.shape for layer in target_layers(model, "blocks").values()]
    assert found.layers == len(shapes) == 32
    assert found.moment_flops == sum(2 * (out * out * into + into * into * out) for out, into in shapes)
    assert found.moment_bytes == sum(4 * (out * out + into * into) for out, into in shapes)
    assert found.gradient_bytes == 4 * 768 * 192
    assert found.sides == {192: 32 + 8, 576: 8, 768: 16}
    assert found.weight_bytes == pytest.approx(4 * sum(p.numel() for p in model.parameters()), rel=1e-3)  # and buffers
    # in each direction at least the blocks' own products: 2 views x (4 patches + 5 other tokens)
    assert found.pass_flops > 3 * sum(2 * 2 * 9 * out * into for out, into in shapes)
    assert found.memory > found.moment_bytes + found.weight_bytes
    # more views: more passes, no more moments
    assert found.moment_flops == one.moment_flops
    assert 1.5 < found.pass_flops / one.pass_flops < 2.5


def test_decompositions_are_timed_by_size() -> None:
    assert decomposition_seconds({8: 2, 6: 1}, 2) > 0

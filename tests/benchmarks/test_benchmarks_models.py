"""Every backbone that memory and launches are counted of."""

from __future__ import annotations

import pytest

from benchmarks.launches import build, count_step
from benchmarks.models import on_meta
from lorasub.backbones.opening import preset_image_size


@pytest.mark.parametrize("name", ["da3-small", "depth-anything-v2-large"])
def test_models_stand_on_meta_under_their_names(name: str) -> None:
    model = on_meta(name)
    assert model.model_id == name
    assert all(parameter.is_meta for parameter in model.parameters())
    if name != "depth-anything-v2-large":
        assert preset_image_size(name) % model.patch_size == 0


def test_frozen_weights_in_bfloat16_save_depth_anything_3_casts() -> None:
    plain = count_step(build("lora", "da3-small", None), (1, 2, 3, 56, 56), backward=True)
    half = count_step(build("lora bf16", "da3-small", None), (1, 2, 3, 56, 56), backward=True)
    linears = 12 * 4  # query-key-value, projection and two layers of the MLP in each block
    assert plain.casts - half.casts == 2 * linears
    assert plain.total - half.total == 2 * linears

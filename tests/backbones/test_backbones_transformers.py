"""Depth models of transformers: what they predict becomes z-depth; loading; messages. Random weights, no hub."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from depth_models import BUILDERS, depth_anything, depth_pro, dpt, glpn, zoedepth

from lorasub import LoRA, TransformersDepth, inject_adapters
from lorasub.adapters.targets import select
from lorasub.errors import ConfigError

transformers = pytest.importorskip("transformers")


@torch.no_grad()
def test_metric_depth_is_what_the_model_says_of_normalised_views() -> None:
    model, images = depth_anything("metric"), torch.rand(2, 3, 3, 28, 42)
    wrapped = TransformersDepth(model, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    normalised = (images - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    expected = model(pixel_values=normalised.flatten(0, 1)).predicted_depth
    assert torch.allclose(wrapped(images).depth.flatten(0, 1), expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("build", [lambda: depth_anything("relative"), dpt], ids=["depth_anything", "dpt"])
def test_inverse_depth_is_inverted_and_a_sky_is_far_but_finite(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    wrapped = TransformersDepth(model)
    size = 2 * wrapped.patch_size
    inverse = torch.rand(2, size, size) + 0.1
    inverse[:, :3] = 0.0
    output = transformers.modeling_outputs.DepthEstimatorOutput(predicted_depth=inverse)
    monkeypatch.setattr(model, "forward", lambda pixel_values: output)
    depth = wrapped(torch.rand(1, 2, 3, size, size)).depth[0]
    assert torch.allclose(depth[:, 3:], 1 / inverse[:, 3:])
    assert torch.isfinite(depth).all()
    assert (depth[:, :3] > 100 * depth[:, 3:].mean()).all()


@torch.no_grad()
@pytest.mark.parametrize(("build", "size"), [(zoedepth, (64, 96)), (glpn, (32, 64))], ids=["zoedepth", "glpn"])
def test_metric_models_give_metres_of_images_as_their_authors_normalise_them(build: Any, size: tuple[int, int]) -> None:
    """ZoeDepth's images are centred and scaled by one half, GLPN's are left as they are."""
    model, images = build(), torch.rand(1, 2, 3, *size)
    pixels = images[0] if build is glpn else 2 * images[0] - 1
    expected = model(pixel_values=pixels).predicted_depth
    found = TransformersDepth(model)(images).depth[0]
    assert torch.allclose(found, expected, atol=1e-5)
    assert found.std() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("degrees", [40.0, 75.0])
def test_depth_pros_canonical_inverse_depth_becomes_metres_by_its_field_of_view(
    degrees: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bochkovskii et al. 2024, equation 1: depth = f_px / (W C), with the focal length that its own head sees."""
    model = depth_pro()
    wrapped = TransformersDepth(model)
    canonical = torch.rand(2, 256, 256) + 0.1
    canonical[:, :2] = 0.0
    output = transformers.models.depth_pro.modeling_depth_pro.DepthProDepthEstimatorOutput(
        predicted_depth=canonical, field_of_view=torch.full((2,), degrees)
    )
    monkeypatch.setattr(model, "forward", lambda pixel_values: output)
    depth = wrapped(torch.rand(1, 2, 3, 256, 256)).depth[0]
    focal = 128 / math.tan(math.radians(degrees) / 2)
    assert torch.allclose(depth[:, 2:], focal / (256 * canonical[:, 2:]), rtol=1e-5)
    assert depth[:, :2].min() == pytest.approx(1e4)


@pytest.mark.parametrize("name", BUILDERS)
def test_gradients_reach_every_group_and_sizes_that_do_not_fit_are_refused(name: str) -> None:
    wrapped = TransformersDepth(BUILDERS[name](), model_id=name)
    size = wrapped.patch_size * (1 if name == "depth_pro" else 2)
    assert set(wrapped.groups) == {"encoder", "blocks", "depth_head", "heads"}
    adapters = inject_adapters(wrapped, LoRA(r=1, targets=("encoder", "heads")))
    depth = wrapped(torch.rand(1, 1, 3, size, size)).depth
    assert depth.shape == (1, 1, size, size)
    assert torch.isfinite(depth).all()
    assert (depth > 0).all()
    depth.log().square().mean().backward()
    gradients = {path: layer.lora_B.weight.grad for path, layer in adapters.layers.items()}
    for group, patterns in wrapped.groups.items():
        found = [gradients[path] for path in select(gradients, patterns)]
        assert any(gradient is not None and gradient.abs().max() > 0 for gradient in found), group
    size = wrapped.patch_size
    with pytest.raises(ConfigError, match=f"multiples of its patch size {size}"):
        wrapped(torch.rand(1, 1, 3, size, size + 1))


def test_depth_pro_without_a_field_of_view_says_that_its_scale_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="lorasub"):
        TransformersDepth(depth_pro(field_of_view=False), model_id="pro")
    assert "pro predicts no field of view: the scale of its depth is unknown" in caplog.text


def test_views_do_not_see_each_other_and_sizes_are_checked() -> None:
    wrapped = TransformersDepth(depth_anything("metric"))
    images = torch.rand(1, 3, 3, 28, 28)
    with torch.no_grad():
        together, alone = wrapped(images), wrapped(images[:, 1:2])
    assert torch.allclose(together.depth[:, 1:2], alone.depth, atol=1e-6)
    assert (together.pose_encoding, together.world_points, together.depth_conf) == (None, None, None)
    with pytest.raises(ConfigError, match="multiples of its patch size 14"):
        wrapped(torch.rand(1, 1, 3, 28, 30))
    with pytest.raises(ConfigError, match="square"):
        TransformersDepth(dpt())(torch.rand(1, 1, 3, 32, 48))


def test_a_folder_is_loaded_with_its_normalisation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    depth_anything("metric").save_pretrained(tmp_path / "tiny")
    with caplog.at_level(logging.WARNING, logger="lorasub"):
        first = TransformersDepth.from_pretrained(tmp_path / "tiny")
    assert "those of depth_anything are assumed: ([0.485" in caplog.text
    stated = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (tmp_path / "tiny" / "preprocessor_config.json").write_text(json.dumps(stated), encoding="utf-8")
    second = TransformersDepth.from_pretrained(tmp_path / "tiny").eval()
    assert second.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert second.std.flatten().tolist() == [0.25, 0.25, 0.25]
    assert first.weights_hash() == second.weights_hash()
    assert second.model_id == "tiny"
    with torch.device("meta"):
        assert next(TransformersDepth.from_pretrained(tmp_path / "tiny").parameters()).is_meta


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no depth model that transformers can load"):
        TransformersDepth.from_pretrained(tmp_path)
    model = torch.nn.Linear(3, 3)
    model.config = SimpleNamespace(model_type="unheard_of", patch_size=14)
    with pytest.raises(ConfigError, match="pass depth_kind"):
        TransformersDepth(model)
    assert TransformersDepth(model, depth_kind="inverse").depth_kind == "inverse"

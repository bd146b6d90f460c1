"""Depth models of transformers: what they predict becomes z-depth; loading; messages. Random weights, no hub."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from depth_models import NECK, depth_anything

from lorasub import TransformersDepth
from lorasub.cli.main import main
from lorasub.errors import ConfigError
from lorasub.files import read_json

transformers = pytest.importorskip("transformers")


def dpt() -> Any:
    config = transformers.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        is_hybrid=False,
        **NECK,
    )
    return transformers.DPTForDepthEstimation(config).eval()


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
    assert "ImageNet's are assumed" in caplog.text
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


def test_the_command_line_fits_and_tests_one(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth alone is trained and scored; cameras and points are not there to be."""
    monkeypatch.chdir(tmp_path)
    depth_anything("metric").save_pretrained(tmp_path / "tiny")
    words = ["--config", str(repository / "configs" / "geometry.yaml")]
    words += ["--model.backbone=lorasub.TransformersDepth.from_pretrained", "--model.backbone.source=tiny"]
    words += ["--data.image_size=28", "--data.num_scenes=4", "--data.val_scenes=2", "--data.num_views=2"]
    words += ["--data.batch_size=2", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    words += ["--trainer.enable_progress_bar=false", "--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    assert main(["fit", *words]) == 0
    told = read_json(tmp_path / "runs" / "geometry" / "0" / "before_after.json")["metrics"]
    assert told["val/abs_rel"]["after"] > 0
    assert (tmp_path / "runs" / "geometry" / "0" / "adapter" / "adapter_model.safetensors").is_file()

"""Fits on the device: every config, resuming, the strategies, a bank, rendered scenes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lorasub import SyntheticScenes
from lorasub.cli.main import main
from lorasub.files import read_tensors
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.rendering.renderer import Renderer

pytestmark = pytest.mark.gpu

REPOSITORY = Path(__file__).resolve().parents[2]
#: Those that need nothing but what the package holds.
CONFIGS = [REPOSITORY / "configs" / f"{name}.yaml" for name in ("geometry", "texture", "camera", "lighting")]


def tiny(weights: Path, folder: Path, trainer_words: list[str]) -> list[str]:
    """A small backbone, few small scenes, and where the run goes."""
    return [
        *("--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={weights}"),
        *("--data.image_size=28", "--data.num_scenes=8", "--data.val_scenes=2", "--data.num_views=2"),
        *("--data.batch_size=2", "--trainer.enable_progress_bar=false", f"--run.folder={folder}", *trainer_words),
    ]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_attributes_config_fits(
    config: Path, tiny_weights: Path, tmp_path: Path, trainer_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", str(config), *tiny(tiny_weights, tmp_path, trainer_words), "--trainer.fast_dev_run=1"]
    assert main(words) == 0


def test_a_resumed_fit_ends_where_an_undisturbed_one_does(
    tiny_weights: Path, tmp_path: Path, trainer_words: list[str]
) -> None:
    """To rounding: sums on a GPU may come in another order. A step of AdamW moves each number by 1e-3 or less."""
    common = ["fit", "--config", str(CONFIGS[0]), *tiny(tiny_weights, tmp_path, trainer_words)]
    common += ["--trainer.precision=32-true", "--trainer.val_check_interval=2", "--panels.scenes=0"]
    assert main([*common, "--run.name=whole", "--trainer.max_steps=4"]) == 0
    assert (
        main(
            [
                *common,
                "--run.name=part",
                "--trainer.max_steps=4",
                "--checkpoint.every_n_train_steps=2",
                "--checkpoint.save_top_k=-1",
            ]
        )
        == 0
    )
    (checkpoint, *_) = sorted((tmp_path / "part" / "0" / "checkpoints").glob("*step=2*.ckpt"))
    assert main([*common, "--run.name=part", "--trainer.max_steps=4", f"--ckpt_path={checkpoint}"]) == 0
    whole, resumed = adapter(tmp_path / "whole" / "0"), adapter(tmp_path / "part" / "0")
    assert whole.keys() == resumed.keys()
    assert all(torch.allclose(whole[name], resumed[name], atol=1e-4) for name in whole)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_strategies_on_one_device(strategy: str, tiny_weights: Path, tmp_path: Path, trainer_words: list[str]) -> None:
    common = ["fit", "--config", str(CONFIGS[0]), *tiny(tiny_weights, tmp_path, trainer_words), "--panels.scenes=0"]
    common += ["--trainer.precision=32-true", "--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    assert main([*common, "--run.name=plain"]) == 0
    assert main([*common, f"--run.name={strategy}", f"--trainer.strategy={strategy}"]) == 0
    plain, found = adapter(tmp_path / "plain" / "0"), adapter(tmp_path / strategy / "0")
    assert plain.keys() == found.keys()
    assert all(torch.allclose(plain[name], found[name], atol=1e-4) for name in plain)


def test_results_name_the_device_and_precision(tiny_weights: Path, tmp_path: Path, trainer_words: list[str]) -> None:
    words = ["fit", "--config", str(CONFIGS[0]), *tiny(tiny_weights, tmp_path, trainer_words), "--run.name=seen"]
    assert main([*words, "--trainer.max_steps=1", "--trainer.val_check_interval=1"]) == 0
    told = json.loads((tmp_path / "seen" / "0" / "before_after.json").read_text())
    assert told["metrics"]


def test_rendered_pictures_are_those_of_the_cpu(device: torch.device) -> None:
    scenes = SceneSampler(attribute="all", seed=3, num_views=2).sample(range(2))
    renderer = Renderer((56, 56), antialias=False, shadow_samples=1)
    here, there = renderer.render(scenes), renderer.render(scenes.to(device))
    same_depth = ((here.depth - there.depth.cpu()).abs() <= 1e-3 * here.depth.abs().clamp(min=1)).float().mean()
    same_color = ((here.rgb - there.rgb.cpu()).abs() <= 2 / 255).float().mean()
    assert same_depth > 0.999
    assert same_color > 0.995


def test_scenes_arrive_on_the_device(device: torch.device) -> None:
    data = SyntheticScenes(attribute="geometry", num_scenes=2, val_scenes=1, image_size=28, batch_size=2)
    described = data.train_sampler.sample([0, 1]).to(device)
    batch = data.on_after_batch_transfer(described, 0)
    assert batch.images.device.type == device.type
    assert torch.isfinite(batch.depth).all()


@pytest.mark.slow
def test_a_bank_of_adapters_ends_like_separate_fits(device: torch.device) -> None:
    """Three steps of SGD on two adapters at once and one after the other."""
    import lorasub as ls

    images = torch.rand(4, 2, 3, 112, 112, device=device)

    def objective(predictions: ls.Predictions) -> torch.Tensor:
        assert predictions.depth is not None
        return predictions.depth.log().square().flatten(1).mean(1)

    def fit(spec: ls.AdapterSpec, views: torch.Tensor) -> ls.AdapterSet:
        adapters = ls.inject_adapters(ls.VGGT.from_preset("nano").to(device), spec)
        optimizer = torch.optim.SGD(adapters.trainable_parameters().values(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = objective(adapters.model(views))
            loss.unflatten(0, (adapters.count, -1)).mean(1).sum().backward()
            optimizer.step()
        return adapters

    together = fit(ls.LoRABank(count=2, seeds=(1, 2), r=4), images)
    for index, seed in enumerate((1, 2)):
        torch.manual_seed(seed)
        alone = fit(ls.LoRA(r=4), images.chunk(2)[index]).state_dict()
        with together.only(index):  # type: ignore[attr-defined]
            own = together.state_dict()
        assert all(torch.allclose(own[name], alone[name], atol=1e-4) for name in alone)

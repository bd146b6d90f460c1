"""Every backbone does everything: adapters of each kind, files, merging, mining, overlaps, the estimate, a fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from depth_models import depth_anything
from omega_stand_in import install_stand_in, omega
from test_backbones_depth_anything_3 import CONFIGS
from torch import Tensor

import lorasub as ls
from lorasub import Backbone, Predictions
from lorasub.adapters import load_adapters
from lorasub.backbones.opening import open_backbone
from lorasub.cli.main import main
from lorasub.contracts import EncoderModel
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_json
from lorasub.study import (
    AdapterFits,
    Basis,
    Downstream,
    Method,
    Mining,
    Store,
    Study,
    Workers,
    plan_study,
    run_graph,
)
from lorasub.study.report import write_report


def depth_model() -> Backbone:
    """Metric, so that its depth needs no inverse."""
    return ls.TransformersDepth(depth_anything("metric"), model_id="tiny-depth-anything")


SPECS: dict[str, Callable[[], ls.AdapterSpec]] = {
    "lora": lambda: ls.LoRA(r=2, targets="blocks"),
    "projected": lambda: ls.RandomBasis(dim=4, targets="blocks"),
}


@pytest.fixture(params=["vggt", "depth_anything_3", "vggt_omega", "transformers"])
def make(
    request: pytest.FixtureRequest, tiny_config: ls.VGGTConfig, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Backbone]:
    """The same weights whenever it is called."""
    install_stand_in(monkeypatch)
    kinds: dict[str, Callable[[], Backbone]] = {
        "vggt": lambda: ls.VGGT(tiny_config),
        "depth_anything_3": lambda: ls.DepthAnything3(CONFIGS["giant"]),
        "vggt_omega": omega,
        "transformers": depth_model,
    }

    def build() -> Backbone:
        torch.manual_seed(0)
        model = kinds[request.param]().eval()
        if not next(model.parameters()).is_meta:
            with torch.no_grad():  # initial weights are so small that gradients vanish
                for parameter in model.parameters():
                    wide = max(1.0, parameter[0].numel() / 64) if parameter.ndim > 1 else 1.0
                    parameter.add_(0.1 / wide**0.5 * torch.randn_like(parameter))
        return model

    return build


@pytest.fixture
def images(make: Callable[[], Backbone]) -> Tensor:
    size = 2 * make().patch_size
    return torch.rand(2, 2, 3, size, size)


def depth(predictions: Predictions) -> Tensor:
    assert predictions.depth is not None
    return predictions.depth


def moved(adapters: ls.AdapterSet, seed: int = 0) -> ls.AdapterSet:
    """Adapters that no longer add zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.trainable_parameters().values():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return adapters


@pytest.mark.parametrize("kind", SPECS)
def test_an_adapter_starts_as_the_base_model_and_learns(
    make: Callable[[], Backbone], images: Tensor, kind: str
) -> None:
    model = make()
    with torch.no_grad():
        before = depth(model(images))
    adapters = ls.inject_adapters(model, SPECS[kind]())
    assert torch.allclose(depth(model(images)), before, atol=1e-5)
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.Adam(adapters.trainable_parameters().values(), lr=0.003)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = (depth(model(images)) - 1.5 * before).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if not p.requires_grad)


@pytest.mark.parametrize("kind", SPECS)
@torch.no_grad()
def test_adapters_survive_files_and_merging(
    make: Callable[[], Backbone], images: Tensor, tmp_path: Path, kind: str
) -> None:
    adapters = moved(ls.inject_adapters(make(), SPECS[kind]()))
    expected = depth(adapters.model(images))
    adapters.save(tmp_path / "adapter")
    loaded = load_adapters(make(), tmp_path / "adapter")
    assert torch.allclose(depth(loaded.model(images)), expected, atol=1e-5)
    adapters.merge()
    assert torch.allclose(depth(adapters.model(images)), expected, atol=1e-4)


@torch.no_grad()
def test_peft_reads_what_is_exported(make: Callable[[], Backbone], images: Tensor, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    adapters = moved(ls.inject_adapters(make(), SPECS["lora"]()))
    adapters.save(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(make(), str(tmp_path / "adapter"))
    assert torch.allclose(depth(theirs(images)), depth(adapters.model(images)), atol=1e-5)


def test_subspaces_are_mined_compared_and_trained_in(make: Callable[[], Backbone], tmp_path: Path) -> None:
    for index in range(2):
        model = make()
        torch.manual_seed(10 + index)  # adapters that start alike are refused
        moved(ls.inject_adapters(model, SPECS["lora"]()), seed=index).save(tmp_path / str(index))
    basis = ls.mine_subspace([tmp_path / "0", tmp_path / "1"], dim=2)
    report = ls.subspace_overlap(basis, basis)
    assert report.layers
    phi = [layer.measurements()["output", "phi"].value for layer in report.layers]
    assert phi == pytest.approx([1.0] * len(phi), abs=1e-5)
    other = ls.mine_subspace([tmp_path / "0", tmp_path / "1"], dim=1)
    shared = ls.combine_subspaces({"geometry": basis, "texture": other})
    assert set(shared.layers) == set(basis.layers)
    model = make()
    adapters = ls.inject_adapters(model, ls.ProjectedLoRA(basis=shared, targets="blocks"))
    assert set(adapters.layers) == set(basis.layers)
    with pytest.raises(ArtefactError, match="base model"):
        ls.inject_adapters(changed(make()), ls.ProjectedLoRA(basis=shared, targets="blocks"))


def changed(model: Backbone) -> Backbone:
    with torch.no_grad():
        next(model.parameters()).add_(1)
    return model


def test_the_contract_is_kept(make: Callable[[], Backbone]) -> None:
    report = ls.check_backbone(make(), views=2)
    assert [finding for finding in report.findings if finding.verdict == "wrong"] == []


def test_weights_are_saved_and_opened_again(make: Callable[[], Backbone], images: Tensor, tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path / "saved")
    again = open_backbone(tmp_path / "saved").eval()
    assert type(again) is type(model)
    assert again.weights_hash() == model.weights_hash()
    with torch.no_grad():
        assert torch.allclose(depth(again(images)), depth(model(images)), atol=1e-5)


def test_the_encoder_is_cached_or_the_message_says_that_it_cannot_be(
    make: Callable[[], Backbone], images: Tensor
) -> None:
    task = ls.GeometryTask(make(), ls.LoRA(r=2, targets="blocks"))
    callback, trainer = ls.EncoderCache(), ls.Trainer(logger=False, barebones=True, accelerator="cpu")
    trainer.datamodule = None
    if isinstance(task.backbone, EncoderModel):
        callback.on_fit_start(trainer, task)
        with torch.no_grad():
            first, second = depth(task.backbone(images)), depth(task.backbone(images))
        assert torch.equal(first, second)
        assert "50% of 8 images came from the cache" in callback._cache.report()
        callback.on_fit_end(trainer, task)
    else:
        with pytest.raises(ConfigError, match=f"{type(task.backbone).__name__} has none"):
            callback.on_fit_start(trainer, task)


def test_memory_is_counted_on_the_meta_device(make: Callable[[], Backbone]) -> None:
    with torch.device("meta"):
        task = ls.GeometryTask(make(), ls.LoRA(r=2, targets="blocks"))
    size = 2 * task.backbone.patch_size
    found = ls.estimate_memory(task, scenes=1, views=2, image_size=(size, size))
    assert found.total > sum(found.weights.values()) > 0
    assert found.activations.flops > 0


@pytest.mark.parametrize("make", ["depth_anything_3", "vggt_omega", "transformers"], indirect=True)
def test_the_command_line_fits_tests_exports_mines_and_merges(
    make: Callable[[], Backbone], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = make()
    kind, size = type(model).__name__, 2 * model.patch_size
    model.save_pretrained("base")
    words = ["--config", str(repository / "configs" / "geometry.yaml"), f"--data.image_size={size}"]
    words += [f"--model.backbone=lorasub.{kind}.from_pretrained", "--model.backbone.source=base"]
    words += ["--data.num_scenes=4", "--data.val_scenes=2", "--data.num_views=2", "--data.batch_size=2"]
    words += ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.enable_progress_bar=false"]
    words += ["--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    assert main(["fit", *words]) == 0
    run = tmp_path / "runs" / "geometry" / "0"
    told = read_json(run / "before_after.json")["metrics"]
    assert told["val/abs_rel"]["after"] > 0
    assert main(["test", f"--ckpt_path={run}"]) == 0
    assert main(["export", str(run), "--out=peft"]) == 0
    assert (tmp_path / "peft" / "adapter_model.safetensors").is_file()
    again = moved(load_adapters(open_backbone("base"), run / "adapter"))
    again.set_starts({})
    again.save("other")
    assert main(["mine", str(run / "adapter"), "other", "--dim=2", "--out=basis"]) in (0, 1)
    assert main(["merge", str(run), "--base=base", "--out=merged"]) == 0
    merged, adapted = open_backbone("merged").eval(), load_adapters(open_backbone("base"), run / "adapter").model.eval()
    images = torch.rand(1, 2, 3, size, size)
    with torch.no_grad():
        assert torch.allclose(depth(merged(images)), depth(adapted(images)), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", ["depth_anything_3", "transformers"], indirect=True)
def test_a_study_runs_on_it(make: Callable[[], Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters of two attributes, a basis that is mined from them, and both compared downstream."""
    monkeypatch.chdir(tmp_path)
    model = make()
    model.save_pretrained("base")
    sizes = {"num_scenes": 4, "val_scenes": 2, "num_views": 2, "batch_size": 2, "image_size": 2 * model.patch_size}
    scenes = {"class_path": "SyntheticScenes", "init_args": sizes | {"antialias": False, "shadow_samples": 1}}
    lora = {"class_path": "LoRA", "init_args": {"r": 2, "targets": "blocks"}}
    projected = {"class_path": "ProjectedLoRA", "init_args": {"basis": "combined", "targets": "blocks"}}
    source = {"class_path": f"lorasub.{type(model).__name__}.from_pretrained", "init_args": {"source": "base"}}
    study = Study(
        name="other",
        backbone=source,
        attributes=["geometry", "texture"],
        partitions=2,
        adapters=AdapterFits(adapter=lora, data=scenes, steps=2),
        mining=Mining(dim=2, null_draws=2, overlap_dim=2, overlap_draws=10),
        bases={"combined": Basis()},
        methods={
            "none": Method(),
            "lora": Method(adapter=[lora], learning_rates=[1e-3]),
            "mined": Method(adapter=[projected], learning_rates=[1e-2]),
        },
        downstream={"room": Downstream(data=scenes, steps=2, scenes=[2])},
        seeds=[0],
        trainer={"accelerator": "cpu"},
    )
    plan, store = plan_study(study), Store(study.folder)
    outcome = run_graph(plan.graph, store, Workers(), retries=0)
    assert outcome.failed == {}
    assert outcome.done == plan.graph.keys()
    assert "mined" in write_report(plan, store, command="x").read_text()

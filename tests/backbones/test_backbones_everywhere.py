"""Every backbone does everything: adapters of each kind, files, merging, mining, overlaps, the estimate, a fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from depth_models import depth_anything
from torch import Tensor

import lorasub as ls
from lorasub import Backbone, Predictions
from lorasub.adapters import load_adapters


def depth_model() -> Backbone:
    """Metric, so that its depth needs no inverse."""
    return ls.TransformersDepth(depth_anything("metric"), model_id="tiny-depth-anything")


SPECS: dict[str, Callable[[], ls.AdapterSpec]] = {
    "lora": lambda: ls.LoRA(r=2, targets="blocks"),
    "projected": lambda: ls.RandomBasis(dim=4, targets="blocks"),
}


@pytest.fixture(params=["vggt", "depth_anything"])
def make(request: pytest.FixtureRequest, tiny_config: ls.VGGTConfig) -> Callable[[], Backbone]:
    """The same weights whenever it is called."""

    def build() -> Backbone:
        torch.manual_seed(0)
        model = (ls.VGGT(tiny_config) if request.param == "vggt" else depth_model()).eval()
        if not next(model.parameters()).is_meta:
            with torch.no_grad():  # initial weights are so small that gradients vanish
                for parameter in model.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return build


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 2, 3, 28, 28)


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
    optimizer = torch.optim.Adam(adapters.trainable_parameters().values(), lr=0.02)
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
    model = make()
    adapters = ls.inject_adapters(model, ls.ProjectedLoRA(basis=basis, targets="blocks"))
    assert set(adapters.layers) == set(basis.layers)


def test_memory_is_counted_on_the_meta_device(make: Callable[[], Backbone]) -> None:
    with torch.device("meta"):
        task = ls.GeometryTask(make(), ls.LoRA(r=2, targets="blocks"))
    found = ls.estimate_memory(task, scenes=1, views=2, image_size=(28, 28))
    assert found.total > sum(found.weights.values()) > 0
    assert found.activations.flops > 0

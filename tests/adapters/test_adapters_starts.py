"""Adapters start from different random numbers, and whoever mines those that did not is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from scene_examples import random_scenes
from torch import nn
from torch.utils.data import DataLoader

from lorasub.adapters import LoRA, LoRABank, inject_adapters, load_adapters
from lorasub.adapters.mining import mine_subspace, read_adapter
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.data import SceneBank, SceneDataModule
from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch
from lorasub.subspaces import SubspaceBasis
from lorasub.tasks import GeometryTask


class Scenes(SceneDataModule):
    """Two scenes and a name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    @property
    def identity(self) -> str:
        return self.name

    def train_dataloader(self) -> DataLoader[Any]:
        scenes = [random_scenes(1, 2, (28, 28), seed=seed, dtype=torch.float32) for seed in range(2)]
        return DataLoader(scenes, batch_size=2, collate_fn=SceneBatch.concatenate)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


def trainer(**options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def fitted(config: VGGTConfig, data: Any, adapter: Any = None, seed: int = 0) -> GeometryTask:
    torch.manual_seed(7)
    backbone = VGGT(config)
    torch.manual_seed(seed)
    task = GeometryTask(backbone, adapter or LoRA(r=2, targets="global_blocks"))
    trainer().fit(task, data)
    return task


def starts(task: GeometryTask) -> list[str]:
    return list(task.adapters.starts.values())


def test_one_seed_and_two_data_sets_give_two_starts(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    first, second, again = (fitted(tiny_config, Scenes(name)) for name in "aba")
    assert not set(starts(first)) & set(starts(second))
    assert starts(first) == starts(again)  # a fit can be repeated
    assert not set(starts(first)) & set(starts(fitted(tiny_config, Scenes("a"), seed=1)))
    assert len(set(starts(first))) == len(first.adapters.layers)
    first.adapters.save(tmp_path)
    assert json.loads((tmp_path / "lorasub.json").read_text())["starts"] == first.adapters.starts
    torch.manual_seed(7)
    assert load_adapters(VGGT(tiny_config), tmp_path).starts == first.adapters.starts


def test_the_adapters_of_a_bank_start_as_they_would_alone(tiny_config: VGGTConfig) -> None:
    bank = LoRABank(r=2, targets="global_blocks", count=2, seeds=[0, 0])
    together = fitted(tiny_config, SceneBank([Scenes("a"), Scenes("b")]), bank)
    alone = [fitted(tiny_config, Scenes(name)).adapters.starts for name in "ab"]
    assert together.groups.starts == alone


def test_what_was_trained_or_is_of_unknown_data_keeps_its_start(tiny_config: VGGTConfig) -> None:
    task = fitted(tiny_config, Scenes(""))
    torch.manual_seed(7)
    backbone = VGGT(tiny_config)
    torch.manual_seed(0)
    assert starts(task) == list(inject_adapters(backbone, LoRA(r=2, targets="global_blocks")).starts.values())
    before = task.adapters.starts
    trainer().fit(task, Scenes("c"))
    assert task.adapters.starts == before


def test_a_checkpoint_remembers_the_start(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = GeometryTask(VGGT(tiny_config), LoRA(r=2, targets="global_blocks"))
    run = trainer()
    run.fit(task, Scenes("a"))
    run.save_checkpoint(tmp_path / "a.ckpt")
    torch.manual_seed(3)
    resumed = GeometryTask(VGGT(tiny_config), LoRA(r=2, targets="global_blocks"))
    resumed.adapters.base_model_hash = task.adapters.base_model_hash
    resumed.on_load_checkpoint(torch.load(tmp_path / "a.ckpt", weights_only=True))
    assert resumed.adapters.starts == task.adapters.starts


def noise(seed: int) -> dict[str, Any]:
    """An adapter whose ``lora_B`` is noise, made from a seed."""
    torch.manual_seed(99)
    model = nn.Sequential(nn.Linear(64, 64))
    torch.manual_seed(seed)
    adapters = inject_adapters(model, LoRA(r=4, targets="all"))
    adapters.load_state_dict(
        {name: torch.randn_like(value) if "lora_B" in name else value for name, value in adapters.state_dict().items()}
    )
    return {"adapters": adapters, "updates": adapters.updates()}


def test_mining_refuses_equal_starts(tmp_path: Path) -> None:
    one, two, other = noise(0), noise(0), noise(1)
    with pytest.raises(ConfigError, match="adapter 0 and adapter 2 started from the same lora_A"):
        mine_subspace([one["updates"], other["updates"], two["updates"]], dim=2)
    for name, found in (("one", one), ("two", two), ("other", other)):
        found["adapters"].save(tmp_path / name)
    with pytest.raises(ConfigError, match=r"one and .*two started from the same lora_A"):
        mine_subspace([tmp_path / "one", tmp_path / "two"], dim=2)
    basis = mine_subspace([tmp_path / "one", tmp_path / "other"], dim=2)
    kept = [source.start for source in SubspaceBasis.load(basis.save(tmp_path / "basis")).sources]
    assert len(set(kept)) == 2
    assert all(kept)
    assert kept[0] == read_adapter(tmp_path / "one")[1].start
    # adapters of earlier versions do not tell where they started
    for name in ("one", "two"):
        description = json.loads((tmp_path / name / "lorasub.json").read_text())
        del description["starts"]
        (tmp_path / name / "lorasub.json").write_text(json.dumps(description))
    assert mine_subspace([tmp_path / "one", tmp_path / "two"], dim=2).sources[0].start is None
    assert load_file(tmp_path / "one" / "adapter_model.safetensors")


@pytest.mark.parametrize("bank", [False, True], ids=["lora", "bank"])
def test_an_adapter_with_a_frozen_a_that_has_learnt_keeps_what_it_has(bank: bool) -> None:
    """LoRA-FA trains B alone, and the first step of plain SGD changes no A: another A would make noise of B."""
    model = nn.Sequential(nn.Linear(6, 8))
    adapters = inject_adapters(model, LoRABank(count=1, r=2, targets="all") if bank else LoRA(r=2, targets="all"))
    adapters.draw_starts(["scenes"])
    optimizer = torch.optim.SGD(list(adapters.trainable_parameters().values()), lr=0.1)
    x = torch.randn(4, 6)
    model(x).square().sum().backward()
    optimizer.step()
    before, first = model(x), adapters.state_dict()["0.lora_A" if bank else "0.lora_A.weight"].clone()
    adapters.draw_starts(["scenes"])  # a second fit
    assert torch.equal(first, adapters.state_dict()["0.lora_A" if bank else "0.lora_A.weight"])
    assert torch.equal(model(x), before)

"""What data modules say of themselves, and what is made of those that say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from scene_examples import random_scenes

from lorasub.contracts import BatchShape, SceneData, described
from lorasub.data import MixedScenes, PosedRGBD, PretrainingScenes, SceneBank, SceneDataModule, Stage, SyntheticScenes
from lorasub.data.augmentation import Augmentation
from lorasub.study import TrainingScenes

SMALL: dict[str, Any] = {"num_scenes": 4, "val_scenes": 2, "num_views": 2, "image_size": 28, "batch_size": 2}


def synthetic(partition: int = 0, **options: Any) -> SyntheticScenes:
    return SyntheticScenes("geometry", partition, **{**SMALL, **options})


def real(folder: Path, **options: Any) -> PosedRGBD:
    return PosedRGBD(str(folder), num_views=2, image_size=(28, 42), batch_size=3, **options)


def curriculum() -> PretrainingScenes:
    stages = [
        Stage(from_step=0, image_size=28, views=(1, 3), batch_size=4),
        Stage(from_step=5, image_size=56, views=(2, 2), batch_size=2),
    ]
    return PretrainingScenes(stages, color_jitter=0.1)


def test_each_says_how_large_its_batches_are(tmp_path: Path) -> None:
    parts = {"a": synthetic(), "b": synthetic(1)}
    assert synthetic().batch_shape == BatchShape(2, 2, 28, 28)
    assert real(tmp_path).batch_shape == BatchShape(3, 2, 28, 42)
    assert curriculum().batch_shape == BatchShape(2, 2, 56, 56)
    assert MixedScenes(dict(parts), batch_size=5).batch_shape == BatchShape(5, 2, 28, 28)
    assert SceneBank(list(parts.values())).batch_shape == BatchShape(4, 2, 28, 28)
    assert TrainingScenes(synthetic(), scenes=1).batch_shape == BatchShape(1, 2, 28, 28)
    assert SceneBank([synthetic(), LightningDataModule()]).batch_shape is None


def test_each_says_whether_its_images_change(tmp_path: Path) -> None:
    augmented = real(tmp_path, augmentation=Augmentation())
    assert not synthetic().images_change
    assert not real(tmp_path).images_change
    assert augmented.images_change
    assert curriculum().images_change
    assert MixedScenes({"a": synthetic(), "b": augmented}).images_change
    assert SceneBank([synthetic(), augmented]).images_change
    assert TrainingScenes(augmented, scenes=2).images_change


def test_data_sets_that_differ_in_their_scenes_have_other_identities(tmp_path: Path) -> None:
    same = [synthetic(), synthetic(batch_size=1), synthetic(num_workers=3), synthetic(val_scenes=7)]
    others = [
        *(synthetic(1), synthetic(seed=1), synthetic(design="across"), real(tmp_path), real(tmp_path / "other")),
        *(real(tmp_path, seed=1), curriculum(), MixedScenes({"a": synthetic(), "b": synthetic(1)})),
        *(TrainingScenes(synthetic(), scenes=2), TrainingScenes(synthetic(), scenes=2, seed=1)),
    ]
    assert len({module.identity for module in same}) == 1
    assert len({module.identity for module in [same[0], *others]}) == len(others) + 1
    bank = SceneBank([synthetic(0), synthetic(1)])
    assert bank.identities == (synthetic(0).identity, synthetic(1).identity)
    assert SceneBank([synthetic(), LightningDataModule()]).identities == (synthetic().identity, "")


def test_somebodys_own_data_module_is_asked_for_nothing() -> None:
    silent = described(LightningDataModule())
    assert isinstance(silent, SceneData)
    assert (silent.evaluation_names, silent.images_change, silent.scene_groups) == ((), False, 1)
    assert (silent.batch_shape, silent.identities) == (None, ("",))
    own = SceneDataModule()
    assert described(own) is own
    assert (own.evaluation_names, own.images_change, own.scene_groups) == ((), False, 1)


@pytest.mark.parametrize("kind", ["mixed", "bank", "few"])
def test_every_hook_reaches_the_members(kind: str) -> None:
    class Recorder(SceneDataModule):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def prepare_data(self) -> None:
            self.calls.append("prepare_data")

        def setup(self, stage: str) -> None:
            self.calls.append(f"setup {stage}")

        def teardown(self, stage: str) -> None:
            self.calls.append(f"teardown {stage}")

        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            self.calls.append(f"transfer {dataloader_idx}")
            return batch

        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            self.calls.append(f"before {dataloader_idx}")
            return batch

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            self.calls.append(f"after {dataloader_idx}")
            return batch

    recorder, other, batch = Recorder(), Recorder(), random_scenes(1, 2, (28, 28), seed=0)
    outer = {
        "mixed": lambda: MixedScenes({"a": recorder, "b": other}),
        "bank": lambda: SceneBank([other, recorder]),
        "few": lambda: TrainingScenes(recorder),
    }[kind]()
    index = 1
    outer.prepare_data()
    outer.setup("test")
    moved = outer.on_before_batch_transfer(batch, index)
    moved = outer.transfer_batch_to_device(moved, torch.device("cpu"), index)
    assert outer.on_after_batch_transfer(moved, index) is batch
    outer.teardown("test")
    own = 0 if kind == "bank" else 1  # each member of a bank has one loader
    hooks = [f"before {own}", f"transfer {own}", f"after {own}"]
    assert recorder.calls == ["prepare_data", "setup test", *hooks, "teardown test"]

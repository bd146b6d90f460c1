"""Scenes of several data modules in one batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, Trainer
from scene_examples import random_scenes
from torch.utils.data import DataLoader

from lorasub.adapters import LoRA
from lorasub.backbones import VGGT, VGGTConfig
from lorasub.data import MixedScenes, PosedRGBD, SceneBank, SyntheticScenes
from lorasub.data.loading import EpochSampler, evaluation_loader, training_batches, training_loader
from lorasub.data.readers.seven_scenes import SevenScenes
from lorasub.errors import ConfigError, DataError
from lorasub.structures import SceneBatch
from lorasub.study import TrainingScenes
from lorasub.tasks import GeometryTask


class Named(LightningDataModule):
    """Scenes with names and no more."""

    def __init__(self, name: str, size: int, views: int = 2, seed: int = 0) -> None:
        super().__init__()
        scenes = random_scenes(1, views, (28, 28), seed=1, dtype=torch.float32)
        self.scenes = [scenes.replace(scene_ids=(f"{name}/{index}",)) for index in range(size)]
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Any]:
        return training_loader(
            self.scenes,  # type: ignore[arg-type]
            batch_size=1,
            seed=self.seed,
            trainer=None,
            collate_fn=SceneBatch.concatenate,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return evaluation_loader(self.scenes[:1], batch_size=1, collate_fn=SceneBatch.concatenate)  # type: ignore[arg-type]


def epoch_of(data: MixedScenes, epoch: int) -> list[str]:
    """The names of an epoch's scenes, in order."""
    loader = data.train_dataloader()
    sampler = loader.sampler
    assert isinstance(sampler, EpochSampler)
    sampler.set_epoch(epoch)
    return [loader.dataset[key][1].scene_ids[0] for key in sampler]


@given(
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    shares=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    length=st.integers(1, 14),
)
def test_epochs_have_the_proportions_and_parts_run_through_all_their_scenes(
    sizes: tuple[int, int], shares: tuple[int, int], length: int
) -> None:
    assume(min(shares) * length >= sum(shares))  # a part without a scene is refused
    parts: dict[str, LightningDataModule] = {"a": Named("a", sizes[0]), "b": Named("b", sizes[1])}
    data = MixedScenes(parts, dict(zip("ab", map(float, shares), strict=True)), batch_size=1, scenes_per_epoch=length)
    seen: Counter[str] = Counter()
    for epoch in range(5):
        names = epoch_of(data, epoch)
        assert len(names) == length
        for name, share in zip("ab", shares, strict=True):
            count = sum(whose.startswith(name) for whose in names)
            assert abs(count - length * share / sum(shares)) <= 1
        seen.update(names)
    for name, size in zip("ab", sizes, strict=True):
        # no scene comes twice before all others have come once
        uses = [seen[f"{name}/{index}"] for index in range(size)]
        assert max(uses) - min(uses) <= 1


def test_the_order_is_of_the_epoch_and_shuffled() -> None:
    def data() -> MixedScenes:
        return MixedScenes({"a": Named("a", 8), "b": Named("b", 8)}, batch_size=2)

    first = epoch_of(data(), 0)
    assert first == epoch_of(data(), 0)
    assert first != epoch_of(data(), 1)
    assert sorted(first) == sorted(epoch_of(data(), 1))
    assert sorted(first) != first
    one_after_the_other = {"".join(name[0] for name in epoch_of(data(), epoch)) for epoch in range(4)}
    assert all("ab" in order and "ba" in order for order in one_after_the_other)


def rendered(**options: Any) -> SyntheticScenes:
    settings: dict[str, Any] = {"num_scenes": 6, "val_scenes": 2, "num_views": 2, "image_size": 28, "batch_size": 2}
    return SyntheticScenes(**settings | {"attribute": "transparent", "antialias": False} | options)


@pytest.fixture
def real(tmp_path: Path, world: Any) -> PosedRGBD:
    world.count = 6
    for index in range(6):
        stem = tmp_path / "room" / f"frame-{index:06d}"
        world.save_image(index, stem.with_suffix(".color.png"))
        world.save_depth(index, stem.with_suffix(".depth.png"))
        np.savetxt(stem.with_suffix(".pose.txt"), world.world_from_cam[index])
    reader = SevenScenes(color_camera=(60, 58, 31, 25), warp=False)
    return PosedRGBD(str(tmp_path / "room"), format=reader, num_views=2, image_size=28, val_fraction=0.34)


def test_rendered_and_real_scenes_share_a_batch_and_a_fit(
    tiny_config: VGGTConfig, tmp_path: Path, real: PosedRGBD
) -> None:
    data = MixedScenes({"rendered": rendered(), "real": real}, {"rendered": 1, "real": 1}, batch_size=4)
    batches: list[SceneBatch] = []

    class Watched(GeometryTask):
        def training_step(self, batch: SceneBatch, batch_idx: int) -> torch.Tensor:
            batches.append(batch)
            return super().training_step(batch, batch_idx)

    task = Watched(VGGT(tiny_config), LoRA(r=2))
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", max_epochs=2, enable_checkpointing=False, default_root_dir=tmp_path, **options)
    trainer.fit(task, data)
    names = [name for batch in batches for name in batch.scene_ids]
    real_names = [name for name in names if "room" in name]
    assert 0 < len(real_names) < len(names)
    assert all(len(batch) == 4 for batch in batches)
    mixed = next(batch for batch in batches if 0 < sum("room" in name for name in batch.scene_ids) < 4)
    assert mixed.object_masks is not None
    for index, name in enumerate(mixed.scene_ids):
        # glass is masked where it is rendered; real scenes know of none
        assert bool(mixed.object_masks[index].any()) == ("room" not in name)
        assert float(mixed.images[index].std()) > 0.01
    # one who renders alone sees the same scene
    index, name = next((i, name) for i, name in enumerate(mixed.scene_ids) if "room" not in name)
    alone = rendered()
    alone.trainer = trainer
    scenes = {
        b.scene_ids[0]: b for b in (alone.on_after_batch_transfer(alone.train_sampler.sample([i]), 0) for i in range(6))
    }
    torch.testing.assert_close(mixed.images[index : index + 1], scenes[name].images)
    assert trainer.validate(task, data, verbose=False)


def test_the_first_scenes_of_a_mixture_are_a_training_set(real: PosedRGBD) -> None:
    few = TrainingScenes(MixedScenes({"rendered": rendered(), "real": real}, batch_size=4), scenes=3, seed=2)
    few.trainer = None

    def names(epoch: int) -> list[str]:
        loader = few.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        return [name for batch in loader for name in few.on_after_batch_transfer(batch, 0).scene_ids]

    assert len(names(0)) == 3
    assert sorted(names(0)) == sorted(names(1))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"parts": ["a"]}, "two or more"),
        ({"weights": {"a": 1.0}}, r"weights name \['a'\], the parts are \['a', 'b'\]"),
        ({"weights": {"a": 1.0, "b": 0.0}}, "'b' must be positive"),
        ({"evaluate": "c"}, "evaluate names 'c'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], told: str) -> None:
    parts = {name: Named(name, 3) for name in settings.pop("parts", "ab")}
    with pytest.raises(ConfigError, match=told):
        MixedScenes(parts, **settings)


def test_parts_that_do_not_fit_are_told() -> None:
    class Plain(Named):
        def train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(self.scenes)  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match="Plain does not"):
        MixedScenes({"a": Named("a", 3), "b": Plain("b", 3)}).train_dataloader()
    with pytest.raises(ConfigError, match="'b' would have none of the 6 scenes of an epoch"):
        MixedScenes({"a": Named("a", 3), "b": Named("b", 3)}, weights={"a": 100.0, "b": 1.0}).train_dataloader()
    data = MixedScenes({"a": Named("a", 3), "b": Named("b", 3, views=3)}, batch_size=6)
    with pytest.raises(DataError, match="different sizes"):
        data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)


def test_training_batches_without_a_trainer_are_those_of_the_loader() -> None:
    """As `lorasub mine --from gradients` takes them, from mixtures, too."""
    data = MixedScenes({"a": Named("a", 2), "b": Named("b", 2)}, batch_size=2)
    names = [name for batch in training_batches(data, torch.device("cpu")) for name in batch.scene_ids]
    assert sorted(names) == ["a/0", "a/1", "b/0", "b/1"]
    with pytest.raises(ConfigError, match="SceneBank has 2 training sets"):
        next(training_batches(SceneBank([Named("a", 2), Named("b", 2)]), torch.device("cpu")))

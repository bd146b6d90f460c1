"""The few scenes that methods learn from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lorasub.data.real import PosedRGBD
from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.scenes.description import SceneDescription
from lorasub.study import TrainingScenes


def synthetic(num_scenes: int = 8) -> SyntheticScenes:
    return SyntheticScenes(attribute="geometry", num_scenes=num_scenes, val_scenes=3, num_views=2, batch_size=2)


def of_epochs(module: TrainingScenes, epochs: int = 3) -> list[list[str]]:
    """Names of the scenes of each epoch, in order."""
    loader = module.train_dataloader()
    found = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        found.append([name for batch in loader for name in names(batch)])
    return found


def names(batch: object) -> tuple[str, ...]:
    return batch.scene_ids  # type: ignore[attr-defined,no-any-return]


def test_the_same_few_in_every_epoch_in_changing_order() -> None:
    epochs = of_epochs(TrainingScenes(synthetic(), scenes=6, seed=3), epochs=8)
    assert len({frozenset(epoch) for epoch in epochs}) == 1
    assert len(set(epochs[0])) == 6
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_more_scenes_hold_the_fewer_and_another_seed_takes_others() -> None:
    few, more, other = (
        set(of_epochs(TrainingScenes(synthetic(64), scenes=count, seed=seed), 1)[0])
        for count, seed in ((2, 0), (4, 0), (4, 1))
    )
    assert few < more
    assert more != other


def test_all_scenes_are_those_of_the_data_module_in_an_order_of_their_own() -> None:
    (plain,) = of_epochs(synthetic(), 1)  # type: ignore[arg-type]
    (first,), (second,) = (of_epochs(TrainingScenes(synthetic(), seed=seed), 1) for seed in (1, 2))
    assert sorted(first) == sorted(second) == sorted(plain)
    assert first != second


def test_validation_and_test_do_not_depend_on_the_seed() -> None:
    plain = [names(batch) for batch in synthetic().val_dataloader()]
    for seed in (0, 1):
        module = TrainingScenes(synthetic(), scenes=2, seed=seed)
        assert [names(batch) for batch in module.val_dataloader()] == plain
        assert [names(batch) for batch in module.test_dataloader()] == plain


def test_a_batch_is_not_larger_than_the_scenes() -> None:
    (batch,) = TrainingScenes(synthetic(), scenes=1).train_dataloader()
    assert isinstance(batch, SceneDescription)
    assert len(names(batch)) == 1


def test_more_scenes_than_there_are() -> None:
    with pytest.raises(ConfigError, match="9 training scenes"):
        TrainingScenes(synthetic(), scenes=9).train_dataloader()
    with pytest.raises(ConfigError, match="at least 1"):
        TrainingScenes(synthetic(), scenes=0)


def test_views_of_real_scenes_are_kept_too(real_data: Path) -> None:
    def module() -> TrainingScenes:
        data = PosedRGBD(str(real_data / "7scenes_redkitchen"), num_views=2, image_size=28, batch_size=2)
        return TrainingScenes(data, scenes=2, seed=0)

    loader = module().train_dataloader()
    seen = []
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        (batch,) = loader
        seen.append(dict(zip(batch.scene_ids, zip(batch.frame_ids, batch.images, strict=True), strict=True)))
    assert seen[0].keys() == seen[1].keys()
    for scene, (frames, images) in seen[0].items():
        assert seen[1][scene][0] == frames
        assert torch.equal(seen[1][scene][1], images)

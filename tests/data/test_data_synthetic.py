"""The synthetic data module: batches as they should be, whatever the loader's settings."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch

import lorasub
from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch


class Look(pl.LightningModule):
    """Keeps the batches that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[SceneBatch] = []

    def training_step(self, batch: SceneBatch, batch_idx: int) -> torch.Tensor:
        self.batches.append(batch)
        return self.weight * 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches(steps: int, **options: Any) -> list[SceneBatch]:
    model = Look()
    data = SyntheticScenes(**{"attribute": "geometry", "image_size": 28, "num_scenes": 12, "batch_size": 2, **options})
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    pl.Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, limit_val_batches=0, enable_checkpointing=False, **quiet
    ).fit(model, data)
    return model.batches


def test_batches_are_scenes_in_world_units() -> None:
    (batch,) = batches(1, num_views=3, image_size=(28, 42))
    assert isinstance(batch, SceneBatch)
    assert batch.images.shape == (2, 3, 3, 28, 42)
    assert batch.images.dtype == torch.float32
    assert bool((batch.scale == 1).all())
    assert bool(batch.pose_valid.all())
    assert batch.scene_ids[0].startswith("geometry/p0/")


def test_workers_change_nothing() -> None:
    one, two = batches(4), batches(4, num_workers=2)
    for ours, theirs in zip(one, two, strict=True):
        assert ours.scene_ids == theirs.scene_ids
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.depth, theirs.depth)


def test_validation_scenes_are_others_and_always_the_same() -> None:
    data = SyntheticScenes(attribute="texture", num_scenes=8, val_scenes=3, batch_size=2)
    held_out = list(data.val_dataloader())
    assert [len(batch) for batch in held_out] == [2, 1]
    assert held_out[0].scene_ids == ("texture/p0/validation/000000", "texture/p0/validation/000001")
    train = data.train_sampler.sample(range(2))
    assert not torch.equal(train.materials.colors, held_out[0].materials.colors)
    again = next(iter(data.val_dataloader()))
    assert torch.equal(again.materials.colors, held_out[0].materials.colors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"attribute": "colour"},
            "unknown attribute 'colour'; choose from geometry, texture, camera, lighting, all, planar",
        ),
        ({"design": "between"}, "unknown design 'between'; choose from within, shift, across, narrow"),
        ({"num_views": 0}, "num_views is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"bases": 0}, "bases is 0"),
        ({"attribute": "camera", "design": "shift", "dose": 1.5}, "dose is 1.5; it must be between 0"),
        ({"partition": -1}, "partition is -1"),
    ],
)
def test_wrong_settings_are_told_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SyntheticScenes(**options)


def test_it_has_a_public_name() -> None:
    assert lorasub.SyntheticScenes is SyntheticScenes

"""PosedRGBD: which scenes it gives, that they are the same everywhere, and what it says about wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

import lorasub.data.decoding as decoding
from lorasub.data.decoding import ViewCache
from lorasub.data.frames import Frame
from lorasub.data.paths import inside, natural_order
from lorasub.data.readers.seven_scenes import SevenScenes
from lorasub.data.real import PosedRGBD
from lorasub.data.view_sampling import BaselineSampling
from lorasub.errors import ConfigError, DataError
from lorasub.structures import SceneBatch

READER = SevenScenes(color_camera=(60, 58, 31, 25), warp=False)


@pytest.fixture
def root(tmp_path: Path, world) -> Path:
    world.count = 12
    for i in range(world.count):
        stem = tmp_path / "capture" / f"frame-{i:06d}"
        world.save_image(i, stem.with_suffix(".color.png"))
        world.save_depth(i, stem.with_suffix(".depth.png"))
        np.savetxt(stem.with_suffix(".pose.txt"), world.world_from_cam[i])
    return tmp_path / "capture"


def module(root: Path, **options) -> PosedRGBD:
    return PosedRGBD(str(root), **{"format": READER, "num_views": 3, "image_size": (28, 42), "batch_size": 2} | options)


def same(a: SceneBatch, b: SceneBatch) -> bool:
    return a.scene_ids == b.scene_ids and a.frame_ids == b.frame_ids and torch.equal(a.images, b.images)


def test_points_lie_on_the_plane_after_resizing(root: Path, world) -> None:
    batch = next(iter(module(root).train_dataloader()))
    assert batch.images.shape == (2, 3, 3, 28, 42)
    assert batch.images.dtype == torch.float32
    assert 0 <= batch.images.min() <= batch.images.max() <= 1
    assert bool(batch.metric.all())
    assert bool(batch.pose_valid.all())
    assert batch.valid.float().mean() > 0.99
    off = batch.world_points.double().numpy() @ world.normal - world.offset
    # depth is taken from the source pixel nearest to the centre: up to 0.7 pixels away, plus half a millimetre
    assert np.abs(off[batch.valid.numpy()]).max() < 0.02
    assert np.abs(off[batch.valid.numpy()]).mean() < 0.004
    # what a point looks like is what its pixel shows
    difference = batch.images.movedim(2, -1).numpy() * 255 - world.color(batch.world_points.numpy())
    assert np.abs(difference).mean() < 3


def test_every_training_frame_is_a_reference_once_an_epoch(root: Path) -> None:
    data = module(root, val_fraction=0.25, batch_size=3)
    names = [frames[0] for batch in data.train_dataloader() for frames in batch.frame_ids]
    assert sorted(names) == [f"frame-{i:06d}" for i in range(9)]
    names = [frames[0] for batch in data.val_dataloader() for frames in batch.frame_ids]
    assert names == [f"frame-{i:06d}" for i in range(9, 12)]


def test_training_never_sees_a_validation_frame(root: Path) -> None:
    data = module(root, val_fraction=0.5)
    trained = {name for batch in data.train_dataloader() for frames in batch.frame_ids for name in frames}
    validated = {name for batch in data.val_dataloader() for frames in batch.frame_ids for name in frames}
    assert not trained & validated
    assert len(trained) == len(validated) == 6


def test_a_scene_depends_on_seed_epoch_and_index_only(root: Path) -> None:
    first, second = module(root).dataset("train"), module(root, cache_mb=0).dataset("train")
    keys = [(epoch, index) for epoch in range(3) for index in range(len(first))]
    again = {key: second[key] for key in reversed(keys)}
    assert all(same(first[key], again[key]) for key in keys)
    views = [{first[epoch, index].frame_ids for epoch in range(8)} for index in range(3)]
    assert all(len(chosen) > 1 for chosen in views)  # other views in other epochs
    other_seed = module(root, seed=1).dataset("train")
    assert any(first[key].frame_ids != other_seed[key].frame_ids for key in keys)


def test_workers_and_epochs_give_the_same_scenes(root: Path) -> None:
    batches = []
    for workers in (0, 2):
        loader = module(root, num_workers=workers).train_dataloader()
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            batches.append(list(loader))
    assert all(same(a, b) for a, b in zip(batches[0], batches[2], strict=True))
    assert all(same(a, b) for a, b in zip(batches[1], batches[3], strict=True))
    assert not all(same(a, b) for a, b in zip(batches[0], batches[1], strict=True))


def test_frozen_lists(root: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    lists = {"train": [f"frame-{i:06d}" for i in range(6)], "val": [f"capture/frame-{i:06d}" for i in (7, 9, 10)]}
    split.write_text(json.dumps(lists))
    data = module(root, split_file=str(split))
    assert len(data.dataset("train")) == 6
    assert [frame.name[-2:] for frame in data.dataset("val").captures[0].frames] == ["07", "09", "10"]
    split.write_text(json.dumps({"train": ["frame-000001"], "val": ["capture/frame-000001"]}))
    with pytest.raises(DataError, match="'frame-000001' is listed twice"):
        module(root, split_file=str(split)).dataset("train")
    split.write_text(json.dumps({"train": ["capture/frame-000077"]}))
    with pytest.raises(DataError, match="frame-000077' is not a frame"):
        module(root, split_file=str(split)).dataset("train")


def test_shortened_epochs(root: Path) -> None:
    data = module(root, scenes_per_epoch=20, val_scenes=2, val_fraction=0.5)
    assert len(data.dataset("train")) == 20
    assert [frames[0][-2:] for batch in data.val_dataloader() for frames in batch.frame_ids] == ["06", "09"]


def test_predict_takes_every_frame_once(root: Path) -> None:
    batches = list(module(root, num_views=5).predict_dataloader())
    assert [batch.num_views for batch in batches] == [5, 5, 2]
    assert [name for batch in batches for name in batch.frame_ids[0]] == [f"frame-{i:06d}" for i in range(12)]


def test_predict_takes_a_folder_of_plain_images(tmp_path: Path) -> None:
    for name in ("img10.jpg", "img2.jpg", "img1.png"):
        Image.fromarray(np.full((60, 90, 3), 200, np.uint8)).save(tmp_path / name)
    (batch,) = PosedRGBD(str(tmp_path), image_size=28, num_views=4).predict_dataloader()
    assert batch.frame_ids == (("img1.png", "img2.jpg", "img10.jpg"),)
    assert not batch.pose_valid.any()
    assert not batch.valid.any()
    assert not batch.metric.any()
    assert batch.world_points.abs().max() == 0
    assert batch.intrinsics[0, 0, 0, 2] == 14


def test_phone_photos_are_turned_upright_only_without_a_camera(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    Image.fromarray(np.zeros((20, 60, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert decoding.read_image(tmp_path / "a.jpg").shape == (20, 60, 3)
    assert decoding.read_image(tmp_path / "a.jpg", upright=True).shape == (60, 20, 3)
    assert decoding.load_view(Frame(name="a", image=tmp_path / "a.jpg")).image.shape == (3, 60, 20)


def test_views_are_drawn_within_the_baseline(root: Path, world) -> None:
    sampling = BaselineSampling(baseline=(0.2, 0.4), unit="world", max_angle=180)
    dataset = module(root, val_fraction=0, sampling=sampling).dataset("train")
    centers = world.world_from_cam[:, :3, 3]
    for epoch in range(5):
        chosen = [int(name[-2:]) for name in dataset[epoch, 5].frame_ids[0]]
        distances = np.linalg.norm(centers[chosen[1:]] - centers[chosen[0]], axis=-1)
        assert ((distances >= 0.2) & (distances <= 0.4)).all()
        assert len(set(chosen)) == 3
    # in units of the median depth, about 2 m, the same numbers mean twice the distance
    dataset = module(root, val_fraction=0, sampling=BaselineSampling(baseline=(0.2, 0.4), max_angle=180)).dataset(
        "train"
    )
    median = float(np.median(world.depth(5)))
    chosen = [int(name[-2:]) for name in dataset[0, 5].frame_ids[0]]
    distances = np.linalg.norm(centers[chosen[1:]] - centers[5], axis=-1)
    assert ((distances >= 0.19 * median) & (distances <= 0.41 * median)).all()


def test_views_nearest_to_an_impossible_baseline_are_taken(root: Path) -> None:
    sampling = BaselineSampling(baseline=(50, 60), unit="world", max_angle=180)
    dataset = module(root, val_fraction=0, sampling=sampling).dataset("train")
    assert {int(name[-2:]) for name in dataset[0, 0].frame_ids[0]} == {0, 10, 11}


def test_viewing_directions_may_not_differ_more_than_asked(root: Path, world) -> None:
    sampling = BaselineSampling(baseline=(0, 10), unit="world", max_angle=14)
    dataset = module(root, val_fraction=0, sampling=sampling).dataset("train")
    axes = world.world_from_cam[:, :3, 2]
    for epoch in range(6):
        chosen = [int(name[-2:]) for name in dataset[epoch, 6].frame_ids[0]]
        assert np.degrees(np.arccos((axes[chosen] @ axes[6]).clip(-1, 1))).max() <= 14


def test_cache_decodes_once_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    dataset = module(root, val_fraction=0).dataset("train")
    calls = []
    original = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path, **options: calls.append(path) or original(path, **options))
    for epoch in range(3):
        for index in range(12):
            dataset[epoch, index]
    assert len(calls) == len(set(calls)) == 12

    view = decoding.load_view(dataset.captures[0].frames[0])
    cache = ViewCache(2.5 * view.nbytes / 1e6)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda: view)
    assert len(cache) == 2
    loaded = []
    for key in ("a", "c", "b"):
        cache.get(key, lambda key=key: loaded.append(key) or view)
    assert loaded == ["b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_views": 0}, "num_views must be at least 1"),
        ({"num_views": 11}, "num_views is 11 but only 9 frames"),
        ({"batch_size": 50}, "50"),
        ({"val_fraction": 1.0}, "'train' split .* is empty"),
        ({"val_fraction": 1.5}, "val_fraction is between 0 and 1"),
        ({"image_size": 0}, "image_size must be positive"),
        ({"format": "7scene"}, "unknown data format '7scene'; there are auto, .*7scenes"),
    ],
)
def test_wrong_settings_are_told(root: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(root, **options).train_dataloader()


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: the data folder does not exist"):
        PosedRGBD(str(tmp_path / "nowhere")).train_dataloader()
    with pytest.raises(DataError, match="no frames found"):
        PosedRGBD(str(tmp_path)).train_dataloader()


def test_a_truncated_image_is_named(root: Path) -> None:
    path = root / "frame-000003.color.png"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"frame-000003\.color\.png: the image cannot be decoded"):
        list(module(root, val_fraction=0).train_dataloader())


def test_damaged_frames_can_be_skipped_with_a_warning(root: Path) -> None:
    for i in (3, 4):
        path = root / f"frame-{i:06d}.color.png"
        path.write_bytes(path.read_bytes()[:900])
    dataset = module(root, val_fraction=0, skip_damaged=True).dataset("train")
    with pytest.warns(UserWarning, match=r"skipping frame \d of this data set: .*frame-00000[34]\.color\.png"):
        scenes = {(epoch, index): dataset[epoch, index].frame_ids[0] for epoch in range(3) for index in range(12)}
    assert all(not {"frame-000003", "frame-000004"} & set(names) for names in scenes.values())
    assert all(len(set(names)) == 3 for names in scenes.values())
    assert scenes[0, 3][0] == scenes[0, 4][0] == "frame-000005"
    # what is drawn does not depend on which damage was met before
    fresh = module(root, val_fraction=0, skip_damaged=True).dataset("train")
    with pytest.warns(UserWarning, match="skipping frame"):
        assert all(fresh[key].frame_ids[0] == scenes[key] for key in reversed(scenes))
    for path in root.glob("*.color.png"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="skipping"), pytest.raises(DataError, match="none of its 12 frames"):
        module(root, val_fraction=0, skip_damaged=True).dataset("train")[0]


def test_principal_point_of_another_resolution_is_noticed(root: Path) -> None:
    camera = (525.0, 525.0, 320.0, 240.0)
    with pytest.raises(DataError, match="do the intrinsics belong to another resolution"):
        next(iter(module(root, format=SevenScenes(warp=False, color_camera=camera)).train_dataloader()))


def test_nothing_leads_out_of_the_folder(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DataError, match="leads out of the folder"):
        inside(root, "../secret.png")
    with pytest.raises(DataError, match="leads out of the folder"):
        inside(root, tmp_path / "secret.png")
    assert inside(root, "./a/../b.png").resolve() == (root / "b.png").resolve()
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 48)).save(secret)
    (root / "frame-000099.color.png").symlink_to(secret)
    with pytest.raises(DataError, match="leads out of the folder"):
        module(root).train_dataloader()


class Recorder(pl.LightningModule):
    """Notes the scenes that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple] = []

    def training_step(self, batch: SceneBatch, index: int) -> torch.Tensor:
        assert isinstance(batch, SceneBatch)
        self.seen.append((batch.scene_ids, batch.frame_ids))
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(root: Path, folder: Path, steps: int, checkpoint: str | None = None) -> tuple[Recorder, str]:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    recorder = Recorder()
    trainer.fit(recorder, module(root), ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "last.ckpt")
    return recorder, str(folder / "last.ckpt")


def test_a_fit_goes_on_where_it_was_stopped(root: Path, tmp_path: Path) -> None:
    # 9 training frames, batches of 2: epochs of 4 steps; stopped in the middle of the second
    whole, _ = fit(root, tmp_path, 10)
    first, checkpoint = fit(root, tmp_path, 6)
    rest, _ = fit(root, tmp_path, 10, checkpoint)
    assert whole.seen == first.seen + rest.seen
    assert whole.seen[:4] != whole.seen[4:8]


def test_natural_order() -> None:
    names = ["f10.png", "f9.png", "F1.png", "f010b.png", "a.png", "f.png"]
    assert sorted(names, key=natural_order) == ["a.png", "f.png", "F1.png", "f9.png", "f10.png", "f010b.png"]

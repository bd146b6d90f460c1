"""A user's own photos: sizes, order, what is cut and what is left out; and predict, from nothing to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from jsonargparse import ArgumentParser
from PIL import Image

from lorasub.callbacks.prediction_writer import file_stems
from lorasub.cli.main import main
from lorasub.data import Photos, PosedRGBD
from lorasub.errors import ConfigError, DataError


def photo(path: Path, width: int, height: int, shade: int = 120, tag: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = tag
    ramp = np.tile(np.linspace(shade, 255, width, dtype=np.uint8)[None, :, None], (height, 1, 3))
    Image.fromarray(ramp).save(path, exif=exif)


def test_all_photos_are_one_scene_in_the_order_that_people_count(tmp_path: Path) -> None:
    for name in ("IMG_10.jpg", "IMG_9.JPG", "img_1.png"):
        photo(tmp_path / "Trip" / name, 400, 300)
    (batch,) = Photos(str(tmp_path / "Trip")).predict_dataloader()
    assert batch.scene_ids == ("Trip",)
    assert batch.frame_ids == (("img_1.png", "IMG_9.JPG", "IMG_10.jpg"),)
    assert batch.image_size == (84, 112)
    assert not batch.valid.any()
    assert not batch.pose_valid.any()


def test_a_database_beside_photos_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo(tmp_path / "images" / "a.png", 400, 300)
    (tmp_path / "database.db").write_bytes(b"SQLite format 3\0")
    list(Photos(str(tmp_path)).predict_dataloader())
    assert "not read: database.db" in caplog.text


@pytest.mark.parametrize(
    ("width", "height", "longest", "expected"),
    [
        (400, 300, 112, (84, 112)),
        (300, 400, 112, (112, 84)),
        (1080, 1920, 112, (98, 56)),
        (1920, 1080, 518, (294, 518)),
    ],
)
def test_sides_are_multiples_that_cut_little(
    tmp_path: Path, width: int, height: int, longest: int, expected: tuple[int, int]
) -> None:
    photo(tmp_path / "a.png", width, height)
    (batch,) = Photos(str(tmp_path), image_size=longest).predict_dataloader()
    assert batch.image_size == expected
    ratio = expected[1] / expected[0] * height / width
    assert max(ratio, 1 / ratio) < 1.02


def test_a_crop_is_told_and_orientation_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lorasub")
    for i in range(3):
        photo(tmp_path / f"{i}.jpg", 300, 400, tag=6)  # shows 400 x 300
    photo(tmp_path / "square.png", 300, 300)
    (batch,) = Photos(str(tmp_path)).predict_dataloader()
    assert batch.image_size == (84, 112)
    upper, lower = batch.images[0, 0, :, :10].mean(), batch.images[0, 0, :, -10:].mean()
    assert upper < lower  # what ran from left to right runs downwards
    assert "4 photos, resized to 112 x 84" in caplog.text
    assert (
        "1 of 4 photos are cut around their middle to the aspect ratio of 112 x 84 (square.png loses 25%)"
        in caplog.text
    )


def test_unreadable_photos_are_left_out_or_told(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", 400, 300)
    photo(tmp_path / "b.jpg", 400, 300)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:800])
    (tmp_path / "c.jpg").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=r"skipping a frame: .*[bc]\.jpg"):
        (batch,) = Photos(str(tmp_path)).predict_dataloader()
    assert batch.frame_ids == (("a.jpg",),)
    with pytest.raises(DataError, match=r"c\.jpg"):
        Photos(str(tmp_path), skip_damaged=False).predict_dataloader()
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(DataError, match="none of its 1 photos is readable"):
        Photos(str(tmp_path)).predict_dataloader()


def test_predict_of_captures_leaves_damaged_frames_out_too(tmp_path: Path) -> None:
    for i in range(5):
        photo(tmp_path / f"{i}.png", 64, 48)
    for i in (1, 2):
        (tmp_path / f"{i}.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"skipping a frame: .*1\.png"):
        batches = list(PosedRGBD(str(tmp_path), num_views=2, image_size=28, skip_damaged=True).predict_dataloader())
    assert [batch.frame_ids for batch in batches] == [(("0.png", "3.png"),), (("4.png",),)]
    with pytest.raises(DataError, match=r"1\.png: the image cannot be decoded \(the file is empty\)"):
        list(PosedRGBD(str(tmp_path), num_views=2, image_size=28).predict_dataloader())


def test_folders_of_photos_are_a_scene_each(tmp_path: Path) -> None:
    photo(tmp_path / "garden" / "a.jpg", 400, 300)
    photo(tmp_path / "house" / "a.jpg", 300, 400)
    batches = list(Photos(str(tmp_path)).predict_dataloader())
    assert [batch.scene_ids[0].split("/")[-1] for batch in batches] == ["garden", "house"]
    assert [batch.image_size for batch in batches] == [(84, 112), (112, 84)]


def test_photos_are_for_predict(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither depth nor poses"):
        Photos(str(tmp_path)).train_dataloader()
    with pytest.raises(ConfigError, match="image_size must be at least multiple"):
        Photos(str(tmp_path), image_size=7)


def test_names_of_files_are_those_of_the_views() -> None:
    assert file_stems(["IMG_1.JPG", "a b/ü.png", "1305031102.175304", ".jpg"]) == [
        "IMG_1",
        "a_b_ü",
        "1305031102.175304",
        "_",
    ]
    assert file_stems(["a.jpg", "a.png", "b.png"]) == ["a.jpg", "a.png", "b"]
    assert len(set(file_stems(["a b", "a_b", "a+b"]))) == 3
    assert file_stems(["a", "a", "a_1"]) == ["a_0", "a_1_1", "a_1_2"]


def test_from_a_folder_of_photos_to_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("IMG_2.jpg", "IMG_11.jpg"):
        photo(tmp_path / "Photos" / name, 400, 300)
    words = ["--data=Photos", "--data.root=Photos", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    assert main(["predict", *words, "--data.image_size=56", f"--run.folder={tmp_path / 'runs'}"]) == 0
    (scene,) = tmp_path.glob("runs/*/*/predictions/Photos")
    for kind, suffix in (("images", "png"), ("depth", "npy"), ("confidence", "npy")):
        assert sorted(path.name for path in (scene / kind).iterdir()) == [f"IMG_11.{suffix}", f"IMG_2.{suffix}"]
    assert np.load(scene / "depth" / "IMG_2.npy").shape == (42, 56)
    assert (np.load(scene / "confidence" / "IMG_2.npy") >= 1).all()
    assert (scene / "panel.png").is_file()
    cloud = trimesh.load(scene / "points.glb").geometry["points"]
    assert len(cloud.vertices) == round(0.9 * 2 * 42 * 56)
    pytest.importorskip("viser")
    assert main(["view", str(tmp_path / "runs"), "--save", str(tmp_path / "a.viser")]) == 0
    assert (tmp_path / "a.viser").stat().st_size > 1000


def test_settings_by_their_old_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lorasub")
    data = PosedRGBD(str(tmp_path), val_fraction=0.5, crop="center", cache_mb=3.0)
    assert data.held_out.fraction == 0.5
    assert (data.decoding.crop, data.decoding.cache_mb, data.view_format.crop) == ("center", 3.0, "center")
    assert (
        "val_fraction is now held_out.fraction, crop is now decoding.crop, cache_mb is now decoding.cache_mb"
        in caplog.text
    )
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(PosedRGBD, "data")
    settings = {
        "class_path": "lorasub.PosedRGBD",
        "init_args": {"root": "a", "val_captures": ["x"], "skip_damaged": True},
    }
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({"data": settings}))
    words = [f"--config={tmp_path / 'old.yaml'}", "--data.cache_mb=5", "--data.decoding.crop=center"]
    data = parser.instantiate(parser.parse_args(words)).data
    assert data.held_out.captures == ["x"]
    assert (data.decoding.skip_damaged, data.decoding.cache_mb, data.decoding.crop) == (True, 5.0, "center")
    with pytest.raises(TypeError, match="val_fractoin"):
        PosedRGBD(str(tmp_path), val_fractoin=0.5)

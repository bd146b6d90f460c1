"""`lorasub generate`: what is written reads back as the same batch, and a kill costs only what was begun."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from lorasub.cli.generation import generate
from lorasub.cli.main import main
from lorasub.data.real import PosedRGBD
from lorasub.data.synthetic import SyntheticScenes
from lorasub.errors import ArtefactError, ConfigError
from lorasub.exports.scene_folders import DEPTH_UNIT, LAYOUTS
from lorasub.files import hash_file
from lorasub.scenes.ranges import PRESET_RANGES, PortraitRanges
from lorasub.scenes.sensor import SensorNuisance
from lorasub.structures import SceneBatch

SMALL: dict[str, Any] = {"image_size": 28, "num_views": 2, "antialias": False, "shadow_samples": 1, "batch_size": 2}


def scenes(**options: Any) -> SyntheticScenes:
    return SyntheticScenes(**{"attribute": "all", "num_scenes": 3, "val_scenes": 1, **SMALL, **options})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_reads_back_as_the_same_batch(tmp_path: Path, layout: Any) -> None:
    data = scenes()
    generate(data, tmp_path / "set", layout=layout)
    read = list(PosedRGBD(str(tmp_path / "set" / "train"), num_views=2, image_size=28).predict_dataloader())
    assert len(read) == 3
    for index, found in enumerate(read):
        expected = data.on_after_batch_transfer(data.train_sampler.sample([index]), 0)
        assert found.scene_ids[0].startswith(f"train/{index:06d}")
        assert torch.equal(found.images, expected.images)  # they are in 256 steps to begin with
        assert torch.equal(found.intrinsics, expected.intrinsics)
        assert torch.equal(found.pose_valid, expected.pose_valid)
        assert torch.equal(found.valid, expected.valid)
        torch.testing.assert_close(found.cam_from_world, expected.cam_from_world, atol=1e-6, rtol=0)
        if layout == "nerfstudio":  # 16 bits, and an inverse of the pose
            step = 0.5 * DEPTH_UNIT + 1e-6
            torch.testing.assert_close(found.depth, expected.depth, atol=step, rtol=1e-6)
        else:
            assert torch.equal(found.depth, expected.depth)
            assert torch.equal(found.cam_from_world, expected.cam_from_world)
            near = expected.depth < 10
            torch.testing.assert_close(found.world_points[near], expected.world_points[near], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("attribute", "labels"),
    [("transparent", False), ("planar", True), ("texture", False)],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_and_masks_are_written_and_read_back(tmp_path: Path, attribute: Any, labels: bool, layout: Any) -> None:
    few = dataclasses.replace(PRESET_RANGES["planar"], portrait=PortraitRanges(photographs=2))
    data = scenes(attribute=attribute, val_scenes=0, ranges=few if labels else None)
    content = json.loads(generate(data, tmp_path, layout=layout).read_text())
    expected = data.on_after_batch_transfer(data.train_sampler.sample([0, 1, 2]), 0)
    read = list(PosedRGBD(str(tmp_path / "train"), num_views=2, image_size=28).predict_dataloader())
    assert len(read) == 3
    found = SceneBatch.concatenate(read)
    if labels:
        assert expected.labels is not None
        assert set(expected.labels.tolist()) == {0, 1}
        assert [scene["label"] for scene in content["scenes"]] == expected.labels.tolist()
    if attribute == "texture":
        assert expected.object_masks is None
        assert not list(tmp_path.rglob("object_masks"))
    else:
        assert expected.object_masks is not None
        assert bool(expected.object_masks.flatten(1).any(1).all())
        with Image.open(tmp_path / "train/000001/object_masks/000001.png") as image:
            assert torch.equal(torch.from_numpy(np.array(image)) == 255, expected.object_masks[1, 1])
    for name in ("labels", "object_masks"):
        ours, theirs = getattr(expected, name), getattr(found, name)
        if layout == "lorasub" and ours is not None:
            assert torch.equal(theirs, ours)
        else:  # scenes have none, or the other tools' files have no place for them
            assert theirs is None


def test_the_manifest_says_what_the_scenes_are(tmp_path: Path) -> None:
    content = json.loads(generate(scenes(seed=5, sensor=SensorNuisance()), tmp_path).read_text())
    assert content["complete"] is True
    assert content["made_from"]["seed"] == 5
    assert content["made_from"]["ranges"]["camera"]["paths"][0] == "orbit"
    assert content["made_from"]["sensor"]["read_noise"] == [0.0, 0.01]
    assert content["made_from"]["lorasub"]
    assert [scene["folder"] for scene in content["scenes"]] == [
        "train/000000",
        "train/000001",
        "train/000002",
        "validation/000000",
    ]
    scene = json.loads((tmp_path / "train/000002/scene.json").read_text())
    assert scene["scene_id"] == "all/p0/000002"
    assert set(scene["files"]) == {
        "capture.json",
        "depth/000000.npy",
        "depth/000001.npy",
        "images/000000.png",
        "images/000001.png",
    }
    assert all(hash_file(tmp_path / "train/000002" / name) == found for name, found in scene["files"].items())


def test_workers_write_the_same(tmp_path: Path) -> None:
    alone, many = (generate(scenes(), tmp_path / str(workers), workers=workers) for workers in (0, 2))
    assert json.loads(alone.read_text()) == json.loads(many.read_text())


def test_more_scenes_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    generate(scenes(num_scenes=1), tmp_path)
    before = (tmp_path / "train/000000/capture.json").stat().st_mtime_ns
    left = tmp_path / "train" / ".unfinished-000001"
    left.mkdir()
    (left / "capture.json").write_text("{")
    content = json.loads(generate(scenes(num_scenes=3), tmp_path).read_text())
    assert (tmp_path / "train/000000/capture.json").stat().st_mtime_ns == before
    assert not left.exists()
    assert len(content["scenes"]) == 4


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(tmp_path: Path, repository: Path) -> None:
    flags = ["--data.num_scenes=9", "--data.val_scenes=0", "--data.attribute=all", "--data.image_size=28"]
    flags += ["--data.num_views=2", "--data.batch_size=1", "--workers=1"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "lorasub.cli.main", "generate", *flags, f"--out={killed}"]
    process = subprocess.Popen(command, cwd=repository, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(killed.glob("train/0*"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # its worker may be finishing a scene
    assert json.loads((killed / "manifest.json").read_text())["complete"] is False
    finished = {path.name: path.stat().st_mtime_ns for path in killed.glob("train/0*")}
    assert 3 <= len(finished) < 9
    # whatever has a name is whole
    for name in finished:
        files = json.loads((killed / "train" / name / "scene.json").read_text())["files"]
        assert all(hash_file(killed / "train" / name / file) == found for file, found in files.items())
    assert main(["generate", *flags, f"--out={killed}"]) == 0
    assert main(["generate", *flags[:-1], f"--out={whole}"]) == 0
    assert (killed / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert not list(killed.glob("train/.*"))
    assert finished.items() <= {path.name: path.stat().st_mtime_ns for path in killed.glob("train/0*")}.items()


def test_a_config_of_a_fit_says_what_to_write(tmp_path: Path) -> None:
    config = {
        "trainer": {"max_steps": 3},
        "data": {"class_path": "SyntheticScenes", "init_args": {"attribute": "texture", "num_workers": 2, **SMALL}},
    }
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    flags = ["--data.num_scenes=1", "--data.val_scenes=0", "--layout=nerfstudio", f"--out={tmp_path / 'set'}"]
    assert main(["generate", f"--config={tmp_path / 'fit.yaml'}", *flags]) == 0
    content = json.loads((tmp_path / "set/manifest.json").read_text())["made_from"]
    assert (content["attribute"], content["image_size"]) == ("texture", [28, 28])
    assert (tmp_path / "set/train/000000/transforms.json").is_file()


def test_what_cannot_be_done_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(scenes(num_scenes=1, val_scenes=0), tmp_path / "set")
    with pytest.raises(ConfigError, match=r"other settings: seed was 0, is 1"):
        generate(scenes(seed=1), tmp_path / "set")
    with pytest.raises(ConfigError, match="holds other files"):
        generate(scenes(), tmp_path)
    with pytest.raises(ConfigError, match="render on the CPU only"):
        generate(scenes(), tmp_path / "new", workers=2, device="cuda")
    (tmp_path / "set/train/000000/scene.json").write_text("{")
    with pytest.raises(ArtefactError, match="000000 is damaged"):
        generate(scenes(num_scenes=1, val_scenes=0), tmp_path / "set")
    shutil.rmtree(tmp_path / "set/train/000000")
    generate(scenes(num_scenes=1, val_scenes=0), tmp_path / "set")
    config = tmp_path / "real.yaml"
    config.write_text(yaml.safe_dump({"data": {"class_path": "lorasub.PosedRGBD", "init_args": {"root": "x"}}}))
    assert main(["generate", f"--config={config}", f"--out={tmp_path / 'other'}"]) == 2
    assert "only SyntheticScenes can be generated" in capsys.readouterr().err

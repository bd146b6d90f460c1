"""The code of docs/data.md runs."""

from __future__ import annotations

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser

import lorasub as ls
import lorasub.data.readers.discovery as discovery
from lorasub.data.readers.pose_list import PoseList


def blocks(repository: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (repository / "docs" / "data.md").read_text(), re.DOTALL)


@pytest.fixture
def capture(tmp_path: Path, world, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`my_capture` in the current folder, in our own layout."""
    from PIL import Image

    root = tmp_path / "my_capture"
    frames = []
    for i in range(world.count):
        world.save_image(i, root / f"{i}.png")
        world.save_depth(i, root / f"{i}_depth.png")
        frame = json.loads(blocks(Path(__file__).parents[2], "json")[0])["frames"][0]
        pose = np.linalg.inv(world.world_from_cam[i])[:3]
        frame |= {"name": str(i), "image": f"{i}.png", "depth": f"{i}_depth.png"}
        frames.append(frame | {"intrinsics": world.intrinsics.tolist(), "cam_from_world": pose.tolist()})
        Image.fromarray(world.image(i)).save(root / f"{i}.jpg", quality=98)
        np.save(root / f"{i}.npy", world.depth(i))
        camera = [*world.focal, world.center[0] - 0.5, world.center[1] - 0.5]
        sidecar = {"fx_fy_cx_cy": camera, "camera_to_world": world.world_from_cam[i].tolist()}
        (root / f"{i}.json").write_text(json.dumps(sidecar))
    world.save_depth(0, root / frames[0]["object_mask"])
    content = json.loads(blocks(Path(__file__).parents[2], "json")[0]) | {"frames": frames}
    (root / "capture.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return root


def test_the_data_module_of_the_page_is_fitted_tested_and_short(repository: Path, tiny_weights: Path) -> None:
    own = blocks(repository, "python")[1]
    code = own[own.index("class Clips") :]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    space: dict = {}
    exec(own, space)
    task = ls.GeometryTask(backbone=ls.VGGT.from_pretrained(tiny_weights), adapter=ls.LoRA(r=2))
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = ls.Trainer(accelerator="cpu", precision="32-true", max_steps=2, **quiet)
    trainer.fit(task, space["MyScenes"]())
    assert trainer.global_step == 2
    (scores,) = trainer.test(task, space["MyScenes"](), verbose=False)
    assert scores["test/abs_rel"] > 0


def test_every_python_block_runs(repository: Path, capture: Path, world, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, check, reader = blocks(repository, "python")
    space: dict = {}
    exec(first, space)
    assert space["batch"].images.shape == (2, 4, 3, 112, 112)
    assert space["batch"].labels.tolist() == [1, 1]
    assert space["batch"].object_masks.all()
    exec(check, {})
    told = capsys.readouterr().out
    assert "depth moved between views 0." in told
    assert "CONTRADICTED" not in told
    module = types.ModuleType("my_module")
    sys.modules["my_module"] = module
    exec(reader, module.__dict__)
    found = discovery.find_captures(capture, module.SidecarReader())
    world.check(found[0], list(range(world.count)))
    del sys.modules["my_module"]


def test_the_yaml_blocks_name_what_there_is(repository: Path) -> None:
    import lorasub as ls

    data, mixture, of_modules, pose_list = (yaml.safe_load(block) for block in blocks(repository, "yaml"))
    parser = ArgumentParser()
    parser.add_subclass_arguments(ls.PosedRGBD, "data")
    mixed = parser.instantiate(parser.parse_object(mixture)).data
    assert [(source.root, source.format, source.weight) for source in mixed.sources] == [
        ("scannet", "auto", 3),
        ("clearpose", "clearpose", 1),
    ]
    assert mixed.sampling == ls.OverlapSampling(overlap=(0.3, 0.8))
    assert mixed.augmentation == ls.Augmentation(brightness=0.3, blur=1.0, noise=0.02)
    assert mixed.evaluation == {"glass": ls.EvaluationSet(root="tabletop", num_views=3, scenes=50)}
    parser, parser_of_one = ArgumentParser(), ArgumentParser()
    parser.add_subclass_arguments(ls.MixedScenes, "data")
    parser_of_one.add_subclass_arguments(ls.PosedRGBD, "data")
    parts = parser.instantiate(parser.parse_object(of_modules)).data
    assert {name: type(part) for name, part in parts.parts.items()} == {
        "rendered": ls.SyntheticScenes,
        "real": ls.PosedRGBD,
    }
    assert (parts.weights, parts.evaluated) == ([3.0, 1.0], "real")
    module = parser_of_one.instantiate(parser_of_one.parse_object(data)).data
    assert module.view_format.size == (112, 140)
    assert module.held_out == ls.HeldOut(fraction=0.2)
    assert pose_list["format"]["class_path"] == f"{PoseList.__module__}.{PoseList.__name__}"
    PoseList(**pose_list["format"]["init_args"])


def test_the_table_lists_every_format(repository: Path) -> None:
    text = (repository / "docs" / "data.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert listed == {reader.format for reader in discovery.READERS} | {"images", "poselist"}

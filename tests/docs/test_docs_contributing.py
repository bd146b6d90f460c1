"""The five additions of docs/contributing.md, made from outside the package with the page's own code and commands."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import lorasub as ls
from lorasub.adapters import inject_adapters, load_adapter_updates, load_adapters
from lorasub.cli.main import main
from lorasub.data.readers.discovery import find_captures
from lorasub.metrics.results import Results
from lorasub.scenes.description import Primitive

SMALL = ["--data.image_size=56", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
SYNTHETIC = ["--data.num_views=2", "--data.val_scenes=1", "--data.batch_size=1"]


class Page:
    """The files that the page tells to write, and the commands that it tells to give."""

    def __init__(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(?:python|yaml)\n(# (my_\w+\.(?:py|yaml))\n.*?)^```", text, re.MULTILINE | re.DOTALL)
        self.files = {name: block for block, name in blocks}
        self.commands = [shlex.split(line) for line in re.findall(r"^\$ lorasub (.*)$", text, re.MULTILINE)]

    def command(self, word: str) -> list[str]:
        (found,) = (words for words in self.commands if any(word in each for each in words))
        return found


@pytest.fixture
def page(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Page:
    """Its files are in the working folder, beside nothing else: configs are found in the package."""
    found = Page(repository / "docs" / "contributing.md")
    for name, content in found.files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in found.files:
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    return found


def test_the_page_has_five_tasks_of_at_most_three_files(repository: Path, page: Page) -> None:
    text = (repository / "docs" / "contributing.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ")
        for line in text.splitlines()
        if re.match(r"\| a (kind|reader|shape|method|m)", line)
    ]
    assert len(rows) == 5
    for _, _, outside, inside in rows:
        assert 1 <= outside.count("`") // 2 <= 1
        assert 1 <= inside.count("`") // 2 <= 3
        assert outside.strip("`") in page.files
        for path in re.findall(r"`([^`]+)`", inside):
            if "<" in path:  # a new file
                continue
            assert any((repository / root / path).exists() for root in (".", "lorasub")), path
    assert len(page.commands) == 5


def test_an_adapter_from_outside_is_fitted_saved_and_read_as_plain_lora(page: Page, tiny_weights: Path) -> None:
    command = page.command("my_adapter.LoRAFA")
    backbone = ["--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={tiny_weights}"]
    short = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--data.num_scenes=4", "--panels.scenes=0"]
    assert main([*command, *backbone, *short, *SMALL, *SYNTHETIC]) == 0
    (folder,) = Path("runs").glob("**/adapter/lorasub.json")

    import my_adapter

    model = ls.VGGT.from_pretrained(tiny_weights)
    adapters = inject_adapters(model, my_adapter.LoRAFA(r=2))
    adapters.load(folder.parent)
    path, layer = next(iter(adapters.layers.items()))
    assert layer.B.abs().max() > 0
    updates, _ = load_adapter_updates(folder.parent)
    torch.testing.assert_close(updates[path].A, layer.A)
    plain = ls.VGGT.from_pretrained(tiny_weights)
    load_adapters(plain, folder.parent)  # as LoRA, computed by lorasub's own layer
    images = torch.rand(1, 2, 3, 28, 28)
    torch.testing.assert_close(model(images).depth, plain(images).depth, rtol=1e-4, atol=1e-5)


def test_a_reader_from_outside(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "my_capture"
    folder.mkdir()
    poses = {}
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (56, 56, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"view{number}.png")
        pose = np.eye(4)
        pose[0, 3] = number
        poses[f"view{number}"] = pose.tolist()
    (folder / "poses.json").write_text(json.dumps(poses))

    import my_reader

    (capture,) = find_captures(folder, my_reader.PosesFile())
    # a camera at x = 2 moves the world by -2
    assert capture.frames[2].cam_from_world is not None
    assert capture.frames[2].cam_from_world[0, 3] == -2
    assert main([*page.command("my_reader.PosesFile"), *SMALL, "--data.num_views=3"]) == 0
    assert len(list(Path("runs").glob("**/depth/view*.npy"))) == 3


def test_a_shape_from_outside_is_drawn_and_rendered(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = yaml.safe_load(page.files["my_scenes.yaml"])["data"]["init_args"]["ranges"]["geometry"]["shapes"]
    (stool,) = (shape for shape in shapes if isinstance(shape, dict))
    assert main([*page.command("my_scenes.yaml"), "--print_config"]) == 0
    assert "stool" in capsys.readouterr().out

    from lorasub.scenes.ranges import GeometryRanges, SceneRanges
    from lorasub.scenes.shapes import Piece, Shape

    pieces = tuple(
        Piece(Primitive[p["kind"]], *(tuple(p[name]) for name in ("center", "size", "shape") if name in p))
        for p in stool["pieces"]
    )
    ranges = SceneRanges(geometry=GeometryRanges(shapes=(Shape(name="stool", pieces=pieces),), count=(3, 3)))
    data = ls.SyntheticScenes("geometry", ranges=ranges, image_size=28, num_views=1, batch_size=1)
    scene = data.train_sampler.sample([0])
    kinds = scene.geometry.kind[0]
    assert sorted(kinds[kinds != 0].tolist()) == 3 * [Primitive.CYLINDER] + 3 * [Primitive.CONE]
    cones = scene.geometry.size[0][kinds == Primitive.CONE]
    tops = scene.geometry.size[0][kinds == Primitive.CYLINDER]
    torch.testing.assert_close(sorted((tops[:, 0] / 0.9).tolist()), sorted((cones[:, 0] / 0.5).tolist()))
    assert (data.on_after_batch_transfer(scene, 0).depth > 0).any()


def test_a_method_from_outside_is_planned_and_keyed_by_its_code(
    page: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*page.command("my_study.yaml"), "--steps", "--json"]

    def steps() -> dict[str, str]:
        capsys.readouterr()
        assert main(command) == 0
        return {step["step"]: step["key"] for step in json.loads(capsys.readouterr().out)["steps"]}

    before = steps()
    own = {name for name in before if "lora_fa" in name}
    assert any(name.startswith("finetune") for name in own)
    with (tmp_path / "my_adapter.py").open("a") as file:
        file.write("\nSCALE = 3\n")
    after = steps()
    assert {name for name in before if before[name] != after[name]} == own


def test_a_metric_from_outside(page: Page) -> None:
    import my_metric

    metric = my_metric.Log10Error()
    batch = next(iter(ls.SyntheticScenes("geometry", image_size=28, num_views=1, batch_size=1).val_dataloader()))
    batch = ls.SyntheticScenes("geometry", image_size=28, num_views=1).on_after_batch_transfer(batch, 0)
    far = batch.depth > batch.depth[batch.valid].median()
    # a tenth of the far half: with the median at the near half, every far pixel is one decade off
    predictions = ls.Predictions(depth=torch.where(far, batch.depth / 10, batch.depth) * 7)
    metric.update(predictions, batch)
    torch.testing.assert_close(metric.compute()["log10"], (far & batch.valid).sum() / batch.valid.sum())
    assert main([*page.command("my_metric.Log10Error"), *SMALL, *SYNTHETIC]) == 0
    (found,) = Path("runs").glob("**/results.json")
    assert 0 < Results.load(found).sets["test"].overall["log10"] < 1

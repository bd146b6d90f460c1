"""Settings that are wrong, missing or filled in: each told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from lorasub.cli.main import main
from lorasub.training.parser import plain, training_parser
from lorasub.training.run_settings import Verb
from lorasub.training.sources import read_sources

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
GEOMETRY = f"--config={CONFIGS / 'geometry.yaml'}"

MISTAKES = [
    (["--model.adapter", "Lora"], "model.adapter", "'LoRA'"),
    (["--model.adapter.rank=3"], "LoRA has no option 'rank'", "'r'"),
    (["--model", "GeometryTsk"], "model", "'GeometryTask'"),
    (["--data", "SyntheticScene"], "data", "'SyntheticScenes'"),
    (["--data.batchsize=2"], "SyntheticScenes has no option", "'batch_size'"),
    (["--data.attribute=geometri"], "data.attribute", "'geometry'"),
    (["--model.backbone.name=nan0"], "model.backbone.name", "'nano'"),
    (["--model.optimizer.lrr=3"], "AdamW has no option 'lrr'", "'lr'"),
    (["--trainer.callbacks+=lorasub.callbacks.EncodrCache"], "trainer.callbacks", "'EncoderCache'"),
    (["--model.optimizer", "AdamWW"], "model.optimizer", "'AdamW'"),
    (["--trainer.max_step=2"], "--trainer.max_step'", "'--trainer.max_steps'"),
    (["--trainer.max_steps=abc"], "trainer.max_steps", "int"),
]


@pytest.mark.parametrize(("words", "names", "suggests"), MISTAKES, ids=lambda value: str(value)[:30])
def test_a_mistake_is_told_in_one_line_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], words: list[str], names: str, suggests: str
) -> None:
    assert main(["fit", GEOMETRY, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lorasub: ")
    assert names in line
    assert suggests in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit"], "give --config FILE"),
        (["test"], "give --ckpt_path RUN"),
        (["predict"], "give --data Photos"),
        (["fit", f"--config={CONFIGS / 'real_rgbd.yaml'}"], "give it with --data.root VALUE"),
        (["fit", "--config=no.yaml"], "there is no config no.yaml"),
    ],
)
def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert "???" not in line


@pytest.mark.parametrize("content", ["", "- 1\n", "model: [\n"])
def test_a_damaged_config_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(content)
    assert main(["fit", f"--config={config}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mine.yaml" in line


def test_a_config_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    marked = tmp_path / "mine.yaml"
    marked.write_bytes((CONFIGS / "geometry.yaml").read_text().encode("utf-8-sig"))
    plain, other = (
        read_sources("fit", training_parser("fit"), [f"--config={path}"])
        for path in (CONFIGS / "geometry.yaml", marked)
    )
    assert plain.settings == other.settings


def test_settings_of_pretraining_can_be_read_again(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    parser = training_parser("fit")
    settings = read_sources("fit", parser, [f"--config={CONFIGS / 'pretrain_nano.yaml'}"]).settings
    text = parser.dump(settings, skip_none=False)
    assert not [str(warning.message) for warning in recwarn if "serialize" in str(warning.message)]
    (tmp_path / "config.yaml").write_text(text)
    again = read_sources("fit", parser, [f"--config={tmp_path / 'config.yaml'}"]).settings
    assert parser.dump(again, skip_none=False) == text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model: {class_path: GeometryTask}\ndata: SyntheticScenes\n", "GeometryTask (at model) needs backbone"),
        ("model: {class_path: json.JSONDecoder}\ndata: SyntheticScenes\n", "subclass of SceneTask"),
        ("modle: 3\nmodel: 1\n", "model"),
    ],
)
def test_a_wrong_config_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(content)
    assert main(["fit", f"--config={config}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert line.endswith(f"(read: {config})")


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ([], 112),
        (["--model.backbone.name=vggt-1b", "--model.backbone.weights=model.pt"], 518),
        (["--model.backbone.name=vggt-1b", "--data.image_size=224"], 224),
        (["--model.backbone=lorasub.DepthAnything3.from_preset", "--model.backbone.name=da3-small"], 504),
        (["--model.backbone=lorasub.VGGTOmega.from_preset", "--model.backbone.name=vggt-omega-1b-256"], 256),
    ],
)
def test_a_preset_brings_its_image_size_unless_one_is_given(words: list[str], size: int) -> None:
    settings = read_sources("fit", training_parser("fit"), [GEOMETRY, *words]).settings
    assert settings.data.init_args.image_size == size


def run_of_other_size(folder: Path) -> Path:
    """A run whose data has settings of its own, as `fit` leaves them; returns its last checkpoint."""
    settings = read_sources("fit", training_parser("fit"), [GEOMETRY, "--data.image_size=56"]).settings
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(plain(settings)))
    torch.save({"state_dict": {}, "global_step": 1, "pytorch-lightning_version": "2.6.0"}, checkpoint)
    return folder


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_data_of_a_run_keep_their_size_and_take_single_settings(tmp_path: Path, verb: Verb) -> None:
    run = run_of_other_size(tmp_path / "runs" / "geometry" / "0")
    words = ["--model", "GeometryTask", "--model.backbone=lorasub.VGGT.from_preset", "--model.backbone.name=nano"]
    sources = read_sources(verb, training_parser(verb), [f"--ckpt_path={run}", *words, "--data.val_scenes=2"])
    data = sources.settings.data
    assert data.class_path.endswith("SyntheticScenes")
    assert data.init_args.attribute == "geometry"
    assert (data.init_args.image_size, data.init_args.val_scenes) == (56, 2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["predict", "--data.root=Holiday"], "give --data Photos"),
        (["predict", "--data.root=Holiday", "--model=GeometryTask"], "name one with --data CLASS"),
    ],
)
def test_settings_of_data_without_a_class_ask_for_one(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line

"""From adapters to a basis and back into a fit, on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lorasub.adapters import LoRA, ProjectedLoRA, gradient_basis, inject_adapters, load_adapter_updates, load_adapters
from lorasub.backbones import VGGT
from lorasub.cli.main import main
from lorasub.data import SyntheticScenes
from lorasub.files import read_json, read_tensors
from lorasub.subspaces import SubspaceBasis, read_paper_format
from lorasub.tasks import GeometryTask, scene_losses

TINY: dict[str, Any] = {"class_path": "lorasub.VGGT.from_pretrained"}
#: Scenes that take milliseconds.
SIZES: dict[str, Any] = {
    **{"val_scenes": 1, "num_views": 2, "batch_size": 2, "image_size": 28, "antialias": False},
    **{"bases": 2, "shadow_samples": 1},
}


@pytest.fixture(scope="module")
def adapters(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six adapters, three of each of two attributes; those of an attribute share a planted direction in every layer."""
    root = tmp_path_factory.mktemp("adapters")
    for offset, attribute in enumerate(("geometry", "texture")):
        for partition in range(3):
            backbone = VGGT.from_pretrained(tiny_weights)
            torch.manual_seed(10 * offset + partition)
            adapted = inject_adapters(backbone, LoRA(r=3, targets="blocks"))
            planted = torch.Generator().manual_seed(offset)
            for parameter_name, parameter in adapted.trainable_parameters().items():
                axis = 1 if parameter_name.endswith("lora_A.weight") else 0
                shared = torch.randn(parameter.shape[axis], generator=planted)
                with torch.no_grad():
                    parameter.copy_(0.05 * torch.randn_like(parameter))
                    parameter.select(1 - axis, 0).copy_(shared / shared.norm())
            adapted.save(root / attribute / str(partition) / "adapter")
    return root


def run(words: list[Any], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def runs(adapters: Path, attribute: str) -> list[Path]:
    return [adapters / attribute / str(partition) for partition in range(3)]


def group(adapters: Path, attribute: str) -> str:
    return f"{attribute}=" + ",".join(map(str, runs(adapters, attribute)))


def test_mine_finds_what_was_planted(adapters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mine", *runs(adapters, "geometry"), "--dim=1", "--attribute=geometry", f"--out={tmp_path / 'basis'}"]
    told = run(words, capsys)
    assert told["layers"] == 32
    basis = SubspaceBasis.load(tmp_path / "basis")
    assert basis.attributes == ("geometry",)
    assert told["hash"] == basis.hash()
    assert (tmp_path / "basis" / "spectra.png").stat().st_size > 10_000
    assert main(list(map(str, words))) == 2  # it is there already
    assert "--overwrite" in capsys.readouterr().err
    run([*words, "--overwrite"], capsys)
    tensors = read_tensors(adapters / "geometry" / "0" / "adapter" / "adapter_model.safetensors")
    for path, layer in basis.layers.items():
        planted = tensors[f"base_model.model.{path}.lora_A.weight"][0]
        assert abs(planted @ layer.V[:, 0]) > 0.95


@pytest.fixture
def settings(tiny_weights: Path) -> list[str]:
    """Words of a fit on scenes that take milliseconds."""
    sizes = {**SIZES, "num_scenes": 4}
    return [
        "--model=GeometryTask",
        f"--model.backbone={json.dumps(TINY | {'init_args': {'source': str(tiny_weights)}})}",
        "--model.adapter=LoRA",
        "--data=SyntheticScenes",
        *(f"--data.{name}={json.dumps(value)}" for name, value in sizes.items()),
    ]


def test_a_basis_from_gradients_of_two_attributes(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mine", "--from=gradients", "--attributes", "texture", "camera", "--partitions=1", "--scenes=2", "--dim=2"]
    told = run([*words, f"--out={tmp_path / 'raw'}", *settings], capsys)
    backbone = VGGT.from_pretrained(settings_source(settings))
    basis = SubspaceBasis.load(tmp_path / "raw")
    assert basis.base_model_hash == backbone.weights_hash()
    assert basis.attributes == ("texture", "camera")
    assert told["parameters_of_M"] == 4 * told["layers"]
    # the same by hand
    task = GeometryTask(backbone)
    batches = []
    for attribute in ("texture", "camera"):
        data = SyntheticScenes(attribute=attribute, **{**SIZES, "num_scenes": 4})
        loader = data.train_dataloader()
        batches.append(data.on_after_batch_transfer(next(iter(loader)), 0))
    by_hand = gradient_basis(backbone, scene_losses(task, batches), dim=2)
    for path, layer in basis.layers.items():
        cosines = torch.linalg.svdvals(layer.U.T @ by_hand.layers[path].U)
        torch.testing.assert_close(cosines, torch.ones(2), atol=1e-2, rtol=0)
    specific = run([*words, "--part=specific", f"--out={tmp_path / 'specific'}", *settings], capsys)
    assert specific["layers"] == told["layers"]
    names = {name for layer in SubspaceBasis.load(tmp_path / "specific").layers.values() for name in layer.U_attributes}
    assert names == {"texture", "camera"}


@pytest.mark.parametrize("source", ["activations", "weights", "random"])
def test_bases_from_a_model(
    source: str, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = ["--scenes=2"] if source == "activations" else []
    told = run(["mine", f"--from={source}", "--dim=3", *scenes, f"--out={tmp_path / 'x'}", *settings], capsys)
    basis = SubspaceBasis.load(tmp_path / "x")
    assert set(basis.dims.values()) == {(3, 3)}
    assert told["hash"] == basis.hash()
    backbone = VGGT.from_pretrained(settings_source(settings))
    inject_adapters(backbone, ProjectedLoRA(basis=basis))  # of the right model, with all layers
    if source == "weights":
        for path, layer in basis.layers.items():
            V = torch.linalg.svd(attached(backbone, path).detach())[2][:3].T
            cosines = torch.linalg.svdvals(V.T @ layer.V)
            torch.testing.assert_close(cosines, torch.ones(3), atol=1e-2, rtol=0)


def whitening_config(settings: list[str], folder: Path) -> Path:
    """A config of a fit with four scenes."""
    model = {"class_path": "GeometryTask", "init_args": {"backbone": json.loads(settings[1].partition("=")[2])}}
    data = {"class_path": "SyntheticScenes", "init_args": {**SIZES, "num_scenes": 4}}
    (folder / "fit.yaml").write_text(json.dumps({"model": model, "data": data}))
    return folder / "fit.yaml"


def test_whitened_mining_reads_a_config(
    adapters: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["mine", *runs(adapters, "geometry"), "--dim=1", f"--whiten={whitening_config(settings, tmp_path)}"]
    run([*words, f"--out={tmp_path / 'basis'}"], capsys)
    basis = SubspaceBasis.load(tmp_path / "basis")
    assert basis.options["whitened"] is True
    assert set(basis.dims.values()) == {(1, 1)}


def test_whitened_mining_takes_the_layers_of_the_adapters(
    tiny_weights: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, layers = [], set()
    for seed in range(2):
        torch.manual_seed(seed)
        adapted = inject_adapters(VGGT.from_pretrained(tiny_weights), LoRA(r=2, targets=["depth_head", "camera_head"]))
        for parameter in adapted.trainable_parameters().values():
            torch.nn.init.normal_(parameter)
        folders.append(adapted.save(tmp_path / str(seed)))
        layers = set(adapted.layers)
    config = whitening_config(settings, tmp_path)
    run(["mine", *folders, "--dim=1", f"--whiten={config}", f"--out={tmp_path / 'basis'}"], capsys)
    assert set(SubspaceBasis.load(tmp_path / "basis").layers) == layers


def attached(backbone: VGGT, path: str) -> torch.Tensor:
    weight: torch.Tensor = backbone.get_submodule(path).base_layer.weight
    return weight


def settings_source(settings: list[str]) -> str:
    backbone = json.loads(settings[1].partition("=")[2])
    return str(backbone["init_args"]["source"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from=gradient", "a"], "gradient"),
        (["--from=weights", "--scenes=4"], "--scenes means nothing for --from weights here: no scene is looked at"),
        (["--from=random", "--columns=kfac"], "--columns means nothing for --from random"),
        (["--from=gradients", "--partitions=2"], "--partitions means nothing"),
    ],
)
def test_what_cannot_be_meant_is_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", "--out=x", *words]) == 2
    assert told in capsys.readouterr().err


def test_overlap_within_exceeds_between(adapters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = [group(adapters, "geometry"), group(adapters, "texture")]
    told = run(["overlap", *groups, "--dim=1", "--draws=50", f"--out={tmp_path}"], capsys)
    phi = {}
    for report in told["reports"]:
        (row,) = (r for r in report["summary"]["all"] if r["measure"] == "phi" and r["side"] == "input")
        phi[report["first"], report["second"]] = row["value"]
    assert phi["geometry", "geometry"] > 0.8
    assert phi["texture", "texture"] > 0.8
    assert phi["geometry", "texture"] < 0.3
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"overlap.json", "phi.png", "phi.csv", "depth_profile.png", "angles_geometry_texture.png"}


def test_split_writes_every_part(adapters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = [group(adapters, "geometry"), group(adapters, "texture")]
    told = run(["split", *groups, "--dim=2", "--draws=20", f"--out={tmp_path}"], capsys)
    names = ["common", "raw/geometry", "raw/texture", "specific/geometry", "specific/texture"]
    assert [row["basis"] for row in told["bases"]] == names
    assert all(SubspaceBasis.load(tmp_path / name).layers for name in names)


def test_combined_basis_is_fitted_in_and_exported(
    adapters: Path, tiny_weights: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for attribute in ("geometry", "texture"):
        run(["mine", *runs(adapters, attribute), "--dim=2", f"--out={tmp_path / attribute}"], capsys)
    told = run(
        ["combine", f"g={tmp_path / 'geometry'}", f"t={tmp_path / 'texture'}", f"--out={tmp_path / 'both'}"], capsys
    )
    assert told["mean_d_in"] == 4
    assert told["parameters_of_M"] == 32 * 16
    assert {row["attribute"] for row in read_json(tmp_path / "both" / "survival.json")} == {"g", "t"}

    run(["export", tmp_path / "both", "--format=space", f"--out={tmp_path / 'space.safetensors'}"], capsys)
    both, space = SubspaceBasis.load(tmp_path / "both"), read_paper_format(tmp_path / "space.safetensors")
    assert both.layers.keys() == space.layers.keys()

    fit = [
        *("fit", "--config", str(repository / "configs" / "geometry.yaml"), f"--run.folder={tmp_path / 'runs'}"),
        *("--model.backbone=lorasub.VGGT.from_pretrained", f"--model.backbone.source={tiny_weights}"),
        *(
            "--model.adapter=ProjectedLoRA",
            f"--model.adapter.basis={tmp_path / 'both'}",
            "--model.adapter.targets=blocks",
        ),
        *(
            "--data.image_size=28",
            "--data.num_views=2",
            "--data.num_scenes=4",
            "--data.val_scenes=2",
            "--panels.scenes=0",
        ),
        *("--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.val_check_interval=2"),
        "--model.optimizer.lr=0.5",  # two steps from zero should be seen through layer scales of 0.01
        *("--trainer.enable_progress_bar=false", f"--overlap.references.geometry={tmp_path / 'geometry'}"),
        *(f"--overlap.references.texture={tmp_path / 'texture'}", "--overlap.draws=20"),
    ]
    assert main(fit) == 0
    run_folder = tmp_path / "runs" / "geometry" / "0"
    overlap = read_json(run_folder / "overlap.json")
    # it is confined to its basis: not where it lies is told, but which columns it uses
    assert {(row["origin"], row["side"]) for row in overlap["used_columns"]} == {
        (attribute, side) for attribute in "gt" for side in ("output", "input")
    }
    assert (run_folder / "figures" / "used_columns.png").is_file()
    assert "reports" not in overlap

    told = run(["inspect", run_folder], capsys)
    assert told["kind"] == "adapter (projected)"
    assert told["basis_hashes"] == both.hash()
    assert told["parameters"] == 32 * 4 * 4  # what was trained, M, not what the same update takes as a plain LoRA
    assert run(["inspect", tmp_path / "both"], capsys)["hash"] == both.hash()
    told = run(["inspect", run_folder / "checkpoints" / "last.ckpt"], capsys)
    assert (told["kind"], told["step"], told["can_be_resumed"]) == ("checkpoint", 2, True)

    run(["merge", run_folder, f"--base={tiny_weights}", f"--out={tmp_path / 'merged'}"], capsys)
    adapted = VGGT.from_pretrained(tiny_weights).eval()
    load_adapters(adapted, run_folder / "adapter")
    merged = VGGT.from_pretrained(tmp_path / "merged").eval()
    images = torch.rand(1, 2, 3, 28, 28)
    with torch.no_grad():
        one, two, base = (model(images).depth for model in (adapted, merged, VGGT.from_pretrained(tiny_weights).eval()))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    assert (one - base).abs().max() > 1e-4

    run(["export", run_folder, f"--out={tmp_path / 'peft'}"], capsys)
    assert (tmp_path / "peft" / "adapter_config.json").is_file()
    assert not (tmp_path / "peft" / "lorasub.json").exists()


def without_basis(adapters: Path, tmp_path: Path) -> tuple[list[Any], str]:
    return ["mine", adapters / "geometry" / "0", f"--out={tmp_path / 'b'}"], "two adapters"


def missing_adapter(adapters: Path, tmp_path: Path) -> tuple[list[Any], str]:
    return ["mine", adapters / "geometry" / "0", tmp_path / "nowhere", f"--out={tmp_path / 'b'}"], "nowhere"


def too_many_dimensions(adapters: Path, tmp_path: Path) -> tuple[list[Any], str]:
    return ["mine", *runs(adapters, "geometry"), "--dim=50", f"--out={tmp_path / 'b'}"], "50"


def same_name_twice(adapters: Path, tmp_path: Path) -> tuple[list[Any], str]:
    return ["overlap", f"a={adapters}", f"a={adapters}"], "'a' comes twice"


def not_a_basis(adapters: Path, tmp_path: Path) -> tuple[list[Any], str]:
    return ["combine", f"a={adapters / 'geometry' / '0'}", f"--out={tmp_path / 'b'}"], "basis"


def unknown_artefact(adapters: Path, tmp_path: Path) -> tuple[list[Any], str]:
    return ["inspect", tmp_path], str(tmp_path)


@pytest.mark.parametrize(
    "case", [without_basis, missing_adapter, too_many_dimensions, same_name_twice, not_a_basis, unknown_artefact]
)
def test_wrong_use_is_told_and_leaves_nothing(
    case: Callable[[Path, Path], tuple[list[Any], str]],
    adapters: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, says = case(adapters, tmp_path)
    assert main([*map(str, words)]) in (1, 2)
    told = capsys.readouterr().err
    assert says in told
    assert "Traceback" not in told
    assert not (tmp_path / "b").exists()


def test_data_check(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(["data", "check", real_data / "open3d_redwood"], capsys)
    (capture,) = told["captures"]
    assert capture["frames"] == 5
    assert capture["claims"]["poses"]["verdict"] == "proved"
    assert main(["data", "look", "x"]) == 2


@pytest.mark.parametrize("groups", [False, True])
def test_overlap_refuses_equal_starts(
    adapters: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], groups: bool
) -> None:
    for name, seed in (("one", 5), ("two", 5), ("three", 6), ("four", 7)):
        torch.manual_seed(seed)
        inject_adapters(VGGT.from_pretrained(tiny_weights), LoRA(r=3, targets="blocks")).save(tmp_path / name)
    one, two, three, four = (tmp_path / name for name in ("one", "two", "three", "four"))
    words = [f"a={one},{three}", f"b={two},{four}"] if groups else [f"a={one}", f"b={two}"]
    assert main(["overlap", *words, "--draws=5"]) == 2
    assert "one and " in (told := capsys.readouterr().err)
    assert "started from the same lora_A" in told


def test_an_export_in_place_of_another_adapter_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of the adapter that was there stays: its description names files that are others now."""
    for name, r in (("new", 2), ("old", 3)):
        inject_adapters(nn.Sequential(nn.Linear(6, 8)), LoRA(r=r, targets="all")).save(tmp_path / name)
    words = ["export", str(tmp_path / "new"), "--format=peft", "--overwrite"]
    assert main([*words, f"--out={tmp_path / 'old'}"]) == 0
    updates, _ = load_adapter_updates(tmp_path / "old")
    assert updates["0"].r == 2
    assert main([*words, f"--out={tmp_path / 'new'}"]) == 2
    assert "is the adapter" in capsys.readouterr().err
    assert load_adapter_updates(tmp_path / "new")[1].base_model_hash is not None

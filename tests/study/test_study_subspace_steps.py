"""Mining, splitting, combining and comparing as steps, on adapters with a planted direction."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lorasub.adapters import LoRA, ProjectedLoRA, inject_adapters
from lorasub.errors import ArtefactError
from lorasub.files import read_json
from lorasub.study.comparison_steps import explain, overlap
from lorasub.study.removal import remove
from lorasub.study.store import OpenStep
from lorasub.study.subspace_steps import combine, mine, split
from lorasub.subspaces import SubspaceBasis

ATTRIBUTES = ("geometry", "camera")
OPTIONS = {"dim": 2, "alpha": 1.0}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 20), nn.Linear(20, 24))


def direction(attribute: str, size: int) -> Tensor:
    """A unit vector that belongs to an attribute."""
    return nn.functional.one_hot(torch.tensor(ATTRIBUTES.index(attribute)), size).float()


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Four adapters of each attribute: its own direction, strong, and something else."""
    found = {}
    for attribute in ATTRIBUTES:
        for partition in range(4):
            adapters = inject_adapters(network(), LoRA(r=3, targets="all"))
            generator = torch.Generator().manual_seed(10 * partition + ATTRIBUTES.index(attribute))
            with torch.no_grad():
                for name, factor in adapters.trainable_parameters().items():
                    factor.copy_(0.1 * torch.randn(factor.shape, generator=generator))
                    if "lora_A" in name:
                        factor[0] = direction(attribute, factor.shape[1])
                    else:
                        factor[:, 0] = 3 * direction(attribute, factor.shape[0])
            folder = tmp_path / f"{attribute}{partition}"
            adapters.save(folder / "run" / "adapter")
            found[f"{attribute}/{partition}"] = folder
    return found


def done(does: object, folder: Path, config: dict[str, object], inputs: dict[str, Path]) -> dict[str, object]:
    folder.mkdir()
    return does(OpenStep(folder=folder, config=config, inputs=inputs))  # type: ignore[operator,no-any-return]


def mined(attribute: str, runs: dict[str, Path], tmp_path: Path, layers: tuple[str, ...] = ("*",)) -> Path:
    folder = tmp_path / f"mined {attribute}"
    own = {role: path for role, path in runs.items() if role.startswith(attribute)}
    config = {"attribute": attribute, "layers": list(layers), "options": OPTIONS}
    assert 0 < float(str(done(mine, folder, config, own)["explained"])) <= 1
    return folder


def test_a_mined_basis_holds_its_attributes_direction(runs: dict[str, Path], tmp_path: Path) -> None:
    basis = SubspaceBasis.load(mined("camera", runs, tmp_path) / "basis")
    assert basis.attributes == ("camera",)
    assert [source.name for source in basis.sources] == [f"camera/{partition}" for partition in range(4)]
    for layer in basis.layers.values():
        for side in (layer.U, layer.V):
            assert float((side.T @ direction("camera", len(side))).norm()) > 0.99


def test_only_the_wanted_layers_are_mined(runs: dict[str, Path], tmp_path: Path) -> None:
    assert set(SubspaceBasis.load(mined("camera", runs, tmp_path, ("1",)) / "basis").layers) == {"1"}
    with pytest.raises(ArtefactError, match="none of the 2 layers"):
        mined("geometry", runs, tmp_path, ("blocks.*",))


def test_combined_bases_can_be_trained_in(runs: dict[str, Path], tmp_path: Path) -> None:
    bases = {attribute: mined(attribute, runs, tmp_path) for attribute in ATTRIBUTES}
    config = {"attributes": list(ATTRIBUTES), "part": "raw", "tolerance": 1e-3, "scaled": False}
    done(combine, tmp_path / "combined", config, bases)
    basis = SubspaceBasis.load(tmp_path / "combined" / "basis")
    for layer in basis.layers.values():
        assert (layer.d_out, layer.d_in) == (4, 4)
        for attribute in ATTRIBUTES:
            assert float((layer.U.T @ direction(attribute, len(layer.U))).norm()) > 0.99
    assert {row["attribute"] for row in read_json(tmp_path / "combined" / "survival.json")} == set(ATTRIBUTES)
    adapters = inject_adapters(network(), ProjectedLoRA(basis=str(tmp_path / "combined" / "basis"), targets="all"))
    assert adapters.table().trainable == 2 * 4 * 4


@pytest.mark.parametrize("part", ["specific", "common+specific"])
def test_parts_can_be_combined(part: str, runs: dict[str, Path], tmp_path: Path) -> None:
    done(split, tmp_path / "split", {"layers": ["*"], "options": OPTIONS}, runs)
    config = {"attributes": list(ATTRIBUTES), "part": part, "tolerance": 1e-3, "scaled": False}
    done(combine, tmp_path / "own", config, {"split": tmp_path / "split"})
    basis = SubspaceBasis.load(tmp_path / "own" / "basis")
    assert basis.attributes == (("common", *ATTRIBUTES) if part == "common+specific" else ATTRIBUTES)


def test_overlap_is_larger_within_an_attribute(runs: dict[str, Path], tmp_path: Path) -> None:
    done(overlap, tmp_path / "overlap", {"dim": 1, "alpha": 1.0, "draws": 20, "layers": ["*"]}, runs)
    reports = read_json(tmp_path / "overlap" / "overlap.json")["reports"]
    phi = {
        (report["first"], report["second"]): row["value"]
        for report in reports
        for row in report["summary"]["all"]
        if (row["measure"], row["side"]) == ("phi", "output")
    }
    assert phi["geometry", "geometry"] > 0.95
    assert phi["camera", "camera"] > 0.95
    assert phi["geometry", "camera"] < 0.1
    for name in ("overlap.png", "overlap_specific.json", "overlap_specific.png"):
        assert (tmp_path / "overlap" / name).stat().st_size > 0
    for row in read_json(tmp_path / "overlap" / "separation.json"):
        assert row["within"] > 0.9
        assert row["between"] < 0.1
        assert row["p"] < 0.05


def test_three_adapters_have_no_specific_part_to_compare(runs: dict[str, Path], tmp_path: Path) -> None:
    three = {role: path for role, path in runs.items() if not role.endswith("/3")}
    done(overlap, tmp_path / "overlap", {"dim": 1, "alpha": 1.0, "draws": 20, "layers": ["*"]}, three)
    assert {path.name for path in (tmp_path / "overlap").glob("*.json")} == {"overlap.json", "separation.json"}


def test_a_subspace_explains_new_adapters_of_its_own_attribute(runs: dict[str, Path], tmp_path: Path) -> None:
    done(explain, tmp_path / "explain", {"dim": 1, "alpha": 1.0, "layers": ["*"]}, runs)
    rows = read_json(tmp_path / "explain" / "explained.json")
    found = {(row["basis"], row["adapters"]): row for row in rows if row["layers"] == "all"}
    assert {row["adapters_measured"] for row in rows} == {4}
    for basis, adapters in found:
        share = found[basis, adapters]["explained"]
        assert share > 0.9 if basis == adapters else share < 0.1
        assert found[basis, adapters]["chance"] == pytest.approx(1 / 20 / 24, rel=0.01)
    assert (tmp_path / "explain" / "explained.png").stat().st_size > 0
    assert (tmp_path / "explain" / "explained_specific.png").stat().st_size > 0
    specific = read_json(tmp_path / "explain" / "explained_specific.json")
    assert {row["adapters_measured"] for row in specific} == {4}


@pytest.mark.parametrize("random", [False, True])
def test_what_is_removed_is_gone_and_nothing_else(random: bool, runs: dict[str, Path], tmp_path: Path) -> None:
    fitted = runs["camera/0"]
    adapters = inject_adapters(network(), LoRA(r=3, targets="all"))
    adapters.load(fitted / "run" / "adapter")
    state = {f"backbone.{name}": factor.detach() for name, factor in adapters.trainable_parameters().items()}
    (fitted / "run" / "checkpoints").mkdir()
    torch.save({"state_dict": state | {"other": torch.ones(1)}}, fitted / "run" / "checkpoints" / "last.ckpt")
    basis = mined("camera", runs, tmp_path)
    made = done(remove, tmp_path / "rest", {"random": random, "seed": 3}, {"fit": fitted, "basis": basis})
    rest = torch.load(tmp_path / "rest/run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert rest.keys() == state.keys() | {"other"}
    removed = 0.0
    subspaces = SubspaceBasis.load(basis / "basis").layers
    for path, subspace in subspaces.items():
        B, A = (state[f"backbone.{path}.lora_{side}.weight"] for side in "BA")
        left_B, left_A = (rest[f"backbone.{path}.lora_{side}.weight"] for side in "BA")
        if random:
            assert left_B.shape == B.shape
        else:
            expected = (torch.eye(len(B)) - subspace.U @ subspace.U.T) @ B @ A
            expected = expected @ (torch.eye(A.shape[1]) - subspace.V @ subspace.V.T)
            torch.testing.assert_close(left_B @ left_A, expected, atol=1e-5, rtol=1e-4)
        removed += 1 - float((left_B @ left_A).square().sum() / (B @ A).square().sum())
    assert made["removed"] == pytest.approx(removed / 2, abs=0.05)
    assert made["removed"] < 0.5 if random else made["removed"] > 0.9

"""Mining, splitting, combining and comparing as steps, on adapters with a planted direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lorasub.adapters import LoRA, ProjectedLoRA, inject_adapters, load_adapter_updates
from lorasub.errors import ArtefactError
from lorasub.files import read_json
from lorasub.study.artefacts import Output, Workplace, step_folder
from lorasub.study.steps.adapters import FittedAdapter
from lorasub.study.steps.comparison import Compare, explain, overlap
from lorasub.study.steps.removal import Remove, remove
from lorasub.study.steps.subspaces import Combine, Mean, Mine, Split, combine, mean, mine, split
from lorasub.subspaces import SubspaceBasis

ATTRIBUTES = ("geometry", "camera")
ALL = ("*",)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 20), nn.Linear(20, 24))


def direction(attribute: str, size: int) -> Tensor:
    """A unit vector that belongs to an attribute."""
    return nn.functional.one_hot(torch.tensor(ATTRIBUTES.index(attribute)), size).float()


def fitted(attribute: str, partition: int) -> FittedAdapter:
    return FittedAdapter(
        attribute=attribute, partition=partition, fit=Output(kind="fit", key=f"{attribute}{partition}")
    )


FITTED = tuple(fitted(attribute, partition) for attribute in ATTRIBUTES for partition in range(4))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with four adapters of each attribute: its own direction, strong, and something else."""
    for adapter in FITTED:
        model = network()
        torch.manual_seed(100 + 10 * adapter.partition + ATTRIBUTES.index(adapter.attribute))  # starts of their own
        adapters = inject_adapters(model, LoRA(r=3, targets="all"))
        generator = torch.Generator().manual_seed(10 * adapter.partition + ATTRIBUTES.index(adapter.attribute))
        with torch.no_grad():
            for name, factor in adapters.trainable_parameters().items():
                factor.copy_(0.1 * torch.randn(factor.shape, generator=generator))
                if "lora_A" in name:
                    factor[0] = direction(adapter.attribute, factor.shape[1])
                else:
                    factor[:, 0] = 3 * direction(adapter.attribute, factor.shape[0])
        adapters.save(step_folder(tmp_path, "fit", adapter.fit.key) / "run" / "adapter")
    return tmp_path


def done(function: Callable[[Any, Workplace], dict[str, Any]], spec: Any, root: Path, name: str) -> dict[str, Any]:
    folder = step_folder(root, function.__name__, name)
    folder.mkdir(parents=True)
    return function(spec, Workplace(folder=folder, root=root))


def mined(attribute: str, root: Path, layers: tuple[str, ...] = ALL) -> Output:
    own = tuple(adapter for adapter in FITTED if adapter.attribute == attribute)
    spec = Mine(attribute=attribute, adapters=own, layers=layers, dim=2)
    assert 0 < done(mine, spec, root, attribute)["explained"] <= 1
    return Output(kind="mine", key=attribute)


def basis_of(root: Path, output: Output) -> SubspaceBasis:
    return SubspaceBasis.load(step_folder(root, output.kind, output.key) / "basis")


def test_a_mined_basis_holds_its_attributes_direction(root: Path) -> None:
    basis = basis_of(root, mined("camera", root))
    assert basis.attributes == ("camera",)
    assert [source.name for source in basis.sources] == [f"camera/{partition}" for partition in range(4)]
    for layer in basis.layers.values():
        for side in (layer.U, layer.V):
            assert float((side.T @ direction("camera", len(side))).norm()) > 0.99


def test_the_mean_is_that_of_the_adapters_of_all_attributes(root: Path) -> None:
    done(mean, Mean(adapters=FITTED, layers=ALL, dim="energy:1"), root, "all")
    found = basis_of(root, Output(kind="mean", key="all")).updates()
    folders = [step_folder(root, "fit", adapter.fit.key) / "run" / "adapter" for adapter in FITTED]
    fits = [load_adapter_updates(folder)[0] for folder in folders]
    for path, update in found.items():
        expected = torch.stack([fit[path].scale * fit[path].B @ fit[path].A for fit in fits]).mean(0)
        torch.testing.assert_close(update.scale * update.B @ update.A, expected, rtol=1e-4, atol=1e-5)


def test_only_the_wanted_layers_are_mined(root: Path) -> None:
    assert set(basis_of(root, mined("camera", root, ("1",))).layers) == {"1"}
    with pytest.raises(ArtefactError, match="none of the 2 layers"):
        mined("geometry", root, ("blocks.*",))


def test_combined_bases_can_be_trained_in(root: Path) -> None:
    spec = Combine(attributes=ATTRIBUTES, mined={attribute: mined(attribute, root) for attribute in ATTRIBUTES})
    assert done(combine, spec, root, "both")["mean_d_out"] == 4
    folder = step_folder(root, "combine", "both")
    basis = SubspaceBasis.load(folder / "basis")
    for layer in basis.layers.values():
        assert (layer.d_out, layer.d_in) == (4, 4)
        for attribute in ATTRIBUTES:
            assert float((layer.U.T @ direction(attribute, len(layer.U))).norm()) > 0.99
    assert {row["attribute"] for row in read_json(folder / "survival.json")} == set(ATTRIBUTES)
    adapters = inject_adapters(network(), ProjectedLoRA(basis=str(folder / "basis"), targets="all"))
    assert adapters.table().trainable == 2 * 4 * 4


@pytest.mark.parametrize("part", ["specific", "common+specific"])
def test_parts_can_be_combined(part: str, root: Path) -> None:
    done(split, Split(adapters=FITTED, layers=ALL, dim=2), root, "parts")
    spec = Combine(attributes=ATTRIBUTES, part=part, split=Output(kind="split", key="parts"))
    done(combine, spec, root, "own")
    basis = SubspaceBasis.load(step_folder(root, "combine", "own") / "basis")
    assert basis.attributes == (("common", *ATTRIBUTES) if part == "common+specific" else ATTRIBUTES)


def test_overlap_is_larger_within_an_attribute(root: Path) -> None:
    done(overlap, Compare(adapters=FITTED, layers=ALL, dim=1, draws=20), root, "x")
    folder = step_folder(root, "overlap", "x")
    phi = {
        (report["first"], report["second"]): row["value"]
        for report in read_json(folder / "overlap.json")["reports"]
        for row in report["summary"]["all"]
        if (row["measure"], row["side"]) == ("phi", "output")
    }
    assert phi["geometry", "geometry"] > 0.95
    assert phi["camera", "camera"] > 0.95
    assert phi["geometry", "camera"] < 0.1
    for name in ("overlap.png", "overlap_specific.json", "overlap_specific.png"):
        assert (folder / name).stat().st_size > 0
    for row in read_json(folder / "separation.json"):
        assert row["within"] > 0.9
        assert row["between"] < 0.1
        assert row["p"] < 0.05


def test_three_adapters_have_no_specific_part_to_compare(root: Path) -> None:
    three = tuple(adapter for adapter in FITTED if adapter.partition < 3)
    done(overlap, Compare(adapters=three, layers=ALL, dim=1, draws=20), root, "x")
    found = {path.name for path in step_folder(root, "overlap", "x").glob("*.json")}
    assert found == {"overlap.json", "separation.json"}


def test_a_subspace_explains_new_adapters_of_its_own_attribute(root: Path) -> None:
    done(explain, Compare(adapters=FITTED, layers=ALL, dim=1), root, "x")
    folder = step_folder(root, "explain", "x")
    rows = read_json(folder / "explained.json")
    found = {(row["basis"], row["adapters"]): row for row in rows if row["layers"] == "all"}
    assert {row["adapters_measured"] for row in rows} == {4}
    for basis, adapters in found:
        share = found[basis, adapters]["explained"]
        assert share > 0.9 if basis == adapters else share < 0.1
        assert found[basis, adapters]["chance"] == pytest.approx(1 / 20 / 24, rel=0.01)
    assert (folder / "explained.png").stat().st_size > 0
    assert (folder / "explained_specific.png").stat().st_size > 0
    specific = read_json(folder / "explained_specific.json")
    assert {row["adapters_measured"] for row in specific} == {4}


def update_of(state: Mapping[str, Tensor], path: str) -> Tensor:
    B, A = (state[f"backbone.{path}.lora_{side}.weight"].double() for side in "BA")
    return B @ A


def test_equal_energy_is_removed_and_nothing_else_changes(root: Path) -> None:
    run = step_folder(root, "fit", "camera0") / "run"
    adapters = inject_adapters(network(), LoRA(r=3, targets="all"))
    adapters.load(run / "adapter")
    state = {f"backbone.{name}": factor.detach() for name, factor in adapters.trainable_parameters().items()}
    (run / "checkpoints").mkdir()
    torch.save({"state_dict": state | {"other": torch.ones(1)}}, run / "checkpoints" / "last.ckpt")
    subspaces = {attribute: mined(attribute, root) for attribute in ATTRIBUTES}
    made = done(remove, Remove(adapter=fitted("camera", 0).fit, subspaces=subspaces, seed=3), root, "x")
    assert made["whole"]["camera"] > 0.9
    assert made["share"] == min(made["whole"].values()) < 0.6
    whole = sum(float(update_of(state, path).square().sum()) for path in ("0", "1"))
    for name in ("camera", "geometry", "random"):
        path = step_folder(root, "remove", "x") / name / "run/checkpoints/last.ckpt"
        rest = torch.load(path, weights_only=True)["state_dict"]
        assert rest.keys() == state.keys() | {"other"}
        left = sum(float(update_of(rest, path).square().sum()) for path in ("0", "1"))
        assert 1 - left / whole == pytest.approx(made["share"], abs=2e-3)
        if name != "random":
            # by the dense formula: (I - t U U^T) D (I - t V V^T)
            t = made["fractions"][name]
            for layer, subspace in basis_of(root, subspaces[name]).layers.items():
                D = update_of(state, layer)
                U, V = subspace.U.double(), subspace.V.double()
                expected = (torch.eye(len(D)) - t * U @ U.T) @ D @ (torch.eye(D.shape[1]) - t * V @ V.T)
                torch.testing.assert_close(update_of(rest, layer), expected, atol=1e-4, rtol=1e-3)

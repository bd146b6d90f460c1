"""Shuffled labels: a placebo that has the references' directions and belongs to none of them."""

from __future__ import annotations

import itertools

import pytest
import torch

from benchmarks.reference_bases import REFERENCE_SEED
from lorasub.backbones import VGGT
from lorasub.data import SyntheticScenes
from lorasub.subspaces import (
    LayerSubspace,
    SubspaceBasis,
    seed_alone,
    shipped_bases,
    shipped_placebos,
    shuffled_labels,
)

N, WIDTH = 32, 2


def frame(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(N, WIDTH, generator=generator, dtype=torch.float64))[0]


def basis(U: torch.Tensor) -> SubspaceBasis:
    return SubspaceBasis(layers={path: LayerSubspace(U=U, V=U) for path in ("a", "b")})


def phi(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((torch.linalg.qr(first)[0].T @ torch.linalg.qr(second)[0]).square().sum()) / WIDTH


def test_it_is_the_mean_over_all_bases_that_shuffling_gives() -> None:
    own, references = frame(0), {"x": frame(1), "y": frame(2)}
    exact = [
        phi(own, torch.stack([references[first][:, 0], references[second][:, 1]], dim=1))
        for first, second in itertools.product("xy", repeat=2)
    ]
    found = shuffled_labels(
        basis(own), {name: basis(columns) for name, columns in references.items()}, "output", draws=4000
    )
    assert set(found) == {"x", "y"}
    expected = torch.tensor(exact, dtype=torch.float64)
    spread = float(expected.std(correction=0)) / 2**0.5  # two layers with draws of their own
    assert abs(found["x"].mean - float(expected.mean())) < 4 * spread / 4000**0.5
    assert abs(found["x"].std - spread) < 0.1 * spread


def test_what_belongs_to_a_reference_is_told_from_what_all_share() -> None:
    common = frame(9)
    references = {name: basis(torch.linalg.qr(common + 0.7 * frame(seed))[0]) for seed, name in enumerate("wxyz")}
    of_all = shuffled_labels(basis(common), references, "input")
    of_w = shuffled_labels(references["w"], references, "input")
    shared = [of_all[name].z(phi(common, references[name].layers["a"].V)) for name in references]
    own = of_w["w"].z(phi(references["w"].layers["a"].V, references["w"].layers["a"].V))
    others = [of_w[name].z(phi(references["w"].layers["a"].V, references[name].layers["a"].V)) for name in "xyz"]
    # the common directions overlap with all alike and far beyond Haar; that is no attribute
    assert max(map(abs, shared)) < own
    assert own > 1.5 > max(others)


def test_one_reference_leaves_nothing_to_shuffle() -> None:
    assert shuffled_labels(basis(frame(0)), {"x": basis(frame(1))}, "output") == {}


def test_seed_alone_is_phi_with_each_placebo() -> None:
    found = seed_alone(basis(frame(0)), {"0": basis(frame(1)), "1": basis(frame(2))}, "output")
    assert found is not None
    expected = [phi(frame(0), frame(1)), phi(frame(0), frame(2))]
    assert found.values == pytest.approx(expected)
    assert found.most == pytest.approx(max(expected))
    assert found.mean == pytest.approx(sum(expected) / 2)
    assert seed_alone(basis(frame(0)), {}, "input") is None


def test_the_package_has_placebos_that_were_made_as_its_references() -> None:
    weights = VGGT.from_preset("nano").weights_hash()
    references, placebos = shipped_bases(weights), shipped_placebos(weights)
    assert len(placebos) == len(references) == 4
    for placebo in placebos.values():
        assert placebo.attributes == ("all",)
        assert placebo.method == references["geometry"].method
        assert placebo.dims == references["geometry"].dims
        for option in ("dim", "partitions", "scenes_of_each"):
            assert placebo.options[option] == references["geometry"].options[option]
    # scenes of their own: with a fit's scenes a basis agrees whatever the attribute is
    assert {one.options["seed"] for one in references.values()} == {REFERENCE_SEED}
    assert SyntheticScenes(attribute="geometry").seed != REFERENCE_SEED
    assert len({one.hash() for one in (*references.values(), *placebos.values())}) == 8

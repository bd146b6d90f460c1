"""Which columns of its basis a projected adapter uses, against the norm of the update itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lorasub.adapters import LoRA, ProjectedLoRA, RandomBasis, inject_adapters
from lorasub.adapters.column_usage import column_usage
from lorasub.subspaces import LayerSubspace, SubspaceBasis

ATTRIBUTES = ("geometry", "geometry", "texture", "texture", "texture")


def test_shares_are_those_of_the_update() -> None:
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(n, 5, generator=generator))[0] for n in (12, 9))
    basis = SubspaceBasis(
        layers={"0": LayerSubspace(U=U, V=V, U_attributes=ATTRIBUTES, V_attributes=ATTRIBUTES)}, method="combined"
    )
    adapters = inject_adapters(nn.Sequential(nn.Linear(9, 12)), ProjectedLoRA(basis=basis, targets="all"))
    assert column_usage(adapters) == []
    adapters.load_state_dict({"0.M": torch.randn(5, 5, generator=generator)})
    (update,) = adapters.updates().values()
    dense = update.scale * update.B @ update.A
    rows = {(row.origin, row.side): row for row in column_usage(adapters)}
    for attribute in ("geometry", "texture"):
        chosen = torch.tensor([name == attribute for name in ATTRIBUTES])
        output, inside = U[:, chosen].T @ dense, dense @ V[:, chosen]
        for side, part in (("output", output), ("input", inside)):
            row = rows[attribute, side]
            assert row.used == pytest.approx(float(part.square().sum() / dense.square().sum()), rel=1e-5)
            assert row.columns == pytest.approx(float(chosen.float().mean()))
    assert 1 <= rows["geometry", "output"].effective <= 5


def test_bases_made_on_the_spot_have_one_origin_and_others_none() -> None:
    adapters = inject_adapters(
        nn.Sequential(nn.Linear(9, 12), nn.Linear(12, 4)),
        [RandomBasis(dim=3, targets="0"), LoRA(r=2, targets="1")],
    )
    with torch.no_grad():
        adapters.trainable_parameters()["0.M"].fill_(0)[1, 2] = 1
    found = column_usage(adapters)
    assert [(row.origin, row.side, row.used) for row in found] == [("basis", "input", 1.0), ("basis", "output", 1.0)]
    assert all(row.effective == pytest.approx(1) for row in found)


def test_a_layer_has_the_origins_of_its_own_basis(tmp_path: Path) -> None:
    """Whatever else the adapter carries: the mean that M starts from is a basis, too, with other columns."""
    names = tuple(f"part {index}" for index in range(5))
    basis, mean = (
        SubspaceBasis(
            layers={"0": LayerSubspace(U=torch.eye(12)[:, :d], V=torch.eye(9)[:, :d], S=S, **origins)}, method="mined"
        )
        for d, S, origins in (
            (5, None, {"U_attributes": names, "V_attributes": names}),
            (2, torch.ones(2, dtype=torch.float64), {"U_attributes": ("a", "a"), "V_attributes": ("a", "a")}),
        )
    )
    basis.save(tmp_path / "basis")
    mean.save(tmp_path / "mean")
    spec = ProjectedLoRA(basis=tmp_path / "basis", init_from=tmp_path / "mean", targets="all")
    found = column_usage(inject_adapters(nn.Sequential(nn.Linear(9, 12)), spec))
    # the mean is e_0 e_0^T + e_1 e_1^T: the first two columns have half of it each
    assert {row.origin: row.used for row in found} == pytest.approx(
        dict.fromkeys(names[:2], 0.5) | dict.fromkeys(names[2:], 0)
    )

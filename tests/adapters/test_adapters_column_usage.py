"""Which columns of its basis a projected adapter uses, against the norm of the update itself."""

from __future__ import annotations

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

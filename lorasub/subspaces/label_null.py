"""A placebo for overlaps with attributes' bases: what a basis with shuffled labels would give.

Layers have preferred directions, so that the subspaces of any two fits overlap far beyond Haar-random ones. Bases whose
columns are drawn from those of all attributes together have these directions, too, but belong to no attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lorasub.rng import generator
from lorasub.subspaces.basis import SubspaceBasis
from lorasub.subspaces.threads import one_thread


@dataclass(frozen=True, slots=True)
class Placebo:
    """Mean overlap phi over layers for bases with shuffled labels.

    Attributes:
        mean: over the draws.
        std: over the draws.
    """

    mean: float
    std: float

    def z(self, value: float) -> float:
        """Deviations of a measured mean overlap from the placebo's; NaN where the draws do not differ."""
        return (value - self.mean) / self.std if self.std > 1e-12 else float("nan")


def shuffled_labels(
    own: SubspaceBasis,
    references: Mapping[str, SubspaceBasis],
    side: Literal["output", "input"],
    *,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Placebo]:
    """Measures overlaps of a subspace with bases whose columns are drawn from those of all references together.

    Args:
        own: what is compared with the references.
        references: name -> basis.
        side: ``output`` compares U, ``input`` V.
        draws: number of such bases in each layer.
        seed: of the draws; every layer has its own stream.

    Returns:
        name -> placebo of as many columns as the reference has, over the layers that all have; empty for fewer than two
        references, where there is nothing to shuffle, and where no layer is common.
    """
    columns = {name: _columns(basis, side) for name, basis in references.items()}
    mine = _columns(own, side)
    paths = [path for path in mine if all(path in layers for layers in columns.values())]
    if len(references) < 2 or not paths:
        return {}
    found: dict[str, list[Tensor]] = {name: [] for name in references}
    with one_thread():
        for path in paths:
            pool = torch.cat([layers[path] for layers in columns.values()], dim=1)
            basis, coordinates = torch.linalg.qr(pool)  # (192, 64) -> (192, 64), (64, 64)
            inside = torch.linalg.qr(mine[path]).Q.T @ basis
            by_width: dict[int, Tensor] = {}
            for name, layers in columns.items():
                width = layers[path].shape[1]
                if width not in by_width:
                    rng = generator(seed, "shuffled labels", side, path, width)
                    by_width[width] = _overlaps(inside, coordinates, width, draws, rng)
                found[name].append(by_width[width])
    means = {name: torch.stack(layers).mean(0) for name, layers in found.items()}
    return {name: Placebo(float(values.mean()), float(values.std())) for name, values in means.items()}


def _columns(basis: SubspaceBasis, side: str) -> dict[str, Tensor]:
    layers = {path: layer.U if side == "output" else layer.V for path, layer in basis.layers.items()}
    return {path: columns.detach().to("cpu", torch.float64) for path, columns in layers.items() if columns.shape[1]}


def _overlaps(inside: Tensor, coordinates: Tensor, width: int, draws: int, rng: np.random.Generator) -> Tensor:
    """``(draws,)`` phi of what lies ``inside`` the pool with the span of ``width`` columns drawn from it."""
    chosen = torch.from_numpy(rng.permuted(np.tile(np.arange(coordinates.shape[1]), (draws, 1)), axis=1)[:, :width])
    drawn = torch.linalg.qr(coordinates.T[chosen].mT).Q  # (draws, 64, 16)
    overlap: Tensor = (inside @ drawn).square().sum((1, 2)) / min(width, len(inside))
    return overlap

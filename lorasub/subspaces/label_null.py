"""A placebo for overlaps with attributes' bases: what a basis with shuffled labels would give.

Layers have preferred directions, so that the subspaces of any two fits overlap far beyond Haar-random ones. A basis
whose first column is the first of a random attribute, its second the second of another, and so on, has these
directions, too, and the strongest of them first, but belongs to no attribute.
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
from lorasub.subspaces.linear_algebra import one_thread


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


@dataclass(frozen=True, slots=True)
class SeedPlacebo:
    """Mean overlaps phi over layers with bases of data sets that differ in nothing but their seed.

    Attributes:
        values: one for each basis.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the bases."""
        return sum(self.values) / len(self.values)

    @property
    def most(self) -> float:
        """The largest overlap: what may come of a seed alone."""
        return max(self.values)


def seed_alone(
    own: SubspaceBasis, placebos: Mapping[str, SubspaceBasis], side: Literal["output", "input"]
) -> SeedPlacebo | None:
    """Measure overlaps with bases of data sets that differ in nothing but their seed.

    Args:
        own: what is compared.
        placebos: name -> basis, each made as the references were.
        side: ``output`` compares U, ``input`` V.

    Returns:
        The overlaps over the layers that each has in common with ``own``; None if no basis has any.
    """
    mine = _columns(own, side)
    values = []
    with one_thread():
        for basis in placebos.values():
            theirs = _columns(basis, side)
            overlaps = [
                float((torch.linalg.qr(mine[path]).Q.T @ torch.linalg.qr(theirs[path]).Q).square().sum())
                / min(mine[path].shape[1], theirs[path].shape[1])
                for path in mine
                if path in theirs
            ]
            if overlaps:
                values.append(sum(overlaps) / len(overlaps))
    return SeedPlacebo(tuple(values)) if values else None


def shuffled_labels(
    own: SubspaceBasis,
    references: Mapping[str, SubspaceBasis],
    side: Literal["output", "input"],
    *,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, Placebo]:
    """Measures overlaps of a subspace with bases each of whose columns is that of a random reference.

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
    names = list(references)
    with one_thread():
        for path in paths:
            pool = torch.cat([layers[path] for layers in columns.values()], dim=1)
            basis, coordinates = torch.linalg.qr(pool)  # (192, 64) -> (192, 64), (64, 64)
            inside = torch.linalg.qr(mine[path]).Q.T @ basis
            widths = [columns[name][path].shape[1] for name in names]
            rng = generator(seed, "shuffled labels", side, path)
            chosen = _choices(widths, draws, rng)
            for name, width in zip(names, widths, strict=True):
                drawn = torch.linalg.qr(coordinates.T[chosen[:, :width]].mT).Q  # (draws, 64, 16)
                found[name].append((inside @ drawn).square().sum((1, 2)) / min(width, len(inside)))
    means = {name: torch.stack(layers).mean(0) for name, layers in found.items()}
    return {name: Placebo(float(values.mean()), float(values.std())) for name, values in means.items()}


def _columns(basis: SubspaceBasis, side: str) -> dict[str, Tensor]:
    layers = {path: layer.U if side == "output" else layer.V for path, layer in basis.layers.items()}
    return {path: columns.detach().to("cpu", torch.float64) for path, columns in layers.items() if columns.shape[1]}


def _choices(widths: list[int], draws: int, rng: np.random.Generator) -> Tensor:
    """``(draws, widest)``: for every place the index in the pool of that column of a random reference that has it."""
    firsts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    places = []
    for place in range(max(widths)):
        having = [first for first, width in zip(firsts, widths, strict=True) if width > place]
        places.append(rng.choice(having, size=draws) + place)
    return torch.from_numpy(np.stack(places, axis=1))

"""Common and specific parts: what all attributes share, and what is left to each without it.

Adapters of different attributes may share directions that have nothing to do with any attribute: every fit moves the
model towards synthetic images, say. As in joint and individual variation (AJIVE, Feng et al. 2018), the common part is
found first, from the mined subspaces of all attributes, and each attribute is mined again with it projected out.

A direction u is common if it lies in the subspace of every attribute. Its energy in attribute a is ||U_a^T u||^2. The
directions with the largest mean energy are the left singular vectors of [U_1 .. U_G], with mean energies sigma^2 / G;
random subspaces give the chance level, the 95th percentile of their largest. Among the directions above it, the
harmonic mean of the energies must exceed it too: a direction that two of four attributes share has a high mean, but its
harmonic mean is next to nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.rng import subspace_generator
from lorasub.subspaces.angles import haar_frames
from lorasub.subspaces.basis import AdapterSource, LayerSubspace, SubspaceBasis
from lorasub.subspaces.layers import AdapterUpdates, Progress, common_layers
from lorasub.subspaces.linear_algebra import one_thread, orthonormal
from lorasub.subspaces.mining import mine_updates
from lorasub.subspaces.overlap import base_of
from lorasub.subspaces.projection import ProjectedOut

#: Keeps the harmonic mean finite where a direction is entirely absent from an attribute.
_ABSENT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonTest:
    """The test for common directions on one side of one layer.

    Attributes:
        energies: mean energy of each candidate direction over the attributes, descending, in [0, 1].
        harmonic: harmonic mean energies of the directions found among those above chance, descending.
        chance: 95th percentile of the largest mean energy of random subspaces.
        dim: number of common directions.
    """

    energies: Tensor
    harmonic: Tensor
    chance: float
    dim: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "energies": self.energies.tolist(),
            "harmonic": self.harmonic.tolist(),
            "chance": self.chance,
            "dim": self.dim,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSubspace:
    """Subspace that all attributes share.

    Attributes:
        basis: the common directions of every layer; a layer may have none.
        output: layer path -> test on the output side.
        input: layer path -> test on the input side.
    """

    basis: SubspaceBasis
    output: Mapping[str, CommonTest]
    input: Mapping[str, CommonTest]

    def rows(self) -> list[dict[str, Any]]:
        """Flat rows for a table or a CSV file: per layer and side the dimensions and the strongest candidate."""
        return [
            {
                "layer": path,
                "side": side,
                "dim": test.dim,
                "strongest": float(test.energies[0]) if len(test.energies) else None,
                "chance": test.chance,
            }
            for side, tests in (("output", self.output), ("input", self.input))
            for path, test in tests.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "attributes": list(self.basis.attributes),
            "layers": {
                path: {"output": self.output[path].to_dict(), "input": self.input[path].to_dict()}
                for path in self.basis.layers
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSpecific:
    """Attributes split into what they share and what is each one's own.

    Attributes:
        raw: attribute -> its mined basis, as it is.
        common: what the raw bases share.
        specific: attribute -> the basis mined with the common part projected out.
    """

    raw: Mapping[str, SubspaceBasis]
    common: CommonSubspace
    specific: Mapping[str, SubspaceBasis]


def common_subspace(
    bases: Mapping[str, SubspaceBasis], *, draws: int = 200, seed: int = 0, progress: Progress = iter
) -> CommonSubspace:
    """Find the directions that lie in every attribute's subspace, beyond chance.

    Args:
        bases: attribute -> mined basis, at least two, of the same layers.
        draws: random sets of subspaces behind the chance level.
        seed: of these.
        progress: wraps the sequence of layer paths.

    Raises:
        ConfigError: fewer than two bases, or layers that differ.
        ArtefactError: bases of different base models.

    Example:
        >>> parts = {name: ls.random_basis({"block": (24, 16)}, 4) for name in "abc"}  # one and the same subspace
        >>> common_subspace(parts, draws=20).basis.dims
        {'block': (4, 4)}
    """
    if len(bases) < 2:
        raise ConfigError(f"a common part needs at least two attributes, not {len(bases)}")
    base_model_hash, first = base_of(bases), next(iter(bases.values()))
    layers, output, input_ = {}, {}, {}
    with one_thread():
        for path in progress(common_layers({name: basis.shapes for name, basis in bases.items()})):
            same = [basis.layers[path] for basis in bases.values()]
            U, output[path] = common_directions([layer.U for layer in same], draws=draws, seed=seed)
            V, input_[path] = common_directions([layer.V for layer in same], draws=draws, seed=seed)
            layers[path] = LayerSubspace(U=U.to(same[0].U.dtype), V=V.to(same[0].V.dtype))
    basis = SubspaceBasis(
        layers=layers,
        base_model_hash=base_model_hash,
        base_model_id=first.base_model_id,
        method="common",
        attributes=tuple(bases),
        sources=tuple(source for b in bases.values() for source in b.sources),
        options={"draws": draws, "seed": seed},
    )
    return CommonSubspace(basis=basis, output=output, input=input_)


def split_common_specific(
    adapters: Mapping[str, Sequence[AdapterUpdates]],
    *,
    dim: int | str = 16,
    specific_dim: int | str | None = None,
    alpha: float = 1.0,
    sources: Mapping[str, Sequence[AdapterSource]] | None = None,
    draws: int = 200,
    seed: int = 0,
    progress: Progress = iter,
) -> CommonSpecific:
    """Mine every attribute, find what all share, and mine every attribute again without it.

    Args:
        adapters: attribute -> its adapters; at least two of each.
        dim: dimensions of the raw bases, see :func:`mine_updates`.
        specific_dim: dimensions of the specific bases; None takes ``dim``.
        alpha: of the mining.
        sources: attribute -> one source per adapter.
        draws: see :func:`common_subspace`.
        seed: of all nulls.
        progress: wraps the layer paths of each pass, two per attribute and one between.

    Raises:
        ConfigError: see :func:`mine_updates` and :func:`common_subspace`.
        ArtefactError: likewise.

    Example:
        >>> def adapter():
        ...     return {"block": ls.LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))}
        >>> adapters = {name: [adapter() for _ in range(3)] for name in ("texture", "camera")}
        >>> found = split_common_specific(adapters, dim=2, draws=20)
        >>> sorted(found.specific)
        ['camera', 'texture']
    """
    sources = sources or {}
    raw = {
        name: mine_updates(
            group, dim=dim, alpha=alpha, attribute=name, sources=sources.get(name, ()), seed=seed, progress=progress
        )
        for name, group in adapters.items()
    }
    common = common_subspace(raw, draws=draws, seed=seed, progress=progress)
    specific = {}
    for name, group in adapters.items():
        mined = mine_updates(
            [ProjectedOut(updates, common.basis) for updates in group],
            dim=dim if specific_dim is None else specific_dim,
            alpha=alpha,
            attribute=name,
            sources=sources.get(name, ()),
            seed=seed,
            progress=progress,
        )
        specific[name] = replace(mined, method="specific")
    return CommonSpecific(raw=raw, common=common, specific=specific)


def common_directions(frames: Sequence[Tensor], *, draws: int = 200, seed: int = 0) -> tuple[Tensor, CommonTest]:
    """Directions that lie in every one of several spans, beyond chance.

    Args:
        frames: one ``(n, d_a)`` per attribute; orthonormalised here.
        draws: random sets of subspaces behind the chance level.
        seed: of these.

    Returns:
        ``(n, c)`` orthonormal float64 columns, and the test that chose them.
    """
    n = frames[0].shape[0]
    spans = [orthonormal(frame) for frame in frames]
    widths = tuple(sorted(span.shape[1] for span in spans))
    if widths[0] == 0:
        none = torch.zeros(0, dtype=torch.float64)
        return spans[0].new_zeros(n, 0), CommonTest(energies=none, harmonic=none, chance=1.0, dim=0)
    directions, sigma, _ = torch.linalg.svd(torch.cat(spans, dim=1), full_matrices=False)
    energies = sigma.square() / len(spans)
    chance = _chance_energy(n, widths, draws, seed)
    candidates = directions[:, energies > chance]
    inside = torch.stack([candidates.T @ span @ (span.T @ candidates) for span in spans])
    inside = inside + _ABSENT * torch.eye(candidates.shape[1], dtype=inside.dtype)
    harmonic, rotation = torch.linalg.eigh(torch.linalg.inv(torch.linalg.inv(inside).mean(0)))
    kept = harmonic.flip(0) > chance
    common = candidates @ rotation.flip(1)[:, kept]
    return common, CommonTest(energies=energies, harmonic=harmonic.flip(0), chance=chance, dim=int(kept.sum()))


@functools.lru_cache(maxsize=256)
def _chance_energy(n: int, widths: tuple[int, ...], draws: int, seed: int) -> float:
    """95th percentile of the largest mean energy among independent random subspaces."""
    frames = haar_frames(n, widths, subspace_generator(seed, "common", n, *widths), draws=draws)
    largest = torch.linalg.matrix_norm(torch.cat(frames, dim=-1), ord=2)
    return float(torch.quantile(largest.square() / len(widths), 0.95))

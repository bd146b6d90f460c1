"""Rules for the number of shared dimensions: a fixed number, explained energy, the largest gap, or beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.subspaces.angles import haar_frames
from lorasub.subspaces.irls import RobustLowRank, UpdateCores

#: Rows of a null: the band between the outer two holds 90% of what chance gives.
NULL_PERCENTILES = (5.0, 50.0, 95.0)

#: Singular values below this part of the largest are rounding, not signal.
_RANK_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class DimensionRule:
    """A rule that picks the number of dimensions from a spectrum.

    Attributes:
        kind: ``fixed``, ``energy``, ``gap`` or ``parallel``.
        value: the number for ``fixed``, the fraction of the squared singular values for ``energy``, else 0.
    """

    kind: Literal["fixed", "energy", "gap", "parallel"]
    value: float = 0.0

    @classmethod
    def parse(cls, dim: int | str) -> DimensionRule:
        """Read ``16``, ``"16"``, ``"energy:0.9"``, ``"gap"`` or ``"parallel"``.

        Raises:
            ConfigError: it is none of these, or a number is out of range.
        """
        kind, _, number = str(dim).partition(":")
        try:
            if kind == "energy" and 0 < float(number) <= 1:
                return cls("energy", float(number))
            if kind in ("gap", "parallel") and not number:
                return cls(kind)  # type: ignore[arg-type]  # mypy does not narrow str to a literal here
            if int(kind) >= 1 and not number:
                return cls("fixed", int(kind))
        except ValueError:
            pass
        raise ConfigError(
            f"dim={dim!r} is not a number of dimensions (at least 1), 'energy:F' with F in (0, 1], 'gap' or 'parallel'"
        )

    def choose(self, spectrum: Tensor, null: Tensor | None = None) -> int:
        """The number of dimensions.

        ``gap`` takes the largest ratio of neighbours in the first half of the spectrum. Beware: with k adapters that
        share nothing, the spectrum of their mean has a step of its own after the k-th value, since each brings its
        own first direction; only ``parallel`` knows that. ``parallel`` counts the leading values above the null's 95th
        percentile and may answer 0.

        Args:
            spectrum: ``(m,)`` singular values, descending, not all zero.
            null: ``(3, m)``, for ``parallel``.
        """
        rank = numerical_rank(spectrum)
        if self.kind == "fixed":
            return int(self.value)
        if self.kind == "energy":
            energy = spectrum.square().cumsum(0)
            return min(int((energy < self.value * energy[-1]).sum()) + 1, rank)
        if self.kind == "gap":
            last = max(1, min(rank - 1, len(spectrum) // 2))
            return int((spectrum[:last] / spectrum[1 : last + 1]).argmax()) + 1 if rank > 1 else 1
        assert null is not None, "parallel analysis needs a null"
        return int((spectrum > null[2]).long().cumprod(0).sum())


def numerical_rank(spectrum: Tensor) -> int:
    """Number of singular values that are more than rounding."""
    return int((spectrum > _RANK_TOLERANCE * spectrum[0]).sum())


def null_spectrum(
    updates: UpdateCores,
    solver: RobustLowRank,
    dim: int | None,
    *,
    draws: int,
    rng: np.random.Generator,
) -> Tensor:
    """The spectrum that the mined mean would have if the adapters shared nothing (parallel analysis, Horn 1965).

    Every update keeps its singular values and gets independent Haar-random singular vectors; the solver mines these;
    repeat.

    Args:
        updates: the layer's updates.
        solver: mines each draw as it mines the data.
        dim: as for the data.
        draws: number of repetitions; the 95th percentile needs at least 20.
        rng: source of randomness.

    Returns:
        ``(3, m)`` percentiles :data:`NULL_PERCENTILES` of each singular value.
    """
    singular_values = [torch.linalg.svdvals(core)[:r] for core, r in zip(updates.cores, updates.ranks, strict=True)]
    out, in_ = updates.shape
    widths = [len(values) for values in singular_values]
    spectra = []
    for _ in range(draws):
        lefts, rights = haar_frames(out, widths, rng), haar_frames(in_, widths, rng)
        cores = torch.cat(
            [(P * s) @ Q.mT for P, s, Q in zip(lefts, singular_values, rights, strict=True)],
        )
        spectra.append(solver.fit(cores, dim).spectrum)
    return percentiles(torch.stack(spectra))


def percentiles(draws: Tensor) -> Tensor:
    """:data:`NULL_PERCENTILES` along the first axis."""
    return torch.quantile(draws, torch.tensor(NULL_PERCENTILES, dtype=draws.dtype) / 100, dim=0)


def pooled_spectrum(spectra: Sequence[Tensor], norms: Sequence[Tensor]) -> Tensor:
    """One spectrum for all layers: each divided by its layer's norm, then the root mean square over layers.

    Args:
        spectra: ``(..., m_l)`` per layer; shorter ones count as zero beyond their end.
        norms: Frobenius norm of each layer's mean update.
    """
    longest = max(spectrum.shape[-1] for spectrum in spectra)
    scaled = [
        torch.nn.functional.pad(spectrum / norm, (0, longest - spectrum.shape[-1]))
        for spectrum, norm in zip(spectra, norms, strict=True)
    ]
    return torch.stack(scaled).square().mean(0).sqrt()

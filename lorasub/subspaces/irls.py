"""Robust low-rank approximation of several matrices, and the small core in which it is computed.

The k updates of a layer live in the span of their stacked factors. With QR decompositions [B_1 .. B_k] = Q_out R and
[A_1^T .. A_k^T] = Q_in T, each update is s_i B_i A_i = Q_out (s_i R_i T_i^T) Q_in^T, where R_i and T_i are column
blocks. Q_out and Q_in are isometries, so every norm, product and singular value of (out, in) matrices is that of their
(k r, k r) cores: nothing of the weight's own size is formed, and nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.subspaces.layers import LowRankUpdate


@dataclass(frozen=True, slots=True)
class Span:
    """An orthonormal basis Q of a column space, kept as Householder reflectors: forming it would double the cost.

    Attributes:
        reflectors: ``(n, p)``, p = min(n, columns), as LAPACK's geqrf leaves them.
        tau: ``(p,)`` their factors.
    """

    reflectors: Tensor
    tau: Tensor

    @classmethod
    def of(cls, columns: Tensor) -> tuple[Span, Tensor]:
        """QR decomposition of ``(n, m)`` columns: the span and R ``(p, m)``, so that columns = Q R."""
        factored, tau = torch.geqrf(columns)
        p = len(tau)
        return cls(factored[:, :p], tau), factored[:p].triu()

    @property
    def n(self) -> int:
        """Ambient dimension."""
        return self.reflectors.shape[0]

    def expand(self, coordinates: Tensor) -> Tensor:
        """Q X: ``(p, d)`` coordinates to ``(n, d)`` columns."""
        padding = coordinates.new_zeros(self.n - len(self.tau), coordinates.shape[1])
        return torch.ormqr(self.reflectors, self.tau, torch.cat([coordinates, padding]))

    def coordinates(self, columns: Tensor) -> Tensor:
        """Q^T X: ``(n, d)`` columns to ``(p, d)`` coordinates of their projection."""
        return torch.ormqr(self.reflectors, self.tau, columns, transpose=True)[: len(self.tau)]


@dataclass(frozen=True, slots=True)
class UpdateCores:
    """Updates of one layer in the coordinates of the span of their factors, float64 on the CPU.

    Attributes:
        output: span of all B; p = min(out, sum of ranks).
        input: span of all A^T; q = min(in, sum of ranks).
        cores: ``(k, p, q)``; update i is Q_out ``cores[i]`` Q_in^T.
        ranks: the k ranks.
    """

    output: Span
    input: Span
    cores: Tensor
    ranks: tuple[int, ...]

    @classmethod
    def of(cls, updates: Sequence[LowRankUpdate]) -> UpdateCores:
        """Factor the updates, which must be of one layer."""
        ranks = [update.r for update in updates]
        output, R = Span.of(torch.cat([_float64(update.B) for update in updates], dim=1))
        input_, T = Span.of(torch.cat([_float64(update.A).T for update in updates], dim=1))
        blocks = zip(updates, torch.split(R, ranks, dim=1), torch.split(T, ranks, dim=1), strict=True)
        cores = torch.stack([update.scale * (R_i @ T_i.T) for update, R_i, T_i in blocks])
        return cls(output, input_, cores, tuple(ranks))

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the layer."""
        return self.output.n, self.input.n

    def norms(self) -> Tensor:
        """``(k,)`` Frobenius norms of the updates."""
        return self.cores.square().sum(dim=(1, 2)).sqrt()


@dataclass(frozen=True, slots=True)
class LowRankFit:
    """Result of :meth:`RobustLowRank.fit`, in the coordinates of the cores.

    Attributes:
        U: ``(p, d)`` left singular vectors of the weighted mean C.
        V: ``(q, d)`` right singular vectors.
        spectrum: ``(min(p, q),)`` all singular values of C, descending; the first d belong to U and V.
        weights: ``(k,)`` weights in C, summing to 1.
        objective: ``(iterations,)`` value after each iteration.
        converged: whether the tolerance was reached.
    """

    U: Tensor
    V: Tensor
    spectrum: Tensor
    weights: Tensor
    objective: Tensor
    converged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustLowRank:
    """Minimises sum_i (eps^2 + ||L - D_i||_F^2)^(alpha/2) over matrices L of rank d.

    Iteratively re-weighted least squares: for weights w_i, the best L is the truncated SVD of the weighted mean C; for
    that L, the weights become (eps^2 + ||L - D_i||_F^2)^(-(2 - alpha)/2). Each step minimises a quadratic that touches
    the objective from above, so the objective never rises. alpha = 2 is the truncated SVD of the plain mean, alpha = 1
    a median: an adapter that differs from the rest loses its weight.

    Attributes:
        alpha: in (0, 2]. Below 1 the problem has local minima.
        eps: smoothing, positive, in units of the root mean square norm of the updates.
        tolerance: relative change of the objective that ends the iteration.
        max_iterations: limit of iterations.
    """

    alpha: float = 1.0
    eps: float = 1e-3
    tolerance: float = 1e-8
    max_iterations: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 2:
            raise ConfigError(f"alpha={self.alpha} must lie in (0, 2]: 2 is the plain mean, 1 a median")
        if not self.eps > 0:
            raise ConfigError(f"eps={self.eps} must be positive")
        if not self.tolerance >= 0:
            raise ConfigError(f"tolerance={self.tolerance} must not be negative")
        if self.max_iterations < 1:
            raise ConfigError(f"max_iterations={self.max_iterations} must be at least 1")

    def fit(self, cores: Tensor, dim: int | None) -> LowRankFit:
        """Fit one layer.

        Args:
            cores: ``(k, p, q)`` float64 matrices D_i.
            dim: the rank d of L; None leaves L unrestricted, which makes C the robust mean itself.
        """
        squared_eps = self.eps**2 * cores.square().sum() / len(cores)
        weights = cores.new_full((len(cores),), 1 / len(cores))
        objective: list[Tensor] = []
        converged = False
        while True:
            C = torch.tensordot(weights, cores, dims=1)
            L = C if dim is None else _truncated(C, dim)
            distances = squared_eps + (L - cores).square().sum(dim=(1, 2))
            objective.append(distances.pow(self.alpha / 2).sum())
            if len(objective) > 1:
                converged = bool(objective[-2] - objective[-1] <= self.tolerance * objective[-2])
            # at alpha = 2 all weights stay equal: the first step is the answer
            converged = converged or self.alpha == 2
            if converged or len(objective) >= self.max_iterations:
                break
            weights = distances.pow((self.alpha - 2) / 2)
            weights = weights / weights.sum()
        U, S, Vh = torch.linalg.svd(C, full_matrices=False)
        return LowRankFit(U[:, :dim], Vh[:dim].T, S, weights, torch.stack(objective), converged)


def _truncated(C: Tensor, dim: int) -> Tensor:
    """Best approximation of rank ``dim``.

    Through the eigenvectors of C C^T, several times faster than an SVD. Their error is largest in directions whose
    singular values are near rounding anyway, which is good enough for distances; the result of a fit is an SVD.
    """
    vectors: Tensor = torch.linalg.eigh(C @ C.T)[1]
    leading = vectors[:, max(0, len(vectors) - dim) :]
    return leading @ (leading.T @ C)


def _float64(tensor: Tensor) -> Tensor:
    # float64 is slow or missing on accelerators, and these matrices are thin
    return tensor.detach().to("cpu", torch.float64)

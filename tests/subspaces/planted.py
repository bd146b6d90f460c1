"""Adapters with known content, and a dense, slow, obvious implementation of mining to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lorasub.subspaces import LowRankUpdate


def frame(n: int, d: int, seed: int) -> Tensor:
    """Random orthonormal columns."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, d, generator=generator, dtype=torch.float64)).Q


def random_update(out: int, in_: int, r: int, seed: int, scale: float = 1.0) -> LowRankUpdate:
    generator = torch.Generator().manual_seed(seed)
    B = torch.randn(out, r, generator=generator, dtype=torch.float64)
    A = torch.randn(r, in_, generator=generator, dtype=torch.float64)
    return LowRankUpdate(B, A, scale)


def dense(update: LowRankUpdate) -> np.ndarray:
    return update.scale * update.B.double().numpy() @ update.A.double().numpy()


def planted(U: Tensor, S: Sequence[float], V: Tensor, *, noise: float, rank: int, seed: int) -> LowRankUpdate:
    """U diag(S) V^T, which all adapters share, beside ``rank`` random directions of strength ``noise`` of their own."""
    own_U, own_V = frame(len(U), rank, seed), frame(len(V), rank, seed + 10_000)
    B = torch.cat([U * torch.tensor(S, dtype=torch.float64), noise * own_U], dim=1)
    return LowRankUpdate(B, torch.cat([V.T, own_V.T]))


def dense_mining(
    updates: Sequence[LowRankUpdate], dim: int, alpha: float, eps: float, tolerance: float, max_iterations: int
) -> dict[str, np.ndarray]:
    """The formulas on (out, in) matrices, written down one after the other."""
    D = np.stack([dense(update) for update in updates])
    eps = eps * np.sqrt((D**2).sum() / len(D))
    w = np.full(len(D), 1 / len(D))
    objective: list[float] = []
    while True:
        C = np.einsum("k,kij->ij", w, D)
        U, S, Vh = np.linalg.svd(C, full_matrices=False)
        L = U[:, :dim] @ np.diag(S[:dim]) @ Vh[:dim]
        squared = eps**2 + ((L - D) ** 2).sum((1, 2))
        objective.append(float((squared ** (alpha / 2)).sum()))
        change = abs(objective[-2] - objective[-1]) / objective[-2] if len(objective) > 1 else 1.0
        if change <= tolerance or alpha == 2 or len(objective) == max_iterations:
            return {"L": L, "S": S, "w": w, "objective": np.array(objective)}
        w = squared ** (-(2 - alpha) / 2)
        w /= w.sum()

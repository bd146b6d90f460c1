"""Linear algebra of small matrices: orthonormal columns, and the thread count that suits them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's CPU kernels on one thread, and restore the thread count afterwards.

    The factorisations here are of matrices of a few hundred rows. Several threads spend their time waiting for each
    other: a loop of SVDs of 100 x 100 took over 100 s with two threads where one took 2 s.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def orthonormal(columns: Tensor) -> Tensor:
    """Returns orthonormal columns of the same span, float64 on the CPU; ``(n, d)`` to ``(n, min(n, d))``."""
    Q: Tensor = torch.linalg.qr(columns.detach().to("cpu", torch.float64)).Q
    return Q


def orthonormality_error(columns: Tensor) -> float:
    """Returns the largest entry of ``|Q^T Q - I|``; 0 where there are no columns."""
    wide = columns.double()
    error = (wide.T @ wide - torch.eye(wide.shape[1], dtype=wide.dtype, device=wide.device)).abs()
    return float(error.max()) if error.numel() else 0.0

"""Thread count for small linear algebra."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


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

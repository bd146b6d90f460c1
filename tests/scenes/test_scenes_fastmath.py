"""The kernels' own elementary functions, against numpy in double precision."""

from __future__ import annotations

import numpy as np
import warp as wp

from lorasub.scenes.rendering.kernels.fastmath import fast_exp2, fast_log2, fast_pow, fast_sin_turns
from lorasub.scenes.rendering.renderer import start_warp


@wp.kernel(enable_backward=False)
def evaluate(x: wp.array(dtype=wp.float32), y: wp.array2d(dtype=wp.float32)):  # type: ignore[no-untyped-def]
    i = wp.tid()
    y[0, i] = fast_sin_turns(x[i])
    y[1, i] = fast_exp2(x[i])
    y[2, i] = fast_log2(wp.abs(x[i]))
    y[3, i] = fast_pow(wp.abs(x[i]), 0.37)


def test_functions_are_as_accurate_as_they_say() -> None:
    start_warp()
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-20, 20, 20_000), rng.uniform(-1, 1, 20_000), [-1.0, 0.5, 2.0, 8.0]])
    x = x.astype(np.float32)
    found = wp.zeros((4, len(x)), dtype=wp.float32, device="cpu")
    wp.launch(evaluate, dim=len(x), inputs=[wp.array(x, device="cpu"), found], device="cpu")
    sine, powers, logarithms, roots = found.numpy().astype(np.float64)
    exact = x.astype(np.float64)
    assert np.abs(sine - np.sin(2 * np.pi * exact)).max() < 2e-7
    assert np.abs(powers / np.exp2(exact) - 1).max() < 3e-7
    binary = np.log2(np.abs(exact))
    assert (np.abs(logarithms - binary) / np.maximum(np.abs(binary), 1)).max() < 2e-7
    assert np.abs(roots / np.abs(exact) ** 0.37 - 1).max() < 1e-6

"""Shares out dimensions between layers, so that a given number of trained parameters holds most energy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lorasub.errors import ConfigError

#: Bisections of the price of a parameter: more than the bits of a double.
_BISECTIONS = 80


def dimensions_within(
    budget: int, shares: Mapping[str, tuple[Tensor, Tensor]], energy: Mapping[str, float] | None = None
) -> dict[str, tuple[int, int]]:
    """Choose the numbers of columns of both sides of all layers.

    M of a layer has d_out d_in numbers and holds ``energy * share_out(d_out) * share_in(d_in)``: the two sides are
    taken to be independent, as K-FAC takes them. What all layers hold together is made as large as the budget allows:
    a price per number is found by bisection at which each layer's own best choice fits the budget (Everett 1963), and
    what is left over is spent one column at a time where it brings most.

    Args:
        budget: sum of d_out d_in over the layers.
        shares: layer to the shares of the energy that the first 0, 1, 2, ... columns of its output and input side hold.
        energy: layer to its part in the whole; all alike where it is None or empty.

    Returns:
        layer to (d_out, d_in), each at least 1.

    Raises:
        ConfigError: the budget is below one number a layer.
    """
    if budget < len(shares):
        raise ConfigError(f"a budget of {budget} is less than one number in each of {len(shares)} layers")
    weight = {path: float(energy[path]) if energy else 1.0 for path in shares}
    held = {
        path: weight[path] * output.double()[1:, None] * inputs.double()[None, 1:]
        for path, (output, inputs) in shares.items()
    }
    most = max(float(table.max()) for table in held.values())
    low, high = 0.0, max(most, torch.finfo(torch.float64).tiny)
    chosen = dict.fromkeys(shares, (1, 1))
    for _ in range(_BISECTIONS):
        price = (low + high) / 2
        trial = {path: _best_at(table, price) for path, table in held.items()}
        if _cost(trial) > budget:
            low = price
        else:
            high, chosen = price, trial
    return _spent(chosen, held, budget - _cost(chosen))


def _best_at(held: Tensor, price: float) -> tuple[int, int]:
    """The numbers of columns that hold most for a layer, less what they cost."""
    d_out, d_in = (torch.arange(1, n + 1, dtype=held.dtype) for n in held.shape)
    best = int((held - price * d_out[:, None] * d_in).argmax())
    return best // held.shape[1] + 1, best % held.shape[1] + 1


def _spent(chosen: Mapping[str, tuple[int, int]], held: Mapping[str, Tensor], left: int) -> dict[str, tuple[int, int]]:
    """Adds single columns, the one of most energy a number first, until none fits."""
    found = dict(chosen)
    while True:
        steps = []
        for path, (d_out, d_in) in found.items():
            table = held[path]
            for out, into in ((d_out + 1, d_in), (d_out, d_in + 1)):
                cost = out * into - d_out * d_in
                if cost <= left and out <= table.shape[0] and into <= table.shape[1]:
                    gain = float(table[out - 1, into - 1] - table[d_out - 1, d_in - 1])
                    steps.append((gain / cost, path, (out, into), cost))
        if not steps:
            return found
        _, path, sizes, cost = max(steps)
        found[path], left = sizes, left - cost


def _cost(chosen: Mapping[str, tuple[int, int]]) -> int:
    return sum(d_out * d_in for d_out, d_in in chosen.values())

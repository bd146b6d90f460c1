"""Bases from second moments: leading eigenvectors, with dimensions by energy or shared out under one budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis
from lorasub.subspaces.dimension import DimensionRule
from lorasub.subspaces.layers import Progress
from lorasub.subspaces.moments import SideMoments

#: What the columns of a basis are scaled by. M is trained between them, so that they precondition it.
Columns = Literal["orthonormal", "spectrum", "kfac"]
#: Sides of more features are decomposed by random projections: all eigenvectors of 4,096 would take half a minute.
_SMALL = 1536
#: Most columns of a side where a budget finds their number, and what a large side tries first for a share of energy.
_MOST = 256
#: Share of the mean eigenvalue that is added before a curvature is inverted.
_DAMPING = 1e-3


def moment_basis(
    moments: SideMoments,
    *,
    dim: int | str | None = None,
    budget: int | None = None,
    columns: Columns = "orthonormal",
    curvature: SideMoments | None = None,
    method: str = "moments",
    attributes: tuple[str, ...] = (),
    base_model_hash: str | None = None,
    base_model_id: str | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress = iter,
) -> SubspaceBasis:
    """Take the leading eigenvectors of both sides' moments as the columns of a basis.

    Args:
        moments: of the layers.
        dim: columns of either side in every layer, or ``"energy:0.5"``: on each side as few as hold that share of its
            trace. 16 where neither it nor ``budget`` is given.
        budget: numbers of M over all layers. Layers and sides share them so that most energy is held
            (:func:`lorasub.subspaces.moment_basis.dimensions_within`); each layer gets at least one.
        columns: ``orthonormal``; ``spectrum``: with mean square 1 and in proportion to the eigenvalues' fourth roots,
            as the paper scales by the square roots of singular values; ``kfac``: those of the span in which
            ``curvature`` is the identity, times a factor, as K-FAC would precondition M (Martens and Grosse 2015).
        curvature: for ``kfac``: the mean squares of the gradients at the layers' outputs, and of their inputs.
        method: how the moments came about, for the basis' card.
        attributes: that they stand for.
        base_model_hash: of the model's weights.
        base_model_id: its name.
        options: for the card, plain JSON values.
        progress: wraps the sequence of layer paths.

    Raises:
        ConfigError: both or unusable sizes, more columns than features, no moment of a layer is above zero, or a
            curvature is missing.

    Example:
        >>> layer = torch.nn.Sequential(torch.nn.Linear(16, 24))
        >>> moments = ls.weight_moments(layer, targets="all")
        >>> moment_basis(moments, dim=4).dims
        {'0': (4, 4)}
    """
    if dim is not None and budget is not None:
        raise ConfigError(f"give dim={dim!r} or budget={budget}, not both: a budget finds the dimensions itself")
    if columns not in get_args(Columns):
        raise ConfigError(f"columns={columns!r}; it can be {', '.join(get_args(Columns))}")
    if columns == "kfac" and curvature is None:
        raise ConfigError("columns='kfac' needs a curvature")
    rule = DimensionRule.parse(16 if dim is None else dim)
    if rule.kind not in ("fixed", "energy"):
        raise ConfigError(f"dim={dim!r}: a basis from moments takes a number of dimensions or 'energy:F'")
    most = int(rule.value) if rule.kind == "fixed" and budget is None else None
    share = rule.value if rule.kind == "energy" else None
    sides = {
        path: (_Side.of(path, moments.output[path], most, share), _Side.of(path, moments.input[path], most, share))
        for path in progress(list(moments.output))
    }
    if budget is not None:
        shares = {path: (output.shares, inputs.shares) for path, (output, inputs) in sides.items()}
        dims = dimensions_within(budget, shares, moments.energy)
    else:
        dims = {path: (output.count(rule), inputs.count(rule)) for path, (output, inputs) in sides.items()}
    layers = {}
    for path, (output, inputs) in sides.items():
        curved = (None, None) if curvature is None else (curvature.output[path], curvature.input[path])
        U, V = (
            side.columns(count, columns, curve)
            for side, count, curve in zip((output, inputs), dims[path], curved, strict=True)
        )
        layers[path] = LayerSubspace(U=U, V=V)
    return SubspaceBasis(
        layers=layers,
        base_model_hash=base_model_hash,
        base_model_id=base_model_id,
        method=method,
        attributes=attributes,
        options={"dim": dim, "budget": budget, "columns": columns, **(options or {})},
        scaled=columns != "orthonormal",
    )


class _Side:
    """The leading eigenvectors of one side of one layer.

    Attributes:
        values: ``[m]`` positive eigenvalues, descending.
        vectors: ``[n, m]``.
        shares: ``[m + 1]`` share of the energy that the first columns hold; 0 columns hold 0.
    """

    def __init__(self, values: Tensor, vectors: Tensor, whole: float) -> None:
        self.values, self.vectors = values, vectors
        self.shares = torch.cat([values.new_zeros(1), values.cumsum(0) / whole])

    @classmethod
    def of(cls, path: str, moment: Tensor, most: int | None, share: float | None) -> _Side:
        """Decomposes a moment.

        Args:
            path: of the layer, for messages.
            moment: ``[n, n]``.
            most: how many columns will be asked for; None where that is not known.
            share: of the energy that the columns must hold; None where their number is found otherwise.
        """
        n = len(moment)
        if most is not None and most > n:
            raise ConfigError(f"layer '{path}' has {n} features on one side, so it cannot have {most} dimensions")
        if share is not None:
            return cls._holding(path, moment, share)
        return cls._leading(path, moment, min(n, most or _MOST), most or 1)

    @classmethod
    def _holding(cls, path: str, moment: Tensor, share: float) -> _Side:
        """The first columns that hold a share of the energy; only they are kept."""
        n = len(moment)
        tried = n if n <= _SMALL else _MOST
        while (side := cls._leading(path, moment, tried, 1)).shares[-1] < share and tried < n:
            tried = min(2 * tried, n)
        count = max(int((side.shares < share).sum()), 1)
        side.values, side.vectors = side.values[:count].clone(), side.vectors[:, :count].clone()
        return side

    @classmethod
    def _leading(cls, path: str, moment: Tensor, count: int, least: int) -> _Side:
        """The first ``count`` columns, of which ``least`` must have positive eigenvalues."""
        values, vectors = leading_eigenvectors(moment.double(), count)
        positive = int((values > 1e-12 * values[0].abs()).sum()) if len(values) and values[0] > 0 else 0
        if positive < least:
            raise ConfigError(
                f"layer '{path}': its moment has {positive} eigenvalues above zero where {least} dimensions were "
                "asked for; take more scenes, or fewer dimensions"
            )
        # of an indefinite moment, such as a difference, only what is positive counts
        whole = max(float(moment.diagonal().sum()), float(values[:positive].sum()))
        return cls(values[:positive].cpu(), vectors[:, :positive].cpu(), whole)

    def count(self, rule: DimensionRule) -> int:
        """The number of columns that a rule asks for."""
        if rule.kind == "fixed":
            return int(rule.value)
        return len(self.values)

    def columns(self, count: int, scaling: Columns, curvature: Tensor | None) -> Tensor:
        """``[n, count]`` float32 columns."""
        Q = self.vectors[:, :count]
        if scaling == "spectrum":
            Q = _mean_square_one(Q * self.values[:count] ** 0.25)
        elif scaling == "kfac" and curvature is not None:
            within = Q.mT @ curvature.to(Q) @ Q
            within.diagonal().add_(_DAMPING * within.diagonal().mean())
            values, vectors = torch.linalg.eigh(within)
            Q = _mean_square_one(Q @ (vectors * values.rsqrt()) @ vectors.mT)
        return Q.float().contiguous()


def _mean_square_one(columns: Tensor) -> Tensor:
    """Columns whose squared norms have mean 1, as those of an orthonormal basis: learning rates stay comparable."""
    scaled: Tensor = columns * (columns.shape[1] ** 0.5 / columns.norm())
    return scaled


def leading_eigenvectors(moment: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of a symmetric matrix, descending, and their eigenvectors as columns.

    Args:
        moment: ``[n, n]``. Large ones without a negative number on the diagonal are taken to be positive semi-definite.
        count: how many.
    """
    definite = bool((moment.diagonal() >= 0).all())
    if len(moment) <= _SMALL or not definite:
        values, vectors = torch.linalg.eigh(moment)
        return values[-count:].flip(0), vectors[:, -count:].flip(1)
    with torch.random.fork_rng():  # Halko et al. 2011; nothing else may be drawn differently for it
        torch.manual_seed(0)
        U, S, _ = torch.svd_lowrank(moment, q=min(2 * count + 16, len(moment)), niter=6)
    return S[:count], U[:, :count]


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

"""Spectra of mined updates, with what chance would give."""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.figures.style import COLORS, NULL_COLOR, new_figure
from lorasub.subspaces import MiningRecord, SubspaceBasis, layer_kind

_COLUMNS = 4
#: Singular values below this part of the largest are rounding: k adapters of rank r have k r at most.
_ROUNDING = 1e-5


def spectra_figure(basis: SubspaceBasis, *, longest: int | None = None) -> Figure:
    """Singular values of the mined mean update for every kind of layer, with the band of the null.

    Every layer's spectrum is divided by its largest value; the line is the median over the layers of a kind, the
    coloured band their middle half, the grey band the 5th to 95th percentile of chance (also the median over layers).
    The solid vertical line stands at the (median) number of dimensions kept, the dotted one at k, the number of
    adapters, where the spectrum has a step even if the adapters share nothing.

    Args:
        basis: mined, so that its layers have records.
        longest: how many singular values to show; None shows at most 4 times the dimensions kept, at least 2 k.

    Raises:
        ConfigError: no layer has a record.
    """
    kinds: dict[str, list[tuple[MiningRecord, int]]] = {}
    for path, layer in basis.layers.items():
        if layer.record is not None:
            kinds.setdefault(str(layer_kind(path)), []).append((layer.record, layer.d_out))
    if not kinds:
        raise ConfigError(f"basis '{basis.name}' ({basis.method}) was not mined: it has no spectra to show")
    columns = min(_COLUMNS, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    figure, axes = new_figure(2.6 * columns + 0.6, 2.2 * rows + 0.8, rows, columns, sharey=True)
    lowest = min(
        _draw_kind(axis, kind, entries, longest) for axis, (kind, entries) in zip(axes, kinds.items(), strict=False)
    )
    axes[0].set_ylim(lowest / 1.5, 1.4)
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_ylabel("singular value / largest")
    handles, labels = axes[0].get_legend_handles_labels()
    beside = len(labels) if columns > 2 else columns
    figure.legend(handles, labels, loc="outside lower center", ncols=beside, frameon=False, fontsize="small")
    figure.suptitle(f"{basis.name}: spectra of what the adapters share")
    return figure


def spectra_rows(basis: SubspaceBasis) -> list[dict[str, Any]]:
    """Every singular value of every layer with its null, as flat rows."""
    rows = []
    for path, layer in basis.layers.items():
        if layer.record is None:
            continue
        kind = layer_kind(path)
        for index, value in enumerate(layer.record.spectrum.tolist()):
            null = (None, None, None) if layer.record.null is None else layer.record.null[:, index].tolist()
            rows.append(
                {
                    "layer": path,
                    "stage": kind.stage,
                    "depth": kind.depth,
                    "part": kind.part,
                    "index": index + 1,
                    "singular_value": value,
                    "null_5": null[0],
                    "null_50": null[1],
                    "null_95": null[2],
                    "kept": index < layer.d_out,
                }
            )
    return rows


def _draw_kind(axis: Axes, kind: str, entries: list[tuple[MiningRecord, int]], longest: int | None) -> float:
    """Draws one panel; returns the smallest median that is more than rounding."""
    records = [record for record, _ in entries]
    kept = int(torch.tensor([float(d) for _, d in entries]).median())
    adapters = len(records[0].weights)
    length = min(len(record.spectrum) for record in records)
    length = min(length, longest or max(4 * kept, 2 * adapters))
    index = range(1, length + 1)
    spectra = torch.stack([record.spectrum[:length] / record.spectrum[0] for record in records])
    nulls = [record.null[:, :length] / record.spectrum[0] for record in records if record.null is not None]
    if nulls:
        low, _, high = torch.stack(nulls).median(0).values
        axis.fill_between(index, low, high, color=NULL_COLOR, alpha=0.45, linewidth=0, label="chance, 5 to 95%")
    quarter, median, three = _quartiles(spectra).masked_fill(_quartiles(spectra) < _ROUNDING, math.nan)
    axis.fill_between(index, quarter, three, color=COLORS[0], alpha=0.3, linewidth=0)
    axis.plot(index, median, color=COLORS[0], marker="o", markersize=2.5, linewidth=1.2, label="adapters' mean")
    if kept:
        axis.axvline(kept + 0.5, color=COLORS[1], linewidth=1.2, label="dimensions kept")
    axis.axvline(adapters + 0.5, color="black", linewidth=1, linestyle=":", label="k, a step by construction")
    axis.set_yscale("log")
    axis.set_title(f"{kind.replace(' ', chr(10), 1)} ({len(entries)})", fontsize="small")
    axis.set_xlabel("index")
    return float(median[median > _ROUNDING].min())


def _quartiles(values: Tensor) -> Tensor:
    return torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype), dim=0)

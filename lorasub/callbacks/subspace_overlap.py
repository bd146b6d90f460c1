"""Compares the adapter that was just fitted with known subspaces."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import ModelParallelStrategy

from lorasub.adapters import AdapterBank, AdapterSet, attached_adapters
from lorasub.adapters.column_usage import ColumnUsage, column_usage
from lorasub.adapters.mining import updates_hash
from lorasub.adapters.projected import ProjectedLayer
from lorasub.adapters.saving import adapter_info
from lorasub.callbacks.run_folder import run_folder
from lorasub.console import text_table
from lorasub.errors import ConfigError
from lorasub.figures import overlap_bars, overlap_heatmap, save_figure, usage_bars
from lorasub.files import write_json
from lorasub.subspaces import (
    LowRankUpdate,
    OverlapMatrix,
    Placebo,
    SeedPlacebo,
    Side,
    SubspaceBasis,
    adapter_subspace,
    seed_alone,
    shipped_bases,
    shipped_placebos,
    shuffled_labels,
    subspace_overlap,
)

log = logging.getLogger(__name__)

_OWN = "this fit"
_SIDES: tuple[Literal["output", "input"], ...] = ("output", "input")


class SubspaceOverlap(Callback):
    """Compares the adapter's own subspace with reference bases, against chance and against shuffled labels.

    Layers have preferred directions, so that any two fits overlap far beyond Haar-random subspaces. What speaks of an
    attribute is an overlap above those with placebos, bases of scenes that differ in nothing but their seed, and a z
    against shuffled labels that is clearly above those of the other references. References that were
    made from this very adapter, or from one with the same start, are named. A projected fit is confined to its basis;
    for it the table says which of the basis's columns it uses.

    After each fit: a table in the log, scalars and a heat map in TensorBoard, ``overlap.json`` and
    ``figures/overlap.png`` in the run's folder. Optionally every n steps too, to watch a subspace form. Works with any
    module that holds low-rank adapters, on any number of processes; without references it does nothing.

    Args:
        references: name -> folder of a basis. Only layers that the adapter shares with a reference are compared. By
            default those that come with the package for the module's own base weights, of which only the preset
            ``nano`` has some; an empty mapping for none.
        dim: directions of the adapter that count in each layer, the strongest first.
        every_n_steps: also during the fit; 0 for the end only.
        draws: random pairs behind the nulls that have no closed form.
        placebos: name -> folder of a basis that was made as the references were, of data sets that differ in nothing
            but their seed. By default those of the package, if the references are the package's, else none.
    """

    def __init__(
        self,
        references: Mapping[str, str] | None = None,
        dim: int = 16,
        every_n_steps: int = 0,
        draws: int = 200,
        placebos: Mapping[str, str] | None = None,
    ) -> None:
        if dim < 1 or every_n_steps < 0 or draws < 2:
            raise ConfigError(
                "SubspaceOverlap needs dim >= 1, every_n_steps >= 0 and draws >= 2, "
                f"not {dim}, {every_n_steps} and {draws}"
            )
        self.references = None if references is None else dict(references)
        self.dim = dim
        self.every_n_steps = every_n_steps
        self.draws = draws
        self.placebos = None if placebos is None else dict(placebos)
        self._placebos: dict[str, SubspaceBasis] = {}
        self._bases: dict[str, SubspaceBasis] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the references now: a wrong path should not wait for the end of the fit.

        Raises:
            ConfigError: scalars are wanted during a fit whose adapters are sharded over processes.
        """
        if self.every_n_steps and isinstance(trainer.strategy, ModelParallelStrategy):
            raise ConfigError(
                "overlap.every_n_steps needs whole adapters, which fsdp2 has at the end only; set it to 0"
            )
        adapters = attached_adapters(pl_module)
        base = None if adapters is None else adapters.base_model_hash
        if self.placebos is not None:
            self._placebos = {name: SubspaceBasis.load(path) for name, path in self.placebos.items()}
        elif self.references is None:
            self._placebos = shipped_placebos(base)
        if self.references is None:
            self._bases = shipped_bases(base)
            return
        self._bases = {name: SubspaceBasis.load(path) for name, path in self.references.items()}
        for name, basis in self._bases.items():
            if None not in (base, basis.base_model_hash) and base != basis.base_model_hash:
                log.warning(
                    "the reference basis '%s' was mined on other weights (%s) than the adapter is fitted on (%s); an "
                    "overlap of subspaces of different models means little",
                    name,
                    str(basis.base_model_hash)[:12],
                    str(base)[:12],
                )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Scalars every n steps."""
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0 and trainer.is_global_zero:
            self._log_scalars(trainer, self._measure(pl_module))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Table, scalars, files and figure."""
        folder = run_folder(trainer)
        adapters = attached_adapters(pl_module)
        if folder is None or not trainer.is_global_zero or adapters is None:
            return
        content: dict[str, Any] = {}
        if usage := column_usage(adapters):
            content["used_columns"] = [row.to_dict() for row in usage]
            rows = [(row.origin, row.side, row.columns, row.used) for row in usage]
            save_figure(usage_bars(rows), folder / "figures" / "used_columns.png", content["used_columns"], dpi=100)
            log.info("\n%s", usage_table(usage))
        matrix = self._measure(pl_module)
        if matrix is not None:
            found = FitOverlap.of(matrix, _fitted(adapters), self._bases, self._placebos, self.dim, self.draws)
            content |= matrix.to_dict() | found.to_dict()
            self._draw(trainer, matrix, found, folder)
            self._log_scalars(trainer, matrix)
            log.info("\n%s", found.table())
        if content:
            write_json(folder / "overlap.json", content)

    def _draw(self, trainer: Trainer, matrix: OverlapMatrix, found: FitOverlap, folder: Path) -> None:
        reports = {second: report for (first, second), report in matrix.reports.items() if first == _OWN}
        figure = overlap_bars(reports, found.placebos[_OWN]) if reports else overlap_heatmap(matrix)
        save_figure(figure, folder / "figures" / "overlap.png", matrix.rows("all"), dpi=100)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("overlap", figure, global_step=trainer.global_step)

    def _measure(self, pl_module: LightningModule) -> OverlapMatrix | None:
        adapters = attached_adapters(pl_module)
        fitted = {} if adapters is None else _fitted(adapters)
        if not any(one.updates for one in fitted.values()) or not self._bases:
            return None
        reports = {}
        for first, one in fitted.items():
            own = adapter_subspace(one.updates, dim=self.dim, name=first)
            for name, basis in self._bases.items():
                if not set(own.layers) & set(basis.layers):
                    continue
                report = subspace_overlap(own, basis, strict=False, draws=self.draws)
                reports[first, name] = replace(report, first=first, second=name)
        return OverlapMatrix(names=(*fitted, *self._bases), reports=reports) if reports else None

    def _log_scalars(self, trainer: Trainer, matrix: OverlapMatrix | None) -> None:
        if matrix is None:
            return
        scalars = {}
        for (first, second), report in matrix.reports.items():
            name = second if first == _OWN else f"{first}_{second}"
            for side in _SIDES:
                if (mean := report.mean("phi", side)) is not None:
                    scalars[f"overlap/{name}_{side}"] = mean.value
                    scalars[f"overlap/{name}_{side}_chance"] = mean.null_mean
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """One adapter that was fitted.

    Attributes:
        updates: of layers that are free to go anywhere; projected ones are confined to their basis.
        hash: of all updates, as bases name their sources.
        start: hash of the random numbers that it started from.
    """

    updates: Mapping[str, LowRankUpdate]
    hash: str
    start: str | None


def _fitted(adapters: AdapterSet) -> dict[str, _Fitted]:
    """Name -> what was fitted; the adapters of a bank one by one."""
    if not isinstance(adapters, AdapterBank):
        return {_OWN: _one(adapters)}
    found = {}
    for index in range(adapters.count):
        with adapters.only(index):
            found[f"adapter_{index}"] = _one(adapters)
    return found


def _one(adapters: AdapterSet) -> _Fitted:
    updates = adapters.updates()
    free = {path: update for path, update in updates.items() if not isinstance(adapters.layers[path], ProjectedLayer)}
    return _Fitted(updates=free, hash=updates_hash(updates), start=adapter_info(adapters).start)


@dataclass(frozen=True, slots=True)
class FitOverlap:
    """Overlaps after a fit with their nulls, and the references that are not independent of it.

    Attributes:
        matrix: the overlaps, with Haar-random subspaces as the floor.
        placebos: adapter -> side -> reference -> what bases with shuffled labels give.
        seeds: adapter -> side -> what bases of data sets that differ in their seed alone give.
        kin: (adapter, reference) -> why the two are no strangers, where they are none.
    """

    matrix: OverlapMatrix
    placebos: Mapping[str, Mapping[Side, Mapping[str, Placebo]]]
    seeds: Mapping[str, Mapping[Side, SeedPlacebo]]
    kin: Mapping[tuple[str, str], str]

    @classmethod
    def of(
        cls,
        matrix: OverlapMatrix,
        fitted: Mapping[str, _Fitted],
        bases: Mapping[str, SubspaceBasis],
        placebo_bases: Mapping[str, SubspaceBasis],
        dim: int,
        draws: int,
    ) -> FitOverlap:
        """Measure the placebo, and look for what the adapters have in common with the references' sources."""
        placebos: dict[str, dict[Side, Mapping[str, Placebo]]] = {}
        seeds: dict[str, dict[Side, SeedPlacebo]] = {}
        kin = {}
        for name, one in fitted.items():
            own = adapter_subspace(one.updates, dim=dim, name=name)
            placebos[name] = {
                "output": shuffled_labels(own, bases, "output", draws=draws),
                "input": shuffled_labels(own, bases, "input", draws=draws),
            }
            found = {side: seed_alone(own, placebo_bases, side) for side in _SIDES}
            seeds[name] = {side: one for side, one in found.items() if one is not None}
            for reference, basis in bases.items():
                for source in basis.sources:
                    if source.hash == one.hash:
                        kin[name, reference] = f"it was mined from this very adapter ({source.name})"
                    elif source.start is not None and source.start == one.start:
                        kin[name, reference] = f"its source {source.name} started from the same lora_A"
        return cls(matrix=matrix, placebos=placebos, seeds=seeds, kin=kin)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, beside those of the matrix."""
        return {
            "placebo": {
                name: {side: {key: asdict(one) for key, one in found.items()} for side, found in sides.items()}
                for name, sides in self.placebos.items()
            },
            "seed_alone": {
                name: {side: list(one.values) for side, one in sides.items()} for name, sides in self.seeds.items()
            },
            "not_independent": [
                {"adapter": name, "reference": reference, "why": why} for (name, reference), why in self.kin.items()
            ],
        }

    def table(self) -> str:
        """One line for each reference and side: the mean over layers, beside the nulls; then what it does not say."""
        lines = [
            "overlap phi of this fit with reference bases, mean over layers (docs: the overlap table after a fit)",
        ]
        rows: list[dict[str, Any]] = []
        for (name, reference), report in self.matrix.reports.items():
            label = reference if name == _OWN else f"{name}, {reference}"
            for side in _SIDES:
                if (mean := report.mean("phi", side)) is None:
                    continue
                placebo, seeds = self.placebos[name][side].get(reference), self.seeds[name].get(side)
                rows.append(
                    {
                        "basis of": label,
                        "side": side,
                        "found": mean.value,
                        "Haar": mean.null_mean,
                        "z of Haar": mean.z,
                        "shuffled": None if placebo is None else placebo.mean,
                        "z of shuffled": None if placebo is None else placebo.z(mean.value),
                        "seed alone": None if seeds is None else f"{min(seeds.values):.3f} to {seeds.most:.3f}",
                    }
                )
        lines.append(text_table(rows))
        if not any(found for sides in self.placebos.values() for found in sides.values()):
            lines.append("no second basis to shuffle labels with: above Haar says nothing about the attribute")
        else:
            lines.append(
                "an overlap speaks of an attribute only where its z of shuffled labels is clearly above all others'"
            )
        if any(self.seeds.values()):
            lines.append(
                "and where it is above 'seed alone': overlaps with bases of scenes that differ in nothing else"
            )
        lines += [
            f"{reference} is no independent reference: {why}; its overlap means nothing"
            for (_, reference), why in self.kin.items()
        ]
        return "\n".join(lines)


def usage_table(rows: Sequence[ColumnUsage]) -> str:
    """Returns the use of a projected fit's columns as text: one line for each origin and side."""
    cells = [
        {
            "columns of": row.origin,
            "side": row.side,
            "of all": row.columns,
            "used": row.used,
            "effective": row.effective,
        }
        for row in rows
    ]
    return f"columns of the basis that this fit uses, mean over layers\n{text_table(cells)}"

"""How far does the adapter that was just fitted overlap with known subspaces?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import ModelParallelStrategy

from lorasub.adapters import AdapterBank, AdapterSet, attached_adapters
from lorasub.callbacks.run_folder import run_folder
from lorasub.errors import ConfigError
from lorasub.figures import overlap_heatmap, save_figure
from lorasub.files import write_json
from lorasub.subspaces import (
    LowRankUpdate,
    OverlapMatrix,
    Side,
    SubspaceBasis,
    adapter_subspace,
    shipped_bases,
    subspace_overlap,
)

log = logging.getLogger(__name__)

#: What is told in one line for each reference; ``overlap.json`` has everything.
_MEASURES = ("phi", "distance")
_OWN = "this fit"
_SIDES: tuple[Side, ...] = ("output", "input")


class SubspaceOverlap(Callback):
    """Compares the adapter's own subspace with reference bases, against chance.

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
    """

    def __init__(
        self,
        references: Mapping[str, str] | None = None,
        dim: int = 16,
        every_n_steps: int = 0,
        draws: int = 200,
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
        if folder is None or not trainer.is_global_zero:
            return
        matrix = self._measure(pl_module)
        if matrix is None:
            return
        write_json(folder / "overlap.json", matrix.to_dict())
        figure = overlap_heatmap(matrix)
        save_figure(figure, folder / "figures" / "overlap.png", matrix.rows("all"), dpi=100)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure("overlap", figure, global_step=trainer.global_step)
        self._log_scalars(trainer, matrix)
        log.info("\n%s", overlap_table(matrix))

    def _measure(self, pl_module: LightningModule) -> OverlapMatrix | None:
        adapters = attached_adapters(pl_module)
        fitted = {} if adapters is None else _fitted(adapters)
        if not any(fitted.values()) or not self._bases:
            return None
        reports = {}
        for first, updates in fitted.items():
            own = adapter_subspace(updates, dim=self.dim, name=first)
            for name, basis in self._bases.items():
                report = subspace_overlap(own, basis, strict=False, draws=self.draws)
                reports[first, name] = replace(report, first=first, second=name)
        return OverlapMatrix(names=(*fitted, *self._bases), reports=reports)

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


def _fitted(adapters: AdapterSet) -> dict[str, dict[str, LowRankUpdate]]:
    """Name -> updates of what was fitted; the adapters of a bank one by one."""
    if not isinstance(adapters, AdapterBank):
        return {_OWN: adapters.updates()}
    found = {}
    for index in range(adapters.count):
        with adapters.only(index):
            found[f"adapter_{index}"] = adapters.updates()
    return found


def overlap_table(matrix: OverlapMatrix) -> str:
    """One line for each reference, side and measure: the mean over layers, what chance gives, and the z-score."""
    lines = [f"{'overlap with':<16} {'side':<7} {'measure':<9} {'found':>8} {'chance':>8} {'z':>8}"]
    for row in matrix.rows("all"):
        if row["measure"] in _MEASURES:
            found, chance, z = row["value"], row["null_mean"], row["z"]
            name = row["second"] if row["first"] == _OWN else f"{row['first']}, {row['second']}"
            lines.append(f"{name:<16} {row['side']:<7} {row['measure']:<9} {found:>8.3f} {chance:>8.3f} {z:>8.1f}")
    return "\n".join(lines)

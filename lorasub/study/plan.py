"""From a study's settings to the graph of its steps, and to the table of results that they will fill."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lorasub.study.code import code_version
from lorasub.study.inputs import looking_once
from lorasub.study.settings import Basis, ClassSettings, Downstream, Method, Study, replaced
from lorasub.study.steps import Graph, Kind, Step
from lorasub.study.training_config import (
    BASELINE,
    INPUT,
    RATE,
    as_bank,
    basis_names,
    fit_config,
    scoring_config,
    swept,
    training_data,
    with_arguments,
    with_bases,
)

#: Optimiser of the adapters that are mined from.
_ADAPTER_OPTIMIZER = {"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.05}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One result of a study: a method on one test, from one seed and one number of training scenes.

    Attributes:
        downstream: the task.
        method: the way to fine-tune.
        scenes: training scenes; None for all.
        seed: of the fine-tuning; None without one.
        test: name of the test data, empty for that which belongs to the fine-tuning.
        variant: the ablation and its value, such as ``mining.alpha=2``; empty for the study itself.
        step: key of the test.
        tune: key of the fine-tuning; None without one.
        choose: key of the choice of the learning rate; None without one.
    """

    downstream: str
    method: str
    test: str
    step: str
    scenes: int | None = None
    seed: int | None = None
    variant: str = ""
    tune: str | None = None
    choose: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalCell:
    """One result of the causal test: an adapter without a subspace, on scenes in which one attribute varies.

    Attributes:
        removed: attribute whose subspace was taken out, ``random``, or empty for the whole adapter.
        tested: attribute that varies.
        step: key of the test.
        remove: key of the removal; None for the whole adapter.
    """

    removed: str
    tested: str
    step: str
    remove: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a study will do.

    Attributes:
        study: its settings.
        graph: all steps.
        cells: what the steps' results are of.
        overlaps: variant -> key of the step that compares the attributes.
        bases: (variant, name) -> key of the step that combines it.
        explained: variant -> key of the step that holds subspaces against adapters they were not mined from; variants
            with fewer than four partitions have none.
        removals: results of the causal test.
    """

    study: Study
    graph: Graph
    cells: tuple[Cell, ...]
    overlaps: dict[str, str]
    bases: dict[tuple[str, str], str]
    explained: dict[str, str]
    removals: tuple[RemovalCell, ...]


def plan_study(study: Study) -> Plan:
    """Every step of a study and of its ablations; what they share is there once.

    Raises:
        ConfigError: settings that do not fit together.
    """
    with looking_once():
        return _planned(study)


def _planned(study: Study) -> Plan:
    graph = Graph()
    main = _Planner(study, graph, variant="")
    cells = list(main.cells(dict(study.downstream)))
    overlaps, explained = {"": main.overlap()}, main.explain()
    removals = tuple(main.removals())
    bases = dict(main.bases)
    for ablation in study.ablations.values():
        for value in ablation.values:
            variant = f"{ablation.setting}={value}"
            changed = replaced(dataclasses.replace(study, ablations={}), ablation.setting, value)
            kept = {n: m for n, m in changed.methods.items() if not m.adapter or n in ablation.methods}
            tasks = {n: dataclasses.replace(task, methods=None) for n, task in changed.downstream.items()}
            changed = dataclasses.replace(changed, methods=kept, downstream=tasks)
            planner = _Planner(changed, graph, variant=variant)
            chosen = {name: changed.downstream[name] for name in ablation.downstream or changed.downstream}
            cells += [cell for cell in planner.cells(chosen) if cell.tune is not None]
            bases |= planner.bases
            overlaps[variant] = planner.overlap()
            explained |= planner.explain()
    return Plan(
        study=study,
        graph=graph,
        cells=tuple(cells),
        overlaps=overlaps,
        bases=bases,
        explained=explained,
        removals=removals,
    )


class _Planner:
    """Adds the steps of one variant of a study to a graph."""

    def __init__(self, study: Study, graph: Graph, variant: str) -> None:
        self.study = study
        self.graph = graph
        self.variant = variant
        self.bases: dict[tuple[str, str], str] = {}

    def fits(self, attribute: str) -> dict[str, str]:
        """The adapters of an attribute: role -> key; where they are fitted together, all roles have the same."""
        partitions = range(self.study.partitions)
        if not self.study.adapters.together:
            return {f"{attribute}/{partition}": self._fit(attribute, partition) for partition in partitions}
        settings = self.study.adapters
        bank, scenes = as_bank(settings.adapter, [self._scenes(attribute, partition) for partition in partitions])
        key = self._add_fit(f"fit {attribute}", bank, scenes, work=settings.steps * len(partitions))
        return {f"{attribute}/{partition}": key for partition in partitions}

    def _fit(self, attribute: str, partition: int) -> str:
        settings = self.study.adapters
        name = f"fit {attribute} {partition}"
        return self._add_fit(name, settings.adapter, self._scenes(attribute, partition), work=settings.steps)

    def _scenes(self, attribute: str, partition: int) -> ClassSettings:
        data = with_arguments(self.study.adapters.data, attribute=attribute, partition=partition)
        if self.study.adapters.separate_seeds and partition:
            data = with_arguments(data, seed=data["init_args"].get("seed", 0) + partition)
        return data

    def _add_fit(self, name: str, adapter: ClassSettings, data: ClassSettings, work: float) -> str:
        settings = self.study.adapters
        config = fit_config(
            self.study,
            task=settings.task,
            adapter=[adapter],
            optimizer=_ADAPTER_OPTIMIZER,
            learning_rate=settings.learning_rate,
            data=data,
            steps=settings.steps,
            seed=settings.seed,
        )
        return self._add("fit", name, config, work=work)

    def overlap(self) -> str:
        """Attributes against each other and against themselves."""
        mining = self.study.mining
        config = {
            "dim": mining.overlap_dim,
            "alpha": mining.alpha,
            "draws": mining.overlap_draws,
            "layers": mining.layers,
        }
        inputs = {role: key for attribute in self.study.attributes for role, key in self.fits(attribute).items()}
        return self._add("overlap", "overlap of attributes", config, inputs)

    def explain(self) -> dict[str, str]:
        """Adapters of all attributes, explained by subspaces that were mined from others; nothing for less than 4."""
        if self.study.partitions < 4:
            return {}
        mining = self.study.mining
        config = {"dim": mining.overlap_dim, "alpha": mining.alpha, "layers": mining.layers}
        inputs = {role: key for attribute in self.study.attributes for role, key in self.fits(attribute).items()}
        return {self.variant: self._add("explain", "explain held-out adapters", config, inputs)}

    def removals(self) -> Iterator[RemovalCell]:
        """The causal test, if it is wanted."""
        wanted = self.study.removal
        if wanted is None:
            return
        whole = self._fit(wanted.attribute, wanted.partition)
        models: dict[str, str] = {"": whole}
        bases = {name: self._mine(name, Basis(dim=wanted.dim)) for name in self.study.attributes}
        for name, basis, random in (
            *((name, basis, False) for name, basis in bases.items()),
            ("random", next(iter(bases.values())), True),
        ):
            config = {"random": random, "seed": self.study.adapters.seed}
            models[name] = self._add("remove", f"remove {name}", config, {"fit": whole, "basis": basis})
        for (removed, model), tested in itertools.product(models.items(), self.study.attributes):
            data = with_arguments(self.study.adapters.data, attribute=tested, partition=wanted.partition)
            name = f"test {tested} without {removed or 'nothing'}"
            step = self._add("test", name, scoring_config(self.study, data), {"fit": model})
            yield RemovalCell(removed=removed, tested=tested, step=step, remove=model if removed else None)

    def basis(self, name: str) -> str:
        """The step that combines one of the study's bases."""
        wanted = self.study.bases[name]
        attributes = wanted.attributes or self.study.attributes
        if wanted.part == "raw":
            inputs = {attribute: self._mine(attribute, wanted) for attribute in attributes}
        else:
            inputs = {"split": self._split(attributes, wanted)}
        config = {
            "attributes": attributes,
            "part": wanted.part,
            "tolerance": wanted.tolerance,
            "scaled": wanted.scaled,
        }
        self.bases[self.variant, name] = self._add("combine", f"combine {name}", config, inputs)
        return self.bases[self.variant, name]

    def cells(self, downstream: dict[str, Downstream]) -> Iterator[Cell]:
        """Every result of some tasks; adds the steps on the way."""
        for name, task in downstream.items():
            tests = {"": task.data, **task.tests}
            baselines = {
                test: self._add("test", f"test {name} none {test}".strip(), scoring_config(self.study, data, task.task))
                for test, data in tests.items()
            }
            for given, method in self.study.methods.items():
                if not method.adapter:
                    for test, key in baselines.items():
                        yield Cell(downstream=name, method=given, test=test, step=key, variant=self.variant)
                elif task.methods is None or given in task.methods:
                    for label, single in swept(given, method):
                        yield from self._method_cells(name, task, label, single, baselines)

    def _method_cells(
        self, name: str, task: Downstream, label: str, method: Method, baselines: dict[str, str]
    ) -> Iterator[Cell]:
        choose = self._choose(name, task, label, method)
        for scenes in task.scenes:
            for seed in self.study.seeds:
                what = f"{name} {label} scenes={'all' if scenes is None else scenes} seed={seed}"
                config = self._tuning(task, method, f"{INPUT}{RATE}", scenes, seed)
                # the same data scored without fine-tuning: before the first step nothing may differ
                inputs = {RATE: choose, BASELINE: baselines[""]} | self._basis_inputs(method)
                settings = {"fit": config, "validation_set": task.validation_set}
                tune = self._add("tune", f"tune {what}", settings, inputs, work=task.steps)
                for test, data in {"": task.data, **task.tests}.items():
                    key = self._add(
                        "test", f"test {what} {test}".strip(), scoring_config(self.study, data), {"fit": tune}
                    )
                    yield Cell(
                        downstream=name,
                        method=label,
                        scenes=scenes,
                        seed=seed,
                        test=test,
                        variant=self.variant,
                        step=key,
                        tune=tune,
                        choose=choose,
                    )

    def _choose(self, name: str, task: Downstream, label: str, method: Method) -> str:
        """Fits with every rate of the grid, and the choice among them, on validation data alone."""
        trials = {}
        for rate in self.study.rates(method):
            config = self._tuning(task, method, rate, task.scenes[0], self.study.tuning_seed)
            what = f"try {name} {label} rate={rate:g}"
            trials[str(rate)] = self._add("try", what, {"fit": config}, self._basis_inputs(method), work=task.steps)
        config = {"metric": f"val/{task.metric}", "larger_is_better": task.larger_is_better}
        return self._add("choose", f"choose the rate of {name} {label}", config, trials)

    def _tuning(
        self, task: Downstream, method: Method, rate: float | str, scenes: int | None, seed: int
    ) -> dict[str, Any]:
        return fit_config(
            self.study,
            task=task.task,
            adapter=with_bases(method.adapter, self.study),
            optimizer=method.optimizer,
            learning_rate=rate,
            data=training_data(task.data, scenes, seed),
            steps=task.steps,
            seed=seed,
        )

    def _basis_inputs(self, method: Method) -> dict[str, str]:
        return {f"basis {name}": self.basis(name) for name in basis_names(method.adapter, self.study)}

    def _mine(self, attribute: str, basis: Basis) -> str:
        mining = self.study.mining
        options = {
            "dim": mining.dim if basis.dim is None else basis.dim,
            "alpha": mining.alpha,
            "eps": mining.eps,
            "normalize": mining.normalize,
            "null_draws": mining.null_draws,
        }
        config = {"attribute": attribute, "layers": mining.layers, "options": options}
        return self._add("mine", f"mine {attribute} dim={options['dim']}", config, self.fits(attribute))

    def _split(self, attributes: list[str], basis: Basis) -> str:
        mining = self.study.mining
        dim = mining.dim if basis.dim is None else basis.dim
        config = {"layers": mining.layers, "options": {"dim": dim, "alpha": mining.alpha}}
        inputs = {role: key for attribute in attributes for role, key in self.fits(attribute).items()}
        return self._add("split", f"split {'+'.join(attributes)} dim={dim}", config, inputs)

    def _add(
        self, kind: Kind, name: str, config: dict[str, Any], inputs: dict[str, str] | None = None, work: float = 1.0
    ) -> str:
        shown = f"{name} ({self.variant})" if self.variant else name
        step = Step(kind=kind, name=shown, config=config, inputs=inputs or {}, code=code_version(kind), work=work)
        return self.graph.add(step)

"""From a study's settings to the graph of its steps, and to the list of results that they will fill."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from lorasub.errors import ConfigError
from lorasub.study.adapter_specs import AdapterFits, ClassSettings, adamw, with_arguments
from lorasub.study.artefacts import Output
from lorasub.study.basis_specs import Basis, GradientBasis, MeanBasis
from lorasub.study.code import code_version
from lorasub.study.gradient_specs import PLACEBO
from lorasub.study.graph import Graph, Step
from lorasub.study.inputs import Content, class_paths, content_hash, named_inputs
from lorasub.study.specs import Arm, Downstream, Study, drawn_again, replaced
from lorasub.study.steps import KINDS
from lorasub.study.steps.adapters import FittedAdapter
from lorasub.study.steps.comparison import Compare
from lorasub.study.steps.constant import MeanScene
from lorasub.study.steps.gradients import ModelBasis
from lorasub.study.steps.pulls import ComparePulls, Pull, PulledSets
from lorasub.study.steps.removal import RANDOM, Remove
from lorasub.study.steps.subspaces import Combine, Mean, Mine, Split
from lorasub.study.steps.training import AdapterChoice, FineTune, Fit, RateTrial, Scoring, SelectRate, Training

#: What stands in a row of a table: a fine-tuned method, the model as it is, or one that does not look at the images.
RowKind = Literal["method", "zero-shot", "plane", "mean"]
#: What has a task and a number of steps to fit.
Trained = AdapterFits | Downstream
_PLANE = {"class_path": "lorasub.ConstantGeometry"}
#: Between the seeds of the scenes of two draws of a basis; partitions have numbers below.
_SEEDS_PER_DRAW = 1000


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A study with one setting changed: of which ablation, and to which value."""

    ablation: str
    setting: str
    value: Any

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.setting}={self.value}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One result of a study: one row of a table on one test.

    Attributes:
        downstream: the task.
        row: what was tested.
        arm: the method, where it is one.
        scenes: training scenes; None for all, or where there are none.
        seed: of the fine-tuning; None where there is none.
        test: name of the test data, empty for that which belongs to the fine-tuning.
        variant: the ablation; None for the study itself.
        step: the test.
        finetune: the fine-tuning.
        select: the choice of the learning rate.
    """

    downstream: str
    row: RowKind
    test: str
    step: Output
    arm: Arm | None = None
    scenes: int | None = None
    seed: int | None = None
    variant: Variant | None = None
    finetune: Output | None = None
    select: Output | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The steps that compare the attributes of a variant; ``explain`` needs four partitions."""

    variant: Variant | None
    overlap: Output
    explain: Output | None


@dataclass(frozen=True, kw_only=True)
class RemovalTest:
    """The causal test of one attribute: the steps that test its adapter on scenes of its own.

    Attributes:
        attribute: of the adapter and of the scenes.
        without_adapter: test of the base model.
        whole: test of the whole adapter.
        remove: the step that takes subspaces out of it.
        rests: what was taken out (an attribute's name, or ``random``) -> test of what is left.
    """

    attribute: str
    without_adapter: Output
    whole: Output
    remove: Output
    rests: dict[str, Output]


@dataclass(kw_only=True)
class Plan:
    """Plan of a study: all steps, and the results that they will fill."""

    study: Study
    graph: Graph = field(default_factory=Graph)
    cells: list[Cell] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    removals: list[RemovalTest] = field(default_factory=list)
    mined: dict[str, Output] = field(default_factory=dict)
    dims: dict[str, int | str] = field(default_factory=dict)
    combined: dict[str, Output] = field(default_factory=dict)
    pulls: Output | None = None
    content: Content = field(default_factory=lambda: functools.cache(content_hash))


def plan_study(study: Study) -> Plan:
    """Returns every step of a study and of its ablations; what they share is there once.

    Raises:
        ConfigError: settings that do not fit together.
    """
    plan = Plan(study=study)
    main = _Planner(study, plan, None)
    plan.pulls = main.pulls()
    plan.cells += main.cells(study.downstream)
    if study.compare_adapters:
        plan.comparisons.append(main.comparison())
    plan.removals += main.removals()
    for name, ablation in study.ablations.items():
        for value in ablation.values:
            changed = replaced(dataclasses.replace(study, ablations={}), ablation.setting, value)
            planner = _Planner(changed, plan, Variant(ablation=name, setting=ablation.setting, value=value))
            tasks = {
                task: dataclasses.replace(changed.downstream[task], methods=ablation.methods)
                for task in (ablation.downstream or changed.downstream)
            }
            if ablation.methods:
                plan.cells += planner.cells(tasks)
            # once more where the setting has to do with adapters
            if study.compare_adapters and (found := planner.comparison()).overlap != plan.comparisons[0].overlap:
                plan.comparisons.append(found)
    return plan


class _Planner:
    """Adds the steps of one variant of a study to a plan."""

    def __init__(self, study: Study, plan: Plan, variant: Variant | None) -> None:
        self.study, self.plan, self.variant = study, plan, variant
        self.layers = tuple(study.mining.layers)

    def _add(self, kind: str, name: str, spec: Any, work: float = 1.0, *, draw: int | None = None) -> Output:
        drawn = "" if draw in (None, self.study.seeds[0]) else f" draw={draw}"
        variant = f" ({self.variant.label})" if self.variant else ""
        name = f"{kind} {f'{name}{drawn}{variant}'.strip()}"
        settings = dataclasses.asdict(spec)
        code = code_version(KINDS[kind].function.__module__, *class_paths(settings))
        named = named_inputs(settings, self.plan.content)
        return self.plan.graph.add(Step(kind=kind, name=name, spec=spec, code=code, named=named, work=work))

    def _dim(self, dim: int | str | None) -> int | str:
        return self.study.mining.dim if dim is None else dim

    # gradients of sets of scenes

    def pulls(self) -> Output | None:
        """The gradient test, if it is wanted."""
        wanted = self.study.gradient_test
        if wanted is None:
            return None
        groups = []
        for kind in wanted.kinds(self.study.attributes):
            sets = wanted.placebo if kind.attribute == PLACEBO else wanted.partitions
            scenes = (with_arguments(self.study.adapters.data, **kind.arguments(number)) for number in range(sets))
            data = tuple(_training_data(each, wanted.scenes, 0) for each in scenes)
            spec = Pull(backbone=self.study.backbone, task=self.study.adapters.task, data=data, targets=wanted.targets)
            step = self._add("pull", f"{kind.label} dose={kind.dose:g}", spec, work=sets * wanted.scenes)
            groups.append(PulledSets(of=kind, sets=sets, pull=step))
        return self._add("compare_pulls", "of sets of scenes", ComparePulls(groups=tuple(groups)))

    # adapters and subspaces

    def fits(self, attributes: Iterable[str], draw: int) -> tuple[FittedAdapter, ...]:
        """Returns the adapters of attributes; where an attribute's are fitted together, all of them are of one step."""
        settings, count, found = self.study.adapters, self.study.partitions, []
        for attribute in attributes:
            if settings.together:
                bank = {**with_arguments(settings.adapter, count=count), "class_path": "LoRABank"}
                members = [self._scenes(attribute, partition, draw) for partition in range(count)]
                data = {"class_path": "SceneBank", "init_args": {"members": members}}
                work = settings.steps * count
                fits = [self._add_fit(attribute, bank, settings.learning_rate, data, draw, work)] * count
            else:
                fits = [self._fit(attribute, partition, draw) for partition in range(count)]
            for number, fit in enumerate(fits):
                found.append(FittedAdapter(attribute=attribute, partition=number, fit=fit, member=settings.together))
        return tuple(found)

    def _fit(self, attribute: str, partition: int, draw: int) -> Output:
        settings = self.study.adapters
        data = self._scenes(attribute, partition, draw)
        adapter, learning_rate = settings.of_partition(partition)
        return self._add_fit(f"{attribute} {partition}", adapter, learning_rate, data, draw, work=settings.steps)

    def _scenes(self, attribute: str, partition: int, draw: int) -> ClassSettings:
        if self.study.adapters.placebo:
            label = [*self.study.attributes, attribute].index(attribute)
            attribute, partition = "all", label * self.study.partitions + partition
        data = with_arguments(self.study.adapters.data, attribute=attribute, partition=partition)
        more = _SEEDS_PER_DRAW * draw + (partition if self.study.adapters.separate_seeds else 0)
        return with_arguments(data, seed=data["init_args"].get("seed", 0) + more) if more else data

    def _add_fit(
        self, name: str, adapter: ClassSettings, learning_rate: float, data: ClassSettings, draw: int, work: float
    ) -> Output:
        settings, chosen = self.study.adapters, (AdapterChoice(settings=adapter),)
        training = self._training(settings, chosen, adamw(), data, settings.seed + draw)
        if settings.until_flat:
            training = dataclasses.replace(training, trainer=settings.until_flat.trainer(training.trainer))
        return self._add("fit", name, Fit(training=training, learning_rate=learning_rate), work, draw=draw)

    def comparison(self) -> Comparison:
        """Attributes against each other and against themselves."""
        mining, draw = self.study.mining, self.study.seeds[0]
        adapters = self.fits(self.study.attributes, draw)
        spec = Compare(adapters=adapters, layers=self.layers, dim=mining.overlap_dim, alpha=mining.alpha)
        overlap = self._add("overlap", "of attributes", dataclasses.replace(spec, draws=mining.overlap_draws))
        explain = self._add("explain", "held-out adapters", spec) if self.study.partitions >= 4 else None
        return Comparison(variant=self.variant, overlap=overlap, explain=explain)

    def _mine(self, attribute: str, dim: int | str | None, draw: int) -> Output:
        adapters, dim = self.fits([attribute], draw), self._dim(dim)
        options = {name: getattr(self.study.mining, name) for name in ("alpha", "eps", "normalize", "null_draws")}
        spec = Mine(attribute=attribute, adapters=adapters, layers=self.layers, dim=dim, **options)
        found = self._add("mine", f"{attribute} dim={dim}", spec, draw=draw)
        if self.variant is None and draw == self.study.seeds[0]:
            self.plan.mined.setdefault(attribute, found)
        return found

    def basis(self, name: str, draw: int) -> Output:
        """Returns the step that makes one of the study's bases; ``dims`` has the dimensions that it will have."""
        wanted = self.study.bases[name]
        attributes = tuple(wanted.attributes or self.study.attributes)
        if isinstance(wanted, GradientBasis):
            found = self._model_basis(name, wanted, attributes, draw)
            self.plan.dims[found.key] = f"budget={wanted.budget}" if wanted.budget else wanted.dim or 16
        elif isinstance(wanted, MeanBasis):
            spec = Mean(adapters=self.fits(attributes, draw), layers=self.layers, dim=wanted.dim)
            found = self._add("mean", name, spec, draw=draw)
            self.plan.dims[found.key] = wanted.dim
        else:
            found = self._combined(name, wanted, attributes, draw)
            dim = self._dim(wanted.dim)
            self.plan.dims[found.key] = dim * len(attributes) if isinstance(dim, int) else dim
        if draw == self.study.seeds[0] and self.variant is None:
            self.plan.combined[name] = found
        return found

    def _model_basis(self, name: str, wanted: GradientBasis, attributes: tuple[str, ...], draw: int) -> Output:
        sets = {}
        for attribute in attributes:
            scenes = (self._scenes(attribute, partition, draw) for partition in range(wanted.partitions))
            sets[attribute] = tuple(_training_data(each, wanted.scenes, draw) for each in scenes)
        if wanted.part == "specific" and isinstance(wanted.dim, int) and wanted.dim % len(attributes):
            raise ConfigError(f"bases.{name}: {wanted.dim} dimensions cannot be shared by {len(attributes)} attributes")
        spec = ModelBasis(backbone=self.study.backbone, task=self.study.adapters.task, data=sets, basis=wanted)
        work = wanted.scenes * wanted.partitions * len(attributes)
        return self._add("gradients", name, spec, work, draw=draw)

    def _combined(self, name: str, wanted: Basis, attributes: tuple[str, ...], draw: int) -> Output:
        spec = Combine(attributes=attributes, part=wanted.part, tolerance=wanted.tolerance, scaled=wanted.scaled)
        if wanted.part == "raw":
            spec = dataclasses.replace(spec, mined={each: self._mine(each, wanted.dim, draw) for each in attributes})
        else:
            adapters, dim = self.fits(attributes, draw), self._dim(wanted.dim)
            settings = Split(adapters=adapters, layers=self.layers, dim=dim, alpha=self.study.mining.alpha)
            split = self._add("split", f"{'+'.join(attributes)} dim={dim}", settings, draw=draw)
            spec = dataclasses.replace(spec, split=split)
        return self._add("combine", name, spec, draw=draw)

    def removals(self) -> Iterator[RemovalTest]:
        """The causal test, if it is wanted."""
        wanted, draw, seed = self.study.removal, self.study.seeds[0], self.study.adapters.seed
        if wanted is None:
            return
        subspaces = {name: self._mine(name, wanted.dim, draw) for name in self.study.attributes}
        for attribute in self.study.attributes:
            scoring = Scoring(data=self._scenes(attribute, wanted.partition, draw), trainer=self.study.trainer)
            as_it_is = dataclasses.replace(scoring, task=self.study.adapters.task, backbone=self.study.backbone)
            without = self._add("test", f"{attribute} without adapter", as_it_is)
            fit = self._fit(attribute, wanted.partition, draw)
            whole = self._add("test", f"{attribute} whole", dataclasses.replace(scoring, checkpoint=fit))
            remove = self._add("remove", f"from {attribute}", Remove(adapter=fit, subspaces=subspaces, seed=seed))
            rests = {}
            for removed in (*subspaces, RANDOM):
                rest = dataclasses.replace(scoring, checkpoint=remove, part=removed)
                rests[removed] = self._add("test", f"{attribute} without {removed}", rest)
            yield RemovalTest(attribute=attribute, without_adapter=without, whole=whole, remove=remove, rests=rests)

    # fine-tuning

    def cells(self, downstream: dict[str, Downstream]) -> Iterator[Cell]:
        """Every result of some tasks; adds the steps on the way."""
        for name, task in downstream.items():
            spec = Scoring(data=task.data, trainer=self.study.trainer, task=task.task, backbone=self.study.backbone)
            none = list(self._tests(name, "zero-shot", self.study.zero_shot, spec))
            yield from none
            yield from self._tests(name, "plane", "plane", dataclasses.replace(spec, backbone=_PLANE))
            arms = [arm for arm in self.study.arms() if task.methods is None or arm.method in task.methods]
            yield from self._mean_cells(name, task) if arms else ()
            for arm in arms:
                yield from self._arm_cells(name, task, arm, none[0].step)

    def _tests(self, name: str, row: RowKind, what: str, spec: Scoring, **more: Any) -> Iterator[Cell]:
        """Tests of one model on every set of a task, its own one first."""
        task = self.study.downstream[name]
        for test, data in {"": task.data, **task.tests}.items():
            step = self._add("test", f"{name} {what} {test}", dataclasses.replace(spec, data=data))
            yield Cell(downstream=name, row=row, test=test, step=step, variant=self.variant, **more)

    def _mean_cells(self, name: str, task: Downstream) -> Iterator[Cell]:
        for scenes, seed in itertools.product(task.scenes, self.study.seeds):
            what = f"scenes={'all' if scenes is None else scenes} seed={seed}"
            data = _training_data(task.data, scenes, seed)
            made = self._add("constant", f"{name} {what}", MeanScene(task=task.task, data=data))
            spec = Scoring(data=task.data, trainer=self.study.trainer, task=task.task, constant=made)
            yield from self._tests(name, "mean", f"mean {what}", spec, scenes=scenes, seed=seed)

    def _arm_cells(self, name: str, task: Downstream, arm: Arm, zero_shot: Output) -> Iterator[Cell]:
        select = self._select(name, task, arm)
        for scenes, seed in itertools.product(task.scenes, self.study.seeds):
            what = f"{arm.label} scenes={'all' if scenes is None else scenes} seed={seed}"
            draw = seed if self.study.basis_draws == "per_seed" else self.study.seeds[0]
            training = self._arm_training(task, arm, scenes, seed, draw)
            # the same data scored without fine-tuning: before the first step nothing may differ
            spec = FineTune(training=training, rate=select, zero_shot=zero_shot, validation_set=task.validation_set)
            finetune = self._add("finetune", f"{name} {what}", spec, task.steps)
            scoring = Scoring(data=task.data, trainer=self.study.trainer, checkpoint=finetune)
            of: dict[str, Any] = {"arm": arm, "finetune": finetune, "select": select, "scenes": scenes, "seed": seed}
            yield from self._tests(name, "method", what, scoring, **of)

    def _select(self, name: str, task: Downstream, arm: Arm) -> Output:
        """Fits with every rate of the grid and every tuning seed, and the choice, on validation data alone."""
        seeds, trials = self.study.tuning_seeds, []
        for rate, seed in itertools.product(arm.learning_rates, seeds):
            training = self._arm_training(task, arm, task.scenes[0], seed, self.study.seeds[0])
            shown = f"{name} {arm.label} rate={rate:g}" + (f" seed={seed}" if seed != seeds[0] else "")
            trial = self._add("lr_trial", shown, Fit(training=training, learning_rate=rate), task.steps)
            trials.append(RateTrial(learning_rate=rate, seed=seed, trial=trial))
        select = SelectRate(trials=tuple(trials), metric=f"val/{task.metric}", larger_is_better=task.larger_is_better)
        return self._add("select_lr", f"the rate of {name} {arm.label}", select)

    def _arm_training(self, task: Downstream, arm: Arm, scenes: int | None, seed: int, draw: int) -> Training:
        adapters = tuple(
            AdapterChoice(
                settings=drawn_again(settings, draw),
                basis=self._named_basis(settings, "basis", draw),
                start=self._named_basis(settings, "init_from", draw),
            )
            for settings in arm.adapters
        )
        return self._training(task, adapters, arm.optimizer, _training_data(task.data, scenes, seed), seed)

    def _training(
        self, of: Trained, adapters: tuple[AdapterChoice, ...], optimizer: ClassSettings, data: ClassSettings, seed: int
    ) -> Training:
        return Training(
            backbone=self.study.backbone,
            task=of.task,
            adapters=adapters,
            optimizer=optimizer,
            data=data,
            steps=of.steps,
            seed=seed,
            trainer=self.study.trainer,
        )

    def _named_basis(self, settings: ClassSettings, argument: str, draw: int) -> Output | None:
        """The step that makes the basis whose name an adapter's argument is; None where it is none."""
        name = settings.get("init_args", {}).get(argument)
        return self.basis(name, draw) if isinstance(name, str) and name in self.study.bases else None


def _training_data(data: ClassSettings, scenes: int | None, seed: int) -> ClassSettings:
    """The data module that hands out the same first scenes, in the same order, to every method."""
    return {
        "class_path": "lorasub.study.TrainingScenes",
        "init_args": {"data": data, "scenes": scenes, "seed": seed},
    }

"""The settings of a study: the content of its YAML file as frozen dataclasses.

Whatever Lightning's command line builds by ``class_path`` (backbone, tasks, data, adapters) has the same form here as
in a config of ``lorasub fit``, and is handed on to it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lorasub.console import meant
from lorasub.errors import ConfigError
from lorasub.study.adapter_specs import AdapterFits, ClassSettings, adamw, class_name, geometry_task, with_arguments
from lorasub.study.basis_specs import AnyBasis, Spec, at_least
from lorasub.study.gradient_specs import GradientTest

#: Adapters with frozen random matrices, which their argument ``seed`` draws.
RANDOM_BASES = ("RandomBasis", "VeRA")


@dataclass(frozen=True, kw_only=True)
class Mining(Spec):
    """Options of :func:`lorasub.subspaces.mine_updates` and of the comparison of attributes.

    Attributes:
        dim: dimensions of each attribute's subspace, or a rule such as ``energy:0.9``.
        alpha: exponent of the robust mean.
        eps: its smoothing.
        normalize: ``none`` or ``frobenius``.
        null_draws: size of the null of the spectra; 0 for none.
        layers: patterns (``fnmatch``) of the layers that are mined.
        overlap_dim: dimensions that are compared between attributes.
        overlap_draws: random pairs behind the nulls of overlaps.
    """

    dim: int | str = 16
    alpha: float = 1.0
    eps: float = 1e-3
    normalize: Literal["none", "frobenius"] = "none"
    null_draws: int = 0
    layers: list[str] = field(default_factory=lambda: ["*"])
    overlap_dim: int = 16
    overlap_draws: int = 500

    def __post_init__(self) -> None:
        at_least("mining.overlap_dim", self.overlap_dim, 1)
        if not self.layers:
            raise ConfigError("mining.layers is empty; ['*'] mines every layer that the adapters have")


@dataclass(frozen=True, kw_only=True)
class Method(Spec):
    """A way to fine-tune, or several that differ in arguments of the first adapter.

    Attributes:
        adapter: adapters as in a config of ``lorasub fit``; none at all is the model without fine-tuning (zero-shot).
            ``basis`` and ``init_from`` may be names of the study's bases.
        sweep: argument of the first adapter -> its values; each combination is a method of its own.
        learning_rates: the grid to choose from; None for the study's.
        optimizer: ``class_path`` and ``init_args``; the learning rate is filled in.
    """

    adapter: list[ClassSettings] = field(default_factory=list)
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    learning_rates: list[float] | None = None
    optimizer: ClassSettings = field(default_factory=adamw)

    def __post_init__(self) -> None:
        if self.sweep and not self.adapter:
            raise ConfigError(f"sweep {sorted(self.sweep)} needs an adapter whose arguments it could change")
        if empty := [name for name, values in self.sweep.items() if not values]:
            raise ConfigError(f"sweep.{empty[0]} has no values")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the compared methods: a :class:`Method` with one choice of its sweep.

    Attributes:
        method: the name in the study's file.
        values: argument -> value of the sweep.
        adapters: with these arguments.
        learning_rates: the grid.
        optimizer: without learning rate.
    """

    method: str
    values: dict[str, Any]
    adapters: list[ClassSettings]
    learning_rates: list[float]
    optimizer: ClassSettings

    @property
    def label(self) -> str:
        """For people: ``lora r=4``."""
        return " ".join([self.method, *(f"{name}={value}" for name, value in self.values.items())])


@dataclass(frozen=True, kw_only=True)
class Downstream(Spec):
    """Task that methods are compared on.

    Attributes:
        data: to fine-tune on. Its validation set chooses the learning rates; it must not be among the tests.
        task: the LightningModule; backbone, adapter and optimiser are filled in.
        tests: name -> data whose test sets are scored.
        validation_set: name of the test set of ``data`` that is its validation set: the first one, called ``test``, for
            every data module of lorasub.
        steps: optimiser steps of each fine-tuning.
        scenes: numbers of training scenes; null for all. The first one is used to choose learning rates.
        metric: the outcome: it chooses learning rates, and the report is about it.
        larger_is_better: of ``metric``.
        methods: names of those that are compared here; None for all.
        pooled: test sets, by the names that the report gives them, over which methods are also compared as a whole.
    """

    data: ClassSettings
    task: ClassSettings = field(default_factory=geometry_task)
    tests: dict[str, ClassSettings] = field(default_factory=dict)
    validation_set: str = "test"
    steps: int = 200
    scenes: list[int | None] = field(default_factory=lambda: [None])
    metric: str = "abs_rel"
    larger_is_better: bool = False
    methods: list[str] | None = None
    pooled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        at_least("downstream steps", self.steps, 1)
        if not self.scenes:
            raise ConfigError("downstream scenes is empty; [null] takes all training scenes")
        for count in self.scenes:
            at_least("downstream scenes", 1 if count is None else count, 1)


@dataclass(frozen=True, kw_only=True)
class Primary(Spec):
    """The comparison that the study is run for, fixed before it is run.

    Attributes:
        downstream: the task.
        method: what is compared, by its label in the report, such as ``mined basis=mined_16``.
        reference: what it is held against, likewise.
        dimension: D of the method's basis.
        outcome: result that decides; the task's ``metric``.
        scenes: number of training scenes; null for all.
    """

    downstream: str
    method: str
    reference: str
    dimension: int
    outcome: str
    scenes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Removal(Spec):
    """Whether an adapter loses more without its own attribute's subspace than without others (a causal test).

    For each attribute one more adapter is fitted, on a partition that nothing was mined from. Its own attribute's
    subspace, every other attribute's, and a random one are taken out of it on both sides, each in part, so that all
    take away the same energy (squared norm). It is tested on scenes of its own attribute.

    Attributes:
        partition: that nothing was mined from.
        dim: dimensions of the subspaces; None for those of ``mining``.
        result: what is measured; smaller is better.
        least_gain: smallest relative gain of the whole adapter over none at which the test means anything.
    """

    partition: int = 1000
    dim: int | str | None = None
    result: str = "abs_rel"
    least_gain: float = 0.2


@dataclass(frozen=True, kw_only=True)
class Ablation(Spec):
    """The study again with one setting changed; whatever does not depend on it is shared.

    Attributes:
        setting: path in the study's YAML, such as ``mining.alpha``, ``partitions`` or ``bases.combined.dim``.
        values: to put there.
        methods: names of the methods that are run with each.
        downstream: names of the tasks; None for all.
    """

    setting: str
    values: list[Any]
    methods: list[str]
    downstream: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Study(Spec):
    """A whole study. ``docs/study.md`` explains it with an example.

    Attributes:
        name: of its report.
        backbone: the model, the same in every step.
        downstream: name -> task.
        methods: name -> way to fine-tune; one of them must have no adapter.
        folder: where studies are kept; their steps are shared.
        attributes: each gets ``partitions`` adapters, a subspace, and a place in the overlaps.
        partitions: k, adapters of each attribute.
        adapters: how they are fitted.
        compare_adapters: fit them all and compare attributes by them, whether a basis needs them or not.
        gradient_test: whether attributes pull the base model in directions of their own; None for none.
        mining: how subspaces are found and compared.
        bases: name -> what is combined.
        basis_draws: ``per_seed``: adapters, their scenes and random bases are drawn again with every seed, so that
            intervals have the basis's own spread. ``once``: all seeds share those of the first, and the report says so.
        learning_rates: grid from which each method's rate is chosen on validation data.
        primary: the comparison that was fixed before the run; None for a study that explores.
        references: labels of further methods, also of the one without adapters, that all others are held against.
        tuning_seeds: of the fits that choose learning rates, by the mean over them; none of these fits is reported.
        seeds: of the fits that are reported; at least 3 for figures that are worth publishing.
        trainer: Lightning's settings for all fits and tests.
        ablations: name -> the study again with one setting changed.
        removal: the causal test; None for none.
        budget_hours: no step is begun after so many hours of running; None for no limit.
    """

    name: str
    backbone: ClassSettings
    downstream: dict[str, Downstream]
    methods: dict[str, Method]
    folder: str = "runs/study"
    attributes: list[str] = field(default_factory=lambda: ["geometry", "texture", "camera", "lighting"])
    partitions: int = 4
    adapters: AdapterFits = field(default_factory=AdapterFits)
    compare_adapters: bool = True
    gradient_test: GradientTest | None = None
    mining: Mining = field(default_factory=Mining)
    bases: dict[str, AnyBasis] = field(default_factory=dict)
    basis_draws: Literal["per_seed", "once"] = "per_seed"
    learning_rates: list[float] = field(default_factory=lambda: [1e-4, 1e-3, 1e-2])
    primary: Primary | None = None
    references: list[str] = field(default_factory=list)
    tuning_seeds: list[int] = field(default_factory=lambda: [1000])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    trainer: dict[str, Any] = field(default_factory=dict)
    ablations: dict[str, Ablation] = field(default_factory=dict)
    removal: Removal | None = None
    budget_hours: float | None = None

    def __post_init__(self) -> None:
        at_least("partitions", self.partitions, 2)
        for name in ("attributes", "seeds", "tuning_seeds"):
            values: list[Any] = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{name} must be a list of different values, not {values}")
        if shared := set(self.tuning_seeds) & set(self.seeds):
            raise ConfigError(
                f"{min(shared)} is among both tuning_seeds {self.tuning_seeds} and seeds {self.seeds}: a rate would be "
                "chosen on a fit that is reported"
            )
        if all(method.adapter for method in self.methods.values()):
            raise ConfigError("no method is without adapters: add `none: {}`, the zero-shot model of every table")
        for arm in self.arms():
            if not (arm.learning_rates and all(rate > 0 for rate in arm.learning_rates)):
                raise ConfigError(f"method '{arm.method}' needs learning rates above 0, not {arm.learning_rates}")
        self._check_names()

    def arms(self) -> Iterator[Arm]:
        """Everything that is fine-tuned, sweeps written out."""
        for name, method in self.methods.items():
            rates = self.learning_rates if method.learning_rates is None else method.learning_rates
            for chosen in itertools.product(*method.sweep.values()) if method.adapter else ():
                values = dict(zip(method.sweep, chosen, strict=True))
                adapters = [with_arguments(method.adapter[0], **values), *method.adapter[1:]]
                yield Arm(
                    method=name, values=values, adapters=adapters, learning_rates=rates, optimizer=method.optimizer
                )

    @property
    def zero_shot(self) -> str:
        """Name of the method without adapters."""
        return next(name for name, method in self.methods.items() if not method.adapter)

    def _check_names(self) -> None:
        labels = [arm.label for arm in self.arms()]
        _known("references", self.references, [*labels, self.zero_shot])
        for name, task in self.downstream.items():
            _known(f"downstream.{name}.methods", task.methods, self.methods)
        if (primary := self.primary) is not None:
            _known("primary.downstream", [primary.downstream], self.downstream)
            _known("primary.method", [primary.method], labels)
            _known("primary.reference", [primary.reference], labels)
            _known("primary.outcome", [primary.outcome], [self.downstream[primary.downstream].metric])
            _known("primary.scenes", [primary.scenes], self.downstream[primary.downstream].scenes)
        for name, ablation in self.ablations.items():
            _known(f"ablations.{name}.methods", ablation.methods, self.methods)
            _known(f"ablations.{name}.downstream", ablation.downstream, self.downstream)
            for value in ablation.values:
                replaced(dataclasses.replace(self, ablations={}), ablation.setting, value)


def replaced(settings: Any, path: str, value: Any) -> Any:
    """Returns a copy of settings with one value changed.

    Args:
        settings: a dataclass, or a mapping below one.
        path: names with dots between.
        value: the new value.

    Raises:
        ConfigError: there is nothing of that name.
    """
    name, _, rest = path.partition(".")
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        _known("the path of a setting", [name], [item.name for item in dataclasses.fields(settings)])
        new = replaced(getattr(settings, name), rest, value) if rest else value
        return dataclasses.replace(settings, **{name: new})
    if isinstance(settings, Mapping) and name == "init_args" and rest and "." not in rest:
        # arguments that are not given have defaults, which only their class knows
        return {**settings, name: {**settings.get(name, {}), rest: value}}
    if isinstance(settings, Mapping) and name in settings:
        return {**settings, name: replaced(settings[name], rest, value) if rest else value}
    raise ConfigError(f"there is no setting '{path}' to change")


def drawn_again(adapter: ClassSettings, draw: int) -> ClassSettings:
    """Returns an adapter whose random basis, if it has one, is that of a draw; a seed that was given stays."""
    if class_name(adapter) not in RANDOM_BASES or "seed" in adapter.get("init_args", {}):
        return adapter
    return with_arguments(adapter, seed=draw)


def _known(what: str, names: Iterable[Any] | None, known: Collection[Any]) -> None:
    for name in names or ():
        if name not in known:
            hint = meant(str(name), map(str, known), "; there are")
            raise ConfigError(f"{what}: there is no setting or method '{name}'{hint}")

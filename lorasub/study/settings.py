"""What a study consists of: the content of its YAML file, as dataclasses.

Whatever Lightning's command line builds by ``class_path`` (backbone, tasks, data, adapters) stands here in the same
form as in a config of ``lorasub fit``, and is handed on to it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from lorasub.errors import ConfigError

#: ``class_path`` and ``init_args``, as in a config of ``lorasub fit``.
ClassSettings = dict[str, Any]
#: Which part of the attributes' subspaces a basis is combined from.
Part = Literal["raw", "specific", "common+specific"]

_Settings = TypeVar("_Settings")


@dataclass(frozen=True, kw_only=True)
class AdapterFits:
    """How the adapters are fitted that subspaces are mined from.

    Attributes:
        task: the LightningModule; backbone, adapter and optimiser are filled in.
        adapter: what is fitted.
        data: synthetic scenes; attribute and partition are filled in.
        learning_rate: of all of them.
        steps: optimiser steps of each.
        seed: mixed with attribute and partition, so that no two adapters start alike.
        separate_seeds: add the partition's number to the data's ``seed``, so that partitions have no scenes in common.
            Those of design ``across`` have the same ones but for the attribute otherwise, and adapters of one attribute
            agree for that reason alone.
        together: fit all adapters of an attribute at once, as a :class:`~lorasub.LoRABank`: the same adapters to float
            tolerance, in one step of the study. ``adapter`` must then be a LoRA of Linear layers.
    """

    task: ClassSettings = field(default_factory=lambda: {"class_path": "GeometryTask"})
    adapter: ClassSettings = field(
        default_factory=lambda: {"class_path": "LoRA", "init_args": {"r": 16, "targets": "blocks"}}
    )
    data: ClassSettings = field(default_factory=lambda: {"class_path": "SyntheticScenes"})
    learning_rate: float = 1e-3
    steps: int = 300
    seed: int = 0
    separate_seeds: bool = False
    together: bool = False

    def __post_init__(self) -> None:
        _at_least("adapters.steps", self.steps, 1)
        _above_zero("adapters.learning_rate", self.learning_rate)
        kind = str(self.adapter.get("class_path"))
        if self.together and kind.rpartition(".")[2] != "LoRA":
            raise ConfigError(f"adapters.together fits LoRA adapters only, not {kind}")


@dataclass(frozen=True, kw_only=True)
class Mining:
    """Options of :func:`lorasub.subspaces.mine_subspace`, which explains them; and of the overlaps.

    Attributes:
        dim: dimensions of each attribute's subspace, or a rule.
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
        _at_least("mining.overlap_dim", self.overlap_dim, 1)
        if not self.layers:
            raise ConfigError("mining.layers is empty; ['*'] mines every layer that the adapters have")


@dataclass(frozen=True, kw_only=True)
class Basis:
    """A basis that methods may train in: attributes' subspaces, combined.

    Attributes:
        attributes: whose subspaces; None for all of the study's. Others, such as ``all``, are fitted for it.
        dim: dimensions that each attribute brings; None for those of ``mining``.
        part: ``raw`` subspaces; the ``specific`` ones, without what all attributes share; or those and the shared one.
        tolerance: see :func:`lorasub.subspaces.combine_subspaces`.
        scaled: likewise.
    """

    attributes: list[str] | None = None
    dim: int | str | None = None
    part: Part = "raw"
    tolerance: float = 1e-3
    scaled: bool = False

    def __post_init__(self) -> None:
        if self.attributes is not None and not self.attributes:
            raise ConfigError("a basis needs at least one attribute")
        if self.part != "raw" and self.attributes is not None and len(self.attributes) < 2:
            raise ConfigError(f"part '{self.part}' needs at least two attributes that could share something")


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to fine-tune.

    Attributes:
        adapter: adapters as in a config of ``lorasub fit``; none at all is the model without fine-tuning. The ``basis``
            of a ``ProjectedLoRA`` is the name of one of the study's bases.
        sweep: argument of the first adapter -> its values; each combination is a method of its own.
        learning_rates: the grid to choose from; None for the study's.
        optimizer: ``class_path`` and ``init_args``; the learning rate is filled in.
    """

    adapter: list[ClassSettings] = field(default_factory=list)
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    learning_rates: list[float] | None = None
    optimizer: ClassSettings = field(
        default_factory=lambda: {"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.05}}
    )

    def __post_init__(self) -> None:
        if self.sweep and not self.adapter:
            raise ConfigError(f"sweep {sorted(self.sweep)} needs an adapter whose arguments it could change")
        for name, values in self.sweep.items():
            if not values:
                raise ConfigError(f"sweep.{name} has no values")


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """What methods are compared on.

    Attributes:
        task: the LightningModule; backbone, adapter and optimiser are filled in.
        data: to fine-tune on. Its validation set chooses the learning rates; it must not be among the tests.
        tests: name -> data whose test sets are scored.
        validation_set: name of the test set of ``data`` that is its validation set. For every data module of lorasub
            it is the first one, called ``test``.
        steps: optimiser steps of each fine-tuning.
        scenes: numbers of training scenes to compare at; null for all. The first one is used to choose learning rates.
        metric: result that chooses learning rates and that the report shows first.
        larger_is_better: of ``metric``.
        methods: names of those that are compared here; None for all.
        pooled: test sets, by the names that the report gives them, over which methods are also compared as a whole:
            other rooms, say, each with too few scenes to decide anything alone.
    """

    data: ClassSettings
    task: ClassSettings = field(default_factory=lambda: {"class_path": "GeometryTask"})
    tests: dict[str, ClassSettings] = field(default_factory=dict)
    validation_set: str = "test"
    steps: int = 200
    scenes: list[int | None] = field(default_factory=lambda: [None])
    metric: str = "abs_rel"
    larger_is_better: bool = False
    methods: list[str] | None = None
    pooled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _at_least("downstream steps", self.steps, 1)
        if not self.scenes:
            raise ConfigError("downstream scenes is empty; [null] takes all training scenes")
        for count in self.scenes:
            _at_least("downstream scenes", 1 if count is None else count, 1)


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What does a model lose without one attribute's subspace?

    An adapter is fitted to scenes in which everything varies. Each attribute's subspace is taken out of its update on
    both sides (:func:`lorasub.subspaces.project_out`), as is, for a control, a random one of the same dimensions; what
    remains is tested on scenes in which one attribute varies. If a subspace is what an attribute needs, its removal
    hurts that attribute's scenes most.

    Attributes:
        attribute: what varies in the scenes that the adapter is fitted to.
        partition: of that attribute, and of those that are tested on: best one that nothing was mined from.
        dim: dimensions of the subspaces; None for those of ``mining``.
        results: names of the results that the report shows.
    """

    attribute: str = "all"
    partition: int = 1000
    dim: int | str | None = None
    results: list[str] = field(default_factory=lambda: ["abs_rel", "rotation_deg"])


@dataclass(frozen=True, kw_only=True)
class Ablation:
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
class Study:
    """A whole study. ``docs/study.md`` explains it with an example.

    Attributes:
        name: of its folder.
        backbone: the model, the same in every step.
        downstream: name -> task.
        methods: name -> way to fine-tune; one of them must have no adapter: the model without fine-tuning.
        folder: where studies are kept; their steps are shared.
        attributes: each gets ``partitions`` adapters, a subspace, and a place in the overlaps.
        partitions: k, adapters of each attribute.
        adapters: how they are fitted.
        mining: how subspaces are found and compared.
        bases: name -> what is combined.
        learning_rates: grid from which each method's rate is chosen on validation data.
        tuning_seed: of the fits that choose it, which are not reported.
        references: names of methods that the report holds all others against, beside the model without fine-tuning;
            of a sweep with its value: ``lora r=16``.
        seeds: of the fits that are reported; at least 3 for figures that are worth publishing.
        trainer: Lightning's settings for all fits and tests.
        ablations: name -> the study again with one setting changed.
        removal: whether attributes' subspaces are taken out of an adapter to see what that does, and how.
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
    mining: Mining = field(default_factory=Mining)
    bases: dict[str, Basis] = field(default_factory=dict)
    learning_rates: list[float] = field(default_factory=lambda: [1e-4, 1e-3, 1e-2])
    references: list[str] = field(default_factory=list)
    tuning_seed: int = 1000
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    trainer: dict[str, Any] = field(default_factory=dict)
    ablations: dict[str, Ablation] = field(default_factory=dict)
    removal: Removal | None = None
    budget_hours: float | None = None

    def __post_init__(self) -> None:
        _at_least("partitions", self.partitions, 2)
        for name, values in (("attributes", self.attributes), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{name} must be a list of different values, not {values}")
        if self.tuning_seed in self.seeds:
            raise ConfigError(
                f"tuning_seed {self.tuning_seed} is among the seeds {self.seeds}: a rate would be chosen on a fit that "
                "is reported"
            )
        for name, method in self.methods.items():
            rates = self.rates(method)
            if method.adapter and not (rates and all(rate > 0 for rate in rates)):
                raise ConfigError(f"method '{name}' needs learning rates above 0, not {rates}")
        if not any(not method.adapter for method in self.methods.values()):
            raise ConfigError(
                "no method is without adapters: add `none: {}`, the model without fine-tuning that all are held against"
            )
        self._check_names()

    def rates(self, method: Method) -> list[float]:
        """The grid of a method's learning rates."""
        return self.learning_rates if method.learning_rates is None else method.learning_rates

    def _check_names(self) -> None:
        for name, task in self.downstream.items():
            _known(f"downstream.{name}.methods", task.methods, self.methods)
        for name, ablation in self.ablations.items():
            _known(f"ablations.{name}.methods", ablation.methods, self.methods)
            _known(f"ablations.{name}.downstream", ablation.downstream, self.downstream)
            for value in ablation.values:
                replaced(self, ablation.setting, value, check=False)


def replaced(settings: _Settings, path: str, value: Any, *, check: bool = True) -> _Settings:
    """A copy of settings with one value changed.

    Args:
        settings: a dataclass, or a mapping or list below one.
        path: names with dots between.
        value: the new value.
        check: whether the result is looked at as a whole, as when it is read from a file.

    Raises:
        ConfigError: there is nothing of that name.
    """
    name, _, rest = path.partition(".")
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        if name not in {item.name for item in dataclasses.fields(settings)}:
            raise ConfigError(f"there is no setting '{name}' in {type(settings).__name__}")
        new = replaced(getattr(settings, name), rest, value) if rest else value
        if not check:
            return settings
        copy: Any = dataclasses.replace(settings, **{name: new})
        return copy  # type: ignore[no-any-return]
    if isinstance(settings, Mapping) and name == "init_args" and rest and "." not in rest:
        # arguments that are not given have defaults, which only their class knows
        given: Any = {**settings, name: {**settings.get(name, {}), rest: value}}
        return given  # type: ignore[no-any-return]
    if isinstance(settings, Mapping) and name in settings:
        changed: Any = {**settings, name: replaced(settings[name], rest, value) if rest else value}
        return changed  # type: ignore[no-any-return]
    raise ConfigError(f"there is no setting '{path}' to change")


def _known(what: str, names: list[str] | None, known: Mapping[str, Any]) -> None:
    if missing := [name for name in names or [] if name not in known]:
        raise ConfigError(f"{what} names '{missing[0]}'; there are {', '.join(known)}")


def _at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} must be above 0, not {value!r}")

"""The steps that fit or test: each runs ``lorasub fit`` or ``test`` with a config that is left in its folder."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from lorasub.adapters.mining import adapter_folder
from lorasub.errors import ArtefactError, NumericalError
from lorasub.files import read_json, write_json
from lorasub.metrics.results import Results
from lorasub.study.adapter_specs import ClassSettings, with_arguments
from lorasub.study.artefacts import (
    BASIS,
    CHOICE_FILE,
    CONFIG_FILE,
    CONSTANT_FILE,
    COSTS_FILE,
    RECORD_FILE,
    RUN,
    Output,
    Workplace,
)

#: Largest relative difference between the first validation of a fit and the test of the model without fine-tuning:
#: the same arithmetic but for the order of sums, through a deep network.
STEP_ZERO_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class AdapterChoice:
    """An adapter to inject, and the steps that made its basis and its start, if it has them."""

    settings: ClassSettings
    basis: Output | None = None
    start: Output | None = None

    def resolved(self, place: Workplace) -> ClassSettings:
        """Returns the settings with the folders that those steps have made."""
        made = {"basis": self.basis, "init_from": self.start}
        return with_arguments(self.settings, **{name: str(place.of(it) / BASIS) for name, it in made.items() if it})

    @property
    def changes_nothing_at_first(self) -> bool:
        """Whether the model is the base model until the first step."""
        return not self.settings.get("init_args", {}).get("init_from")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything about a fit but its learning rate."""

    backbone: ClassSettings
    task: ClassSettings
    adapters: tuple[AdapterChoice, ...]
    optimizer: ClassSettings
    data: ClassSettings
    steps: int
    seed: int
    trainer: dict[str, Any] = field(default_factory=dict)

    def config(self, learning_rate: float, place: Workplace) -> dict[str, Any]:
        """Returns a config of ``lorasub fit``."""
        adapters = [each.resolved(place) for each in self.adapters]
        return {
            "seed_everything": self.seed,
            "trainer": {
                "max_steps": self.steps,
                "val_check_interval": self.steps,
                "check_val_every_n_epoch": None,
                "enable_progress_bar": False,
                **self.trainer,
                "callbacks": [{"class_path": "lorasub.callbacks.FitCosts"}, *self.trainer.get("callbacks", [])],
            },
            "checkpoint": {"every_n_train_steps": self.steps, "save_last": True},
            "panels": {"scenes": 0},
            "overlap": {"references": {}},
            "model": with_arguments(
                self.task,
                backbone=self.backbone,
                adapter=adapters,
                optimizer=with_arguments(self.optimizer, lr=learning_rate),
            ),
            "data": self.data,
        }


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Settings of :func:`fit_adapter` and :func:`try_rate`."""

    training: Training
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class RateTrial:
    """A fine-tuning that tried one learning rate with one seed."""

    learning_rate: float
    seed: int
    trial: Output


@dataclass(frozen=True, kw_only=True)
class SelectRate:
    """Settings of :func:`select_rate`."""

    trials: tuple[RateTrial, ...]
    metric: str
    larger_is_better: bool = False


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Settings of :func:`finetune`: ``zero_shot`` is the test of the model without fine-tuning."""

    training: Training
    rate: Output
    zero_shot: Output
    validation_set: str = "test"


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Settings of :func:`test`.

    Attributes:
        data: to score.
        trainer: Lightning's settings.
        checkpoint: step that left one; None to score a model as it is.
        part: folder below the step's, where it left several.
        task: of a model without checkpoint.
        backbone: likewise.
        constant: step that left a model that does not look, in place of the backbone.
    """

    data: ClassSettings
    trainer: dict[str, Any] = field(default_factory=dict)
    checkpoint: Output | None = None
    part: str = ""
    task: ClassSettings | None = None
    backbone: ClassSettings | None = None
    constant: Output | None = None


class _Dumper(yaml.SafeDumper):
    """Quotes texts such as ``1824027446e19758``, a step's key, which YAML 1.2 and the command line read as numbers."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def fit_adapter(spec: Fit, place: Workplace) -> dict[str, Any]:
    """Fits an adapter to an attribute, or all of its adapters together."""
    run_verb("fit", spec.training.config(spec.learning_rate, place), place)
    members = sorted((place.folder / RUN / "adapter").glob("adapter_*/"))
    for folder in members or [place.folder / RUN]:
        adapter_folder(folder)
    return _costs(place)


def try_rate(spec: Fit, place: Workplace) -> dict[str, Any]:
    """Fine-tunes with one rate of the grid. That the loss leaves the finite numbers is a result, too."""
    try:
        run_verb("fit", spec.training.config(spec.learning_rate, place), place)
    except NumericalError as error:
        return {"diverged": str(error)}
    return _costs(place)


def select_rate(spec: SelectRate, place: Workplace) -> dict[str, Any]:
    """Chooses the rate whose fits ended best on validation data, by the mean over seeds.

    A rate that diverged with any of the seeds is out. ``choice.json`` has the mean of every rate (``tried``) and what
    it is the mean of (``by_seed``).
    """
    found: dict[float, dict[int, float]] = {}
    for each in spec.trials:
        folder = place.of(each.trial)
        measured = read_json(folder / RECORD_FILE)["measured"]
        value = None if "diverged" in measured else _validated(folder, spec.metric)["after"]
        found.setdefault(each.learning_rate, {})[each.seed] = math.nan if value is None else float(value)
    means = {rate: statistics.fmean(values.values()) for rate, values in found.items()}
    finite = {rate: mean for rate, mean in means.items() if math.isfinite(mean)}
    if not finite:
        raise NumericalError(f"no rate of {sorted(found)} ended with a finite {spec.metric}; add smaller ones")
    best = (max if spec.larger_is_better else min)(finite, key=lambda rate: finite[rate])
    # at the end of the grid a better one may lie beyond it, and a comparison would be unfair to this method
    choice = {"learning_rate": best, "at_edge": len(found) > 1 and best in (min(found), max(found))}
    write_json(place.folder / CHOICE_FILE, {**choice, "tried": means, "by_seed": found})
    return choice


def finetune(spec: FineTune, place: Workplace) -> dict[str, Any]:
    """Fine-tunes with the chosen rate, and checks that it began from the model without fine-tuning.

    Adapters with a start of their own (``init_from``) begin elsewhere; how far is in the record.
    """
    rate = float(read_json(place.of(spec.rate) / CHOICE_FILE)["learning_rate"])
    run_verb("fit", spec.training.config(rate, place), place)
    difference = _step_zero(spec, place)
    same = all(each.changes_nothing_at_first for each in spec.training.adapters)
    if same and not difference <= STEP_ZERO_TOLERANCE:
        raise ArtefactError(
            f"before its first step the fit in {place.folder} differs from the model without fine-tuning by "
            f"{difference:.2g} of a result; an adapter has to start as no change at all"
        )
    return _costs(place) | {"step_zero_difference": difference}


def test(spec: Scoring, place: Workplace) -> dict[str, Any]:
    """Scores a fine-tuned model, the model without fine-tuning, or one that does not look."""
    config: dict[str, Any] = {
        "seed_everything": 0,
        "trainer": {"enable_progress_bar": False, **spec.trainer},
        "figures": {"scenes": 0},
        "data": spec.data,
    }
    words = []
    if spec.checkpoint is not None:
        checkpoint = place.of(spec.checkpoint) / spec.part / RUN / "checkpoints" / "last.ckpt"
        words = [f"--ckpt_path={checkpoint}"]
    elif spec.task is not None:
        backbone = spec.backbone
        if spec.constant is not None:
            path = place.of(spec.constant) / CONSTANT_FILE
            backbone = {"class_path": "lorasub.ConstantGeometry.load", "init_args": {"path": str(path)}}
        config["model"] = with_arguments(spec.task, backbone=backbone)
    run_verb("test", config, place, words)
    return {"overall": {name: found.overall for name, found in Results.load(place.folder / RUN).sets.items()}}


def run_verb(
    verb: Literal["fit", "test"], config: Mapping[str, Any], place: Workplace, words: Sequence[str] = ()
) -> None:
    """Runs ``lorasub VERB --config config.yaml`` into ``run/``."""
    import lorasub.callbacks
    import lorasub.study.training_scenes
    import lorasub.training

    arguments = [*write_config(config, place), *words]
    (place.folder / "command.txt").write_text(f"lorasub {verb} {' '.join(arguments)}\n", encoding="utf-8")
    lorasub.training.run(verb, arguments)


def write_config(config: Mapping[str, Any], place: Workplace) -> list[str]:
    """Writes ``config.yaml``; returns the words of a command line that name it."""
    run = {"folder": str(place.folder.parent), "name": place.folder.name, "version": RUN}
    path = place.folder / CONFIG_FILE
    # tests are in float32 unless told otherwise; fits too, so that the first validation of one can equal a test
    trainer = {"precision": "32-true", **config.get("trainer", {})}
    text = yaml.dump({**config, "trainer": trainer, "run": run}, Dumper=_Dumper, sort_keys=False)
    path.write_text(text, encoding="utf-8")
    return ["--config", str(path)]


def _costs(place: Workplace) -> dict[str, Any]:
    """Costs of a fit, as its callback wrote them down, and the size of what it leaves."""
    costs: dict[str, Any] = read_json(place.folder / RUN / COSTS_FILE)
    files = list((place.folder / RUN / "adapter").rglob("*.safetensors"))
    return costs | {"adapter_bytes": sum(path.stat().st_size for path in files)}


def _validated(folder: Any, metric: str) -> dict[str, Any]:
    metrics: dict[str, dict[str, Any]] = read_json(folder / RUN / "before_after.json")["metrics"]
    if metric not in metrics:
        raise ArtefactError(f"{folder} validated no '{metric}'; there are {', '.join(metrics)}")
    return metrics[metric]


def _step_zero(spec: FineTune, place: Workplace) -> float:
    """The largest relative difference, over all results, of the first validation to the test without fine-tuning."""
    baseline = Results.load(place.of(spec.zero_shot) / RUN).sets[spec.validation_set].overall
    metrics: dict[str, dict[str, float | None]] = read_json(place.folder / RUN / "before_after.json")["metrics"]
    found: list[float] = []
    for name, value in baseline.items():
        before = metrics.get(f"val/{name}", {}).get("before")
        if before is not None and math.isfinite(value):
            found.append(abs(before - value) / max(abs(value), 1e-6))
    if not found:
        raise ArtefactError(f"{place.folder}: validation and test have no finite result in common: nothing to compare")
    return max(found)

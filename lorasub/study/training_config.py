"""The configs of ``lorasub fit`` and ``lorasub test`` that steps are made of."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lorasub.errors import ConfigError
from lorasub.study.settings import ClassSettings, Method, Study

#: Starts a value that is known only when the step's inputs are done.
INPUT = "input:"
#: Role of the step that has chosen a learning rate, and of the model without fine-tuning.
RATE, BASELINE = "rate", "baseline"


def with_arguments(settings: Mapping[str, Any], **arguments: Any) -> ClassSettings:
    """A copy of a ``class_path`` entry with further ``init_args``."""
    found = copy.deepcopy(dict(settings))
    if "class_path" not in found:
        raise ConfigError(f"this needs a class_path: {found}")
    return {**found, "init_args": {**found.get("init_args", {}), **arguments}}


def as_bank(adapter: ClassSettings, data: Sequence[ClassSettings]) -> tuple[ClassSettings, ClassSettings]:
    """The adapter and the data of one fit in place of one for each of ``data``."""
    bank = {**with_arguments(adapter, count=len(data)), "class_path": "LoRABank"}
    return bank, {"class_path": "SceneBank", "init_args": {"members": list(data)}}


def fit_config(
    study: Study,
    *,
    task: ClassSettings,
    adapter: Sequence[ClassSettings],
    optimizer: ClassSettings,
    learning_rate: float | str,
    data: ClassSettings,
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """A config of ``lorasub fit``, whole but for its run's folder and what inputs fill in."""
    return {
        "seed_everything": seed,
        "trainer": {
            "max_steps": steps,
            "val_check_interval": steps,
            "check_val_every_n_epoch": None,
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "lorasub.callbacks.FitCosts"}],
            **study.trainer,
        },
        "checkpoint": {"every_n_train_steps": steps, "save_last": True},
        "panels": {"scenes": 0},
        "overlap": {"references": {}},
        "model": with_arguments(
            task,
            backbone=study.backbone,
            adapter=list(adapter),
            optimizer=with_arguments(optimizer, lr=learning_rate),
        ),
        "data": data,
    }


def scoring_config(study: Study, data: ClassSettings, task: ClassSettings | None = None) -> dict[str, Any]:
    """A config of ``lorasub test``.

    Args:
        study: has the trainer's settings.
        data: to score.
        task: scores the backbone as it is; None where a checkpoint brings its own.
    """
    config: dict[str, Any] = {
        "seed_everything": 0,
        "trainer": {"enable_progress_bar": False, **study.trainer},
        "figures": {"scenes": 0},
        "data": data,
    }
    return config if task is None else {**config, "model": with_arguments(task, backbone=study.backbone)}


def training_data(data: ClassSettings, scenes: int | None, seed: int) -> ClassSettings:
    """The data module that hands out the same first scenes, in the same order, to every method."""
    return {
        "class_path": "lorasub.study.TrainingScenes",
        "init_args": {"data": copy.deepcopy(data), "scenes": scenes, "seed": seed},
    }


def swept(name: str, method: Method) -> Iterator[tuple[str, Method]]:
    """The methods that a method's sweep means, with names such as ``lora r=4``."""
    keys = list(method.sweep)
    for values in itertools.product(*method.sweep.values()):
        chosen = dict(zip(keys, values, strict=True))
        adapter = [*method.adapter]
        if chosen:
            adapter[0] = with_arguments(adapter[0], **chosen)
        words = [name, *(f"{key}={value}" for key, value in chosen.items())]
        yield " ".join(words), dataclasses.replace(method, adapter=adapter, sweep={})


def basis_names(adapters: Sequence[ClassSettings], study: Study) -> list[str]:
    """The study's bases that adapters train in."""
    return list(dict.fromkeys(name for adapter in adapters if (name := _basis_of(adapter)) in study.bases))


def with_bases(adapters: Sequence[ClassSettings], study: Study) -> list[ClassSettings]:
    """Adapters whose bases are to be filled in from inputs."""
    found = []
    for adapter in adapters:
        name = _basis_of(adapter)
        found.append(with_arguments(adapter, basis=f"{INPUT}basis {name}") if name in study.bases else adapter)
    return found


def _basis_of(adapter: ClassSettings) -> str:
    name = adapter.get("init_args", {}).get("basis")
    return name if isinstance(name, str) else ""


def resolve(config: Any, values: Mapping[str, Any]) -> Any:
    """The config with every ``input:ROLE`` replaced by the value of that role."""
    if isinstance(config, Mapping):
        return {key: resolve(value, values) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [resolve(value, values) for value in config]
    if isinstance(config, str) and config.startswith(INPUT):
        return values[config.removeprefix(INPUT)]
    return config

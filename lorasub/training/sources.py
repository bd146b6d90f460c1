"""Reads settings from the command line, from config files, and from the run whose checkpoint is named."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from lorasub.backbones.opening import preset_image_size
from lorasub.errors import ConfigError
from lorasub.packaged_configs import find_config
from lorasub.training.checkpoints import SETTINGS, CheckpointInfo, find_checkpoint, read_checkpoint, run_of
from lorasub.training.mistakes import SettingsParser
from lorasub.training.parser import BASE_MODEL, plain
from lorasub.training.run_settings import RunSettings, Verb

log = logging.getLogger("lorasub")

#: A value that a config leaves to its user.
UNSET = "???"
_CONFIG = ("--config", "-c")


@dataclass(frozen=True, slots=True)
class Sources:
    """The words of a command line, and what they lead to.

    Attributes:
        settings: all of them, in the order of strength: command line, config files, the checkpoint's own.
        checkpoint: that is resumed or scored.
        named: whether the command line says where the run goes.
    """

    settings: Namespace
    checkpoint: CheckpointInfo | None
    named: bool


def read_sources(verb: Verb, parser: SettingsParser, words: Sequence[str]) -> Sources:
    """Read the settings of a command line.

    Without a config, a fit of a checkpoint takes all settings from its run, and a test its data.

    Args:
        verb: what is to be run.
        parser: of the verb.
        words: of the command line, after the verb.

    Raises:
        ConfigError: settings are missing, unknown or of the wrong type.
        ArtefactError: the checkpoint cannot be used.
    """
    if {"-h", "--help"} & set(words):
        parser.parse_args(list(words))
    words = _with_files(words)
    configs = [value for name, value in _options(words) if name in _CONFIG]
    first = _sections_named(configs, words)
    wanted = first.get("ckpt_path")
    runs = RunSettings(**{**_defaults(verb), **(first.get("run") or {})})
    path = None if wanted is None else find_checkpoint(str(wanted), runs.versions, runs.version)
    checkpoint = None if path is None else read_checkpoint(path)
    below: dict[str, Any] = {"run": _defaults(verb)}
    if checkpoint is not None:
        below |= _settings_of_run(verb, checkpoint, with_config=bool(configs), with_data="data" in first)
    if not configs and not {"model", "data"} & {*first, *below}:
        raise ConfigError(_NOTHING[verb])
    if verb == "predict" and checkpoint is None and not configs and "model" not in first:
        below["model"] = BASE_MODEL
        log.info("no --ckpt_path and no --model: predicting with the backbone in the box, nano")
    with _config_files_in_errors(configs, words):
        settings = _parse_over(parser, below, words)
    chosen = (*(name for name, _ in _options(words)), str(first.get("data")), str(below.get("data")))
    if not any("image_size" in text for text in chosen):
        give_image_size(settings)
    _refuse_unset(plain(settings))
    named = any(name == "--run" or name.startswith("--run.") for name, _ in _options(words))
    return Sources(settings=settings, checkpoint=checkpoint, named=named)


_NOTHING: dict[Verb, str] = {
    "fit": "fit needs settings: give --config FILE, for example lorasub fit --config geometry",
    **{
        verb: f"{verb} needs a model: give --ckpt_path RUN, for example lorasub {verb} --ckpt_path runs/geometry/0, or "
        "--config FILE for the model without fine-tuning"
        for verb in ("validate", "test")
    },
    "predict": "predict needs images: give --data Photos --data.root FOLDER, or --data PosedRGBD --data.root FOLDER "
    "for a capture, or --ckpt_path RUN",
}


def _defaults(verb: Verb) -> dict[str, Any]:
    return {} if verb == "fit" else {"name": verb}


def _settings_of_run(verb: Verb, checkpoint: CheckpointInfo, *, with_config: bool, with_data: bool) -> dict[str, Any]:
    """The settings of a checkpoint and its run, for what the command line leaves open."""
    run = run_of(checkpoint.path)
    whole = read_yaml(run / SETTINGS) if run is not None and not with_config else {}
    taken = set(whole) if verb == "fit" else set() if with_data else {"data"}
    found = {key: value for key, value in whole.items() if key in taken - {"ckpt_path", "config", "run", "estimate"}}
    if checkpoint.recipe is not None:
        found = {**found, "model": copy.deepcopy(dict(checkpoint.recipe))}
    return found


@contextlib.contextmanager
def _config_files_in_errors(configs: Sequence[str], words: Sequence[str]) -> Iterator[None]:
    """Let an error about a setting that is not on the command line say in which files it may stand."""
    try:
        yield
    except ConfigError as error:
        wrong = re.search(r"'(?:--)?([^']+)'", str(error))
        typed = wrong is not None and any(
            re.search(rf"(^|[.=-]){re.escape(wrong[1])}($|[.=])", word) for word in words if word not in configs
        )
        if not configs or typed:
            raise
        raise ConfigError(f"{error} (read: {', '.join(configs)})") from None


def _parse_over(parser: SettingsParser, below: Mapping[str, Any], words: Sequence[str]) -> Namespace:
    """Parse words that win over the settings ``below``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "below.yaml"
        file.write_text(yaml.safe_dump(dict(below)), encoding="utf-8")
        settings: Namespace = parser.parse_args(["--config", str(file), *words])
    settings.pop("config", None)
    return settings


def _with_files(words: Sequence[str]) -> list[str]:
    """Returns the words with the file of every config that is given by its name."""
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if name in _CONFIG and equals:
            word = f"{name}={find_config(value)}"
        elif found and found[-1] in _CONFIG:
            word = str(find_config(word))
        found.append(word)
    return found


def _sections_named(configs: Sequence[str], words: Sequence[str]) -> dict[str, Any]:
    """The run, the checkpoint and the sections that files and words name, before anything is parsed."""
    found: dict[str, Any] = {}
    for config in configs:
        content = read_yaml(Path(config))
        run = {**(found.get("run") or {}), **(content.get("run") or {})}
        found |= {**content, "run": run}
    for name, value in _options(words):
        section, dot, rest = name.removeprefix("--").partition(".")
        if section == "run" and dot and rest in RunSettings.__dataclass_fields__:
            found["run"] = {**(found.get("run") or {}), rest: value}
        elif name == "--ckpt_path":
            found["ckpt_path"] = None if value in ("null", "") else value
        elif section in ("model", "data") and rest in ("", "class_path"):
            found.setdefault(section, value)  # other settings change what is there: they name no class
    return found


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and values of ``--name value`` and ``--name=value``."""
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.startswith("-"):
            following = words[position + 1] if position + 1 < len(words) else ""
            yield name, value if equals else following


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a config file, with or without a byte order mark.

    Raises:
        ConfigError: the file is missing, empty, or no YAML with sections.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"there is no config {path} ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if content is None:
        raise ConfigError(f"{path} is empty; a config has at least the sections model and data")
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no config: it holds {type(content).__name__}, not names with values")
    return content


def _refuse_unset(settings: Any, name: str = "") -> None:
    """Refuse settings that a config leaves to its user, naming the first."""
    if settings == UNSET:
        short = name.replace(".init_args", "")
        raise ConfigError(f"{short} has no value yet; give it with --{short} VALUE")
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            _refuse_unset(value, f"{name}.{key}" if name else str(key))
    elif isinstance(settings, list):
        for value in settings:
            _refuse_unset(value, name)


def give_image_size(settings: Namespace) -> None:
    """Set the data's image size to that of the backbone's preset, and say so; other backbones change nothing.

    Args:
        settings: of a run, in which nobody gave ``data.image_size``.
    """
    backbone = settings.get("model.init_args.backbone")
    if not isinstance(backbone, Namespace) or not str(backbone.get("class_path")).endswith(".from_preset"):
        return
    given = settings.get("data.init_args.image_size")
    size = preset_image_size(backbone.init_args.name)
    if given is not None and given not in (size, (size, size), [size, size]):
        settings["data.init_args.image_size"] = size
        log.info(
            "images are %d x %d, the size of the preset %s; --data.image_size sets another",
            size,
            size,
            backbone.init_args.name,
        )

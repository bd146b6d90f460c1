"""Settings of ``fit``, ``validate``, ``test`` and ``predict``: names, defaults, and where values come from."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser

import lorasub.adapters
import lorasub.backbones
import lorasub.data
import lorasub.tasks  # noqa: F401 - imported so that `--model GeometryTask`, `--data PosedRGBD` need no module path
from lorasub.callbacks import EvaluationFigures, PredictionWriter, ScenePanels, SubspaceOverlap
from lorasub.tasks import SceneTask
from lorasub.training.precision import ComputeSettings
from lorasub.training.recipe import checkpoint_argument, read_recipe
from lorasub.training.run_settings import RunSettings

log = logging.getLogger(__name__)

Verb = Literal["fit", "validate", "test", "predict"]

TRAINER_DEFAULTS: dict[str, Any] = {
    "num_sanity_val_steps": -1,  # "before" of before -> after: the whole validation set, before the first step
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
}
_HELP: dict[Verb, tuple[str, str]] = {
    "fit": ("--config FILE [OPTIONS]", "Fit an adapter."),
    "validate": ("--ckpt_path FILE --data CLASS [OPTIONS]", "Score a checkpoint on validation data."),
    "test": ("--ckpt_path FILE --data CLASS [OPTIONS]", "Score a checkpoint on test data."),
    "predict": ("--ckpt_path FILE --data CLASS [OPTIONS]", "Write depth, cameras and point clouds."),
}
#: What ``predict`` runs where no task is named: the backbone in the box, as it is.
BASE_MODEL: dict[str, Any] = {
    "class_path": "lorasub.GeometryTask",
    "init_args": {"backbone": {"class_path": "lorasub.VGGT.from_preset", "init_args": {"name": "nano"}}},
}
#: Arguments of Lightning's methods that the runner gives itself.
_GIVEN = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule", "return_predictions"}


def training_parser(verb: Verb) -> LightningArgumentParser:
    """Make the parser of one verb, with the sections that Lightning's own command line has.

    Beside those: the run's folder (``run``), arithmetic (``compute``), callbacks that are always there (``checkpoint``,
    ``panels``, ``figures``, ``writer``, ``overlap``), and ``--estimate``.
    """
    usage, description = _HELP[verb]
    name = f"lorasub {verb}"
    parser = LightningArgumentParser(prog=name, usage=f"{name} {usage}", description=description)
    parser.add_argument("-c", "--config", action="config", help="file of settings; later ones win")
    parser.add_argument("--seed_everything", type=bool | int, default=0, help="seed; true draws one")
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
    parser.add_lightning_class_args(SceneTask, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    parser.add_argument(
        "--estimate", action="store_true", help="print the memory that fit would take, and end; nothing is loaded"
    )
    parser.add_class_arguments(RunSettings, "run")
    parser.add_class_arguments(ComputeSettings, "compute")
    parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
    parser.set_defaults({"checkpoint.save_last": True, "checkpoint.every_n_train_steps": 100})
    parser.add_lightning_class_args(ScenePanels, "panels")
    parser.add_lightning_class_args(EvaluationFigures, "figures")
    parser.add_lightning_class_args(PredictionWriter, "writer")
    parser.add_lightning_class_args(SubspaceOverlap, "overlap")
    parser.add_method_arguments(Trainer, verb, skip=set(_GIVEN))
    return parser


def parse_settings(parser: LightningArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Read settings: a checkpoint's own count as the first config, so that files and flags win over them.

    Args:
        parser: of the verb.
        arguments: words of the command line.
    """
    checkpoint = checkpoint_argument(arguments)
    recipe = None if checkpoint is None else read_recipe(checkpoint)
    if checkpoint is None and parser.prog.endswith("predict") and not _names_a_model(arguments):
        recipe = BASE_MODEL
        log.info("no --ckpt_path and no --model: predicting with the backbone in the box, nano")
    if recipe is None:
        return parser.parse_args(list(arguments))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"model": recipe}, file)
        file.flush()
        return parser.parse_args(["--config", file.name, *arguments])


def _names_a_model(arguments: Sequence[str]) -> bool:
    """Whether words choose a task's class, or may do so in a file."""
    return any(word.partition("=")[0] in ("--model", "--config", "-c") for word in arguments)


def plain(value: Any) -> Any:
    """Settings as dicts and lists of plain values; what is none of these becomes its text."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)

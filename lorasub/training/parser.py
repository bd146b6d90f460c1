"""Settings of ``fit``, ``validate``, ``test`` and ``predict``: names, defaults, and where values come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

import lorasub.adapters
import lorasub.backbones
import lorasub.data
import lorasub.tasks  # noqa: F401 - imported so that `--model GeometryTask`, `--data PosedRGBD` need no module path
from lorasub.callbacks import EvaluationFigures, PredictionWriter, ScenePanels, SubspaceOverlap
from lorasub.tasks import SceneTask
from lorasub.training.mistakes import SettingsParser
from lorasub.training.precision import ComputeSettings
from lorasub.training.run_settings import RunSettings, Verb

TRAINER_DEFAULTS: dict[str, Any] = {
    "num_sanity_val_steps": -1,  # "before" of before -> after: the whole validation set, before the first step
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,  # the table of adapters says more
}
_HELP: dict[Verb, tuple[str, str]] = {
    "fit": ("--config FILE [OPTIONS]", "Fit an adapter."),
    "validate": ("--ckpt_path RUN [--data CLASS] [OPTIONS]", "Score a run's last checkpoint on validation data."),
    "test": ("--ckpt_path RUN [--data CLASS] [OPTIONS]", "Score a run's last checkpoint on test data."),
    "predict": ("--ckpt_path RUN [--data CLASS] [OPTIONS]", "Write depth, cameras and point clouds."),
}
#: What ``predict`` runs where no task is named: the backbone in the box, as it is.
BASE_MODEL: dict[str, Any] = {
    "class_path": "lorasub.GeometryTask",
    "init_args": {"backbone": {"class_path": "lorasub.VGGT.from_preset", "init_args": {"name": "nano"}}},
}
#: Arguments of Lightning's methods that the runner gives itself.
_GIVEN = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule", "return_predictions"}


def training_parser(verb: Verb) -> SettingsParser:
    """Make the parser of one verb, with the sections that Lightning's own command line has.

    Beside those: the run's folder (``run``), arithmetic (``compute``), callbacks that are always there (``checkpoint``,
    ``panels``, ``figures``, ``writer``, ``overlap``), and ``--estimate``.
    """
    usage, description = _HELP[verb]
    name = f"lorasub {verb}"
    parser = SettingsParser(prog=name, usage=f"{name} {usage}", description=description, allow_abbrev=False)
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


def plain(value: Any) -> Any:
    """Settings as dicts and lists of plain values; what is none of these becomes its text."""
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)

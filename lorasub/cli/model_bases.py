"""``mine --from gradients | activations | weights | random``: a basis from a model, for which nothing is fitted."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lorasub.adapters.layer_pass import target_layers
from lorasub.adapters.model_bases import Part, curvature_moments, model_basis
from lorasub.cli.arguments import check_out, progress
from lorasub.data.loading import training_batches
from lorasub.errors import ConfigError
from lorasub.structures import SceneBatch
from lorasub.subspaces import SideMoments, SubspaceBasis, random_basis
from lorasub.subspaces.moment_basis import Columns
from lorasub.tasks import SceneTask, scene_losses

Source = Literal["gradients", "activations", "weights", "random"]
SOURCES: tuple[Source, ...] = get_args(Source)

_EXAMPLE = (
    "lorasub mine --from gradients --config geometry --attributes geometry texture camera lighting --dim 16 --out basis"
)


_NO_SCENES = dict.fromkeys(("attributes", "partitions", "scenes", "part"), "no scene is looked at")
#: Source -> options that it has no use for, and why.
_UNUSED: dict[Source, dict[str, str]] = {
    "gradients": {"seed": "nothing is drawn"},
    "activations": {"seed": "nothing is drawn"},
    "weights": {**_NO_SCENES, "seed": "nothing is drawn"},
    "random": {**_NO_SCENES, "budget": "nothing says where it should go", "columns": "all columns are alike"},
}
#: Weights stay as they are on the disk, so that their hash is the base model's; and no adapter is in the way.
_EXACT = ("--trainer.precision", "32-true", "--trainer.accelerator", "cpu", "--model.adapter", "null")


def from_model(words: Sequence[str]) -> bool:
    """Returns whether the words of ``mine`` ask for a basis from a model."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--from", default="adapters", dest="source")
    return parser.parse_known_args(list(words))[0].source in SOURCES


def mine_model(words: Sequence[str]) -> tuple[SubspaceBasis, str, bool]:
    """Make a basis from a model and its training data.

    Args:
        words: of the command line after ``mine``; those that are not its own are settings of ``lorasub fit``.

    Returns:
        the basis, where to save it, and whether to tell of it as JSON.
    """
    own, settings = _parser().parse_known_args(list(words))
    check_out(own)
    _check_used(own)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    task: SceneTask = _prepared(settings, []).task.to(device)
    if own.source == "random":
        layers = target_layers(task.backbone, own.targets)
        shapes = {path: (layer.weight.shape[0], layer.weight[0].numel()) for path, layer in layers.items()}
        basis = random_basis(
            shapes, int(own.dim or 16), seed=own.seed or 0, base_model_hash=task.backbone.weights_hash()
        )
        return basis, own.out, own.json
    groups = {name: _losses(task, settings, name, own) for name in own.attributes or [""]}
    basis = model_basis(
        task.backbone,
        groups,
        source=own.source,
        part=own.part or "raw",
        dim=int(own.dim) if own.dim and own.dim.isdigit() else own.dim,
        budget=own.budget,
        columns=own.columns or "orthonormal",
        targets=own.targets,
    )
    return basis, own.out, own.json


def curvature_of(config: str, layers: Sequence[str], scenes: int = 16) -> SideMoments:
    """Returns the curvature of layers of a fit's model on the first of its scenes.

    Args:
        config: path or name of a config.
        layers: their paths.
        scenes: how many, in whole batches.
    """
    run = _prepared(["--config", config], [])
    batches = _first(training_batches(run.data, run.task.device), scenes)
    return curvature_moments(run.task.backbone, scene_losses(run.task, batches), targets=layers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lorasub mine",
        description="Make a basis from a model, for which nothing is fitted. Other options are those of lorasub fit: "
        "they say which model, which loss and which data. The adapter there is left out.",
        epilog=f"example: {_EXAMPLE}",
        allow_abbrev=False,
    )
    parser.add_argument("--from", dest="source", choices=SOURCES, required=True, help="what passes its layers")
    parser.add_argument("--out", required=True, help="folder for the basis")
    parser.add_argument("--overwrite", action="store_true", help="replace what is at --out already")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--dim", help="columns of either side, or energy:F; 16 unless there is a budget")
    parser.add_argument("--budget", type=int, help="instead of --dim: numbers of M over all layers")
    parser.add_argument("--columns", choices=get_args(Columns), help="how they are scaled; orthonormal unless given")
    parser.add_argument(
        "--part", choices=get_args(Part), help="specific: what attributes do not share; raw unless given"
    )
    parser.add_argument("--attributes", nargs="+", help="of the scenes (--data.attribute); as configured if not given")
    parser.add_argument("--partitions", type=int, help="sets of scenes for each of the attributes; 4 unless given")
    parser.add_argument("--scenes", type=int, help="of each set, in whole batches; 16 unless given")
    parser.add_argument("--targets", nargs="+", default=["blocks"], help="layers, as an adapter's targets")
    parser.add_argument("--seed", type=int, help="of a random basis; 0 unless given")
    return parser


def _check_used(own: argparse.Namespace) -> None:
    """Refuses options that a source has no use for."""
    unused = dict(_UNUSED.get(own.source, {}))
    if not own.attributes:
        unused["partitions"] = "sets of scenes are those of --attributes"
    for name, why in unused.items():
        if getattr(own, name) is not None:
            raise ConfigError(f"--{name} means nothing for --from {own.source} here: {why}")


def _losses(task: SceneTask, settings: Sequence[str], attribute: str, own: argparse.Namespace) -> Iterator[Tensor]:
    """The losses on the scenes of an attribute's partitions, or on the configured ones."""
    plane = ["--model.backbone", "lorasub.ConstantGeometry"]
    bar = progress(unit="batch", desc=attribute or "scenes")
    for partition in range(own.partitions or 4) if attribute else (None,):
        which = ["--data.attribute", attribute, "--data.partition", str(partition)] if attribute else []
        batches = _first(training_batches(_prepared(settings, [*plane, *which]).data, task.device), own.scenes or 16)
        for loss in scene_losses(task, batches):
            yield loss
            bar.update()
    bar.close()


def _prepared(settings: Sequence[str], more: Sequence[str]) -> Any:
    import lorasub.training

    log = logging.getLogger("lorasub")
    before = log.level
    log.setLevel(logging.WARNING)  # no fit is meant, so nobody asks for its precision
    try:
        return lorasub.training.prepare("test", [*settings, *_EXACT, *more])
    finally:
        log.setLevel(before)


def _first(batches: Iterable[SceneBatch], scenes: int) -> Iterator[SceneBatch]:
    """Batches until there are so many scenes."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch)
        if seen >= scenes:
            return

"""How much of real captures' gradients lies in bases of nano that were made from synthetic scenes alone.

    python -m benchmarks basis_capture --captures ../shared/data/real
    python -m benchmarks basis_capture --dims 16 --scenes 16 --json basis_capture.json

Every basis is made at the base model; no capture is seen. On batches of three views of real rooms, the share of each
layer's gradient that a basis holds on both sides (``lorasub.gradient_share``): first the mean over layers and batches,
then of all squared norms together. The bases: gradients of four attributes together; the same numbers of M shared out
between layers and sides (``budget``); what attributes do not share, a quarter of the columns from each (``specific``);
activations; weights (PSV); and random ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from benchmarks.report import write_report
from lorasub import VGGT, GeometryTask, PosedRGBD, SubspaceBasis, SyntheticScenes, gradient_share, random_basis
from lorasub.adapters.layer_pass import target_layers, visit_layers
from lorasub.scenes.presets import ATTRIBUTES
from lorasub.structures import SceneBatch
from lorasub.subspaces import (
    LayerGradients,
    RowMoments,
    SideMoments,
    combine_subspaces,
    joined_moments,
    moment_basis,
    specific_moments,
)
from lorasub.tasks import scene_losses
from lorasub.training.evidence import rendered_scenes

#: Captures that any checkout of the samples has.
PLACES = ("7scenes_redkitchen", "open3d_redwood", "sun3d_studyroom")


def bases_of(task: GeometryTask, dims: list[int], scenes: int) -> dict[str, SubspaceBasis]:
    """All bases, from one pass over the scenes of each attribute.

    Args:
        task: the base model.
        dims: columns of either side.
        scenes: of each of two partitions of every attribute.
    """
    gradients = {attribute: LayerGradients(moments=True) for attribute in ATTRIBUTES}
    rows = RowMoments()
    for attribute, kept in gradients.items():
        for partition in range(2):
            data = SyntheticScenes(attribute=attribute, partition=partition, antialias=False, shadow_samples=1)
            losses = scene_losses(task, rendered_scenes(data, scenes, batch=2))
            visit_layers(task.backbone, losses, gradient=kept.add, activation=rows.add)
    moments = {attribute: kept.side_moments() for attribute, kept in gradients.items()}
    weights = {path: layer.weight.detach().flatten(1) for path, layer in target_layers(task.backbone, "blocks").items()}
    inputs = {path: rows.mean_square(path, centered=True) for path in weights}
    outputs = {path: W @ inputs[path] @ W.mT for path, W in weights.items()}
    active, joint, own = SideMoments(output=outputs, input=inputs), joined_moments(moments), specific_moments(moments)
    shapes = {path: (len(W), W.shape[1]) for path, W in weights.items()}
    found: dict[str, SubspaceBasis] = {}
    for dim in dims:
        found[f"gradients {dim}"] = moment_basis(joint, dim=dim)
        found[f"gradients budget {dim * dim * len(shapes)}"] = moment_basis(joint, budget=dim * dim * len(shapes))
        each = {name: moment_basis(own[name], dim=max(1, dim // len(own))) for name in ATTRIBUTES}
        found[f"specific {dim}"] = combine_subspaces(each)
        found[f"activations {dim}"] = moment_basis(active, dim=dim)
        found[f"weights {dim}"] = moment_basis(SideMoments.of_weights(weights), dim=dim)
        found[f"random {dim}"] = random_basis(shapes, dim)
    return found


def captured(folder: Path, place: str, batches: int) -> Iterator[SceneBatch]:
    """The first training batches of a real capture."""
    data = PosedRGBD(base_folder=str(folder), root=place, batch_size=2, num_views=3)
    data.prepare_data()
    data.setup("fit")
    for batch in islice(data.train_dataloader(), batches):
        yield data.on_after_batch_transfer(batch, 0)


def main() -> None:
    """Make the bases, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=Path, default=Path("../shared/data/real"))
    parser.add_argument("--places", nargs="+", default=list(PLACES))
    parser.add_argument("--dims", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--scenes", type=int, default=8, help="of each of two partitions of every attribute")
    parser.add_argument("--batches", type=int, default=6, help="of every capture")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    task = GeometryTask(VGGT.from_preset("nano"))
    bases = bases_of(task, options.dims, options.scenes)
    table: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in bases}
    for place in options.places:
        losses = scene_losses(task, captured(options.captures, place, options.batches))
        for name, found in gradient_share(task.backbone, losses, bases).items():
            table[name][place] = found.mean, found.whole
    width = max(map(len, table))
    print(" " * width, *options.places)
    for name, row in table.items():
        cells = (f"{mean:.3f} {whole:.3f}".rjust(len(place)) for place, (mean, whole) in row.items())
        print(f"{name:<{width}}", *cells, flush=True)
    write_report(options.json, "basis_capture", {"scenes": options.scenes, "shares": table})


if __name__ == "__main__":
    main()

"""How good a backbone is, beside models that do not look at the images, on fixed synthetic sets and on real captures.

    python -m benchmarks backbone                                        # the preset nano as it is
    python -m benchmarks backbone --weights runs/pretrain_nano/scratch/backbone
    python -m benchmarks backbone --real shared/data/real --json backbone.json
    python -m benchmarks backbone --sensitivity 100                      # a short full fine-tune on each attribute

Columns: AbsRel and delta < 1.25 of depth (one median a scene aligns it); median over all pairs of views of the relative
rotation's angle and of the angle between translation directions (up to sign), in degrees; AUC@30 of the larger of both
(exact area); mean distance of points from depth and cameras after a Sim(3) alignment, in units of the scene's mean
distance to its first camera. ``constant`` sees a plane and a camera at rest; ``mean`` predicts the mean depth map and
the mean pose of each view over 64 training scenes of ``all``, ``mean indoor`` those over 64 of ``indoor``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from torch.optim import AdamW

from benchmarks.report import write_report
from lorasub.adapters import FullFineTuning
from lorasub.backbones import VGGT, Backbone, ConstantGeometry
from lorasub.data import PosedRGBD, SyntheticScenes
from lorasub.geometry import decode_pose, normalize_scene
from lorasub.metrics import DepthAccuracy, PointMapError
from lorasub.metrics.functional import pose_auc, relative_pose_errors
from lorasub.scenes.presets import ATTRIBUTES, Preset
from lorasub.scenes.ranges import CameraRanges, GeometryRanges, LightingRanges, SceneRanges, TextureRanges
from lorasub.structures import SceneBatch
from lorasub.tasks import GeometryTask
from lorasub.training import prepare

ROOT = Path(__file__).parents[1]
REAL_SAMPLES = ROOT / "configs" / "real_samples.yaml"
COLUMNS = ("abs_rel", "delta1", "rotation", "direction", "auc@30", "points")
#: Kinds of scenes that ``all`` never shows: every range lies outside of the one that training draws from.
UNSEEN: dict[str, SceneRanges] = {
    # few large slanted bodies in the air, in the open
    "unseen: floating": SceneRanges(
        geometry=GeometryRanges(
            count=(2, 4), radius=(0.5, 0.75), aspect=(1.8, 2.4), tilt=(0.6, 1.3), floating=1.0, open=1.0
        )
    ),
    # fine textures in glaring colours, little light from the sky, seen through a longer lens
    "unseen: fine and dark": SceneRanges(
        texture=TextureRanges(
            patterns=("checker", "stripes", "dots"), scale=(0.02, 0.06), warp=(1.0, 1.6), saturation=(0.85, 1.0)
        ),
        lighting=LightingRanges(ambient=(0.02, 0.08), exposure=(0.45, 0.7)),
        camera=CameraRanges(fov=(0.5, 0.7)),
    ),
}
Batches = Callable[[], Iterator[SceneBatch]]


def loaded(data: LightningDataModule) -> Batches:
    """All test batches of a data module, as they reach the model on the CPU."""
    return lambda: (data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader())


def synthetic_sets(scenes: int, **settings: Any) -> dict[str, SyntheticScenes]:
    """Held-out scenes by name; always the same."""
    common = {"val_scenes": scenes, "num_views": 4, "image_size": 112, **settings}
    sets = {name: SyntheticScenes(attribute=name, **common) for name in ("all", "indoor", *ATTRIBUTES)}
    return sets | {name: SyntheticScenes(attribute="all", ranges=ranges, **common) for name, ranges in UNSEEN.items()}


def training_scenes(preset: Preset, scenes: int, chunk: int = 8) -> Iterator[SceneBatch]:
    """Scenes drawn as those of pre-training are, in the order of the camera's path."""
    data = SyntheticScenes(attribute=preset, num_views=4, image_size=112)
    for first in range(0, scenes, chunk):
        yield data.on_after_batch_transfer(data.train_sampler.sample(range(first, min(first + chunk, scenes))), 0)


def real_sets(folder: Path, scenes: int) -> dict[str, Batches]:
    """The captures of ``configs/real_samples.yaml`` that lie in a folder: all frames, none of them trained on."""
    words = [f"--config={REAL_SAMPLES}", f"--data.base_folder={folder}", "--data.held_out.fraction=1.0"]
    words += [f"--data.val_scenes={scenes}", "--data.num_views=4", "--data.image_size=112", "--trainer.logger=false"]
    data = prepare("test", words).data
    assert isinstance(data, PosedRGBD)

    def of(index: int) -> Batches:
        return lambda: (data.on_after_batch_transfer(batch, index) for batch in data.test_dataloader()[index])

    names = ("kitchen", *data.evaluation_names[1:])
    return {name: of(index) for index, name in enumerate(names)}


def beaten(rows: dict[str, dict[str, float]], column: str, sign: int) -> bool | None:
    """Whether the model is better than all that do not look; None where there is nothing to compare with."""
    others = [sign * row[column] for which, row in rows.items() if which != "model"]
    own = sign * rows["model"][column]
    return None if math.isnan(own) else own < min(others)


@torch.no_grad()
def measure(model: Backbone, batches: Iterable[SceneBatch]) -> dict[str, float]:
    """One row of the table; NaN where the data lacks the truth, or too little of it is known."""
    depth, points = DepthAccuracy("median", per="scene"), PointMapError()
    rotations, directions = [], []
    for batch in map(normalize_scene, batches):
        predictions = model(batch.images)
        depth.update(predictions, batch)
        points.update(predictions, replace(batch, scale=torch.ones_like(batch.scale)))
        cam_from_world, _ = decode_pose(predictions.pose_encoding, batch.image_size)
        errors = relative_pose_errors(cam_from_world, batch.cam_from_world, batch.pose_valid)
        rotations.append(errors.rotation[errors.valid])
        directions.append(errors.translation[errors.valid])
    rotation, direction = torch.cat(rotations), torch.cat(directions)
    row = {name: float(value) for name, value in depth.compute().items()}
    return {
        "abs_rel": row["abs_rel"],
        "delta1": row["delta1"],
        "rotation": float(rotation.median()),
        "direction": float(direction.median()),
        "auc@30": float(pose_auc(torch.maximum(rotation, direction), 30.0).mean()),
        "points": float(points.compute()["point_error"]),
    }


def sensitivity(load: Callable[[], VGGT], attribute: str, steps: int, lr: float, scenes: int) -> dict[str, Any]:
    """Errors on an attribute's held-out scenes before and after fitting all weights to its training scenes."""
    seed_everything(0, verbose=False)
    data = SyntheticScenes(attribute=attribute, val_scenes=scenes, antialias=False, shadow_samples=1)
    model = load().eval()
    before = measure(model, loaded(data)())
    task = GeometryTask(
        model, FullFineTuning(targets="all"), optimizer=lambda p: AdamW(p, lr=lr, weight_decay=0.05), warmup=0.1
    )
    trainer = Trainer(
        max_steps=steps,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        limit_val_batches=0,
        accelerator="cpu",
    )
    trainer.fit(task, data)
    return {"before": before, "after": measure(task.backbone.eval(), loaded(data)())}


def line(*cells: object) -> str:
    """A row of the table."""
    texts = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return f"{texts[0]:<24}{texts[1]:<12}" + "".join(f"{text:>10}" for text in texts[2:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="file or folder that VGGT.from_pretrained reads; the preset nano by default")
    parser.add_argument("--scenes", type=int, default=32, help="scenes of each set")
    parser.add_argument("--real", type=Path, help="folder with the captures of configs/real_samples.yaml")
    parser.add_argument("--only-real", action="store_true", help="leave the synthetic sets out")
    parser.add_argument("--sensitivity", type=int, default=0, metavar="STEPS", help="also fine-tune on each attribute")
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate of that")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    def load() -> VGGT:
        return VGGT.from_pretrained(options.weights) if options.weights else VGGT.from_preset("nano")

    model = load().eval()
    models: dict[str, Backbone] = {"model": model, "constant": ConstantGeometry()}
    models |= {
        "mean": ConstantGeometry.mean_of(training_scenes("all", 64)),
        "mean indoor": ConstantGeometry.mean_of(training_scenes("indoor", 64)),
    }
    sets = {} if options.only_real else {name: loaded(data) for name, data in synthetic_sets(options.scenes).items()}
    real = real_sets(options.real, options.scenes) if options.real else {}
    print(f"weights {model.weights_hash()[:12]}, {options.scenes} scenes a set, torch {torch.__version__}")
    print(line("set", "model", *COLUMNS))
    results: dict[str, Any] = {}
    for name, load_batches in (sets | real).items():
        batches = list(load_batches())  # rendered or decoded once for all models
        results[name] = {which: measure(backbone, batches) for which, backbone in models.items()}
        for which, row in results[name].items():
            print(line(name, which, *row.values()), flush=True)
    for column, sign in (("abs_rel", 1), ("auc@30", -1)):
        known = {name: beaten(results[name], column, sign) for name in real}
        wins = [name for name, won in known.items() if won]
        count = sum(won is not None for won in known.values())
        if count:
            print(f"{column}: better than all that do not look on {len(wins)} of {count} captures: {', '.join(wins)}")
    fitted: dict[str, Any] = {}
    if options.sensitivity:
        print(f"\nfull fine-tune of {options.sensitivity} steps on each attribute, learning rate {options.lr:g}")
        print(line("set", "when", *COLUMNS))
        for attribute in ATTRIBUTES:
            fitted[attribute] = sensitivity(load, attribute, options.sensitivity, options.lr, options.scenes)
            for when, row in fitted[attribute].items():
                print(line(attribute, when, *row.values()), flush=True)
    settings = {key: str(value) for key, value in vars(options).items()}
    content = {"settings": settings, "weights_hash": model.weights_hash(), "sets": results, "sensitivity": fitted}
    write_report(options.json, "backbone", content)


if __name__ == "__main__":
    main()

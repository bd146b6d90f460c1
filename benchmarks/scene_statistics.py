"""How rendered scenes differ from real captures: depths, cameras, tones, one column each, as a table in Markdown.

python -m benchmarks scene_statistics [--presets indoor all] [--real ../shared/data/real] [--scenes 64] [--sensor]

Each cell has the 10th, 50th and 90th percentile over views, or over pairs of a scene's first view and another.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor

from lorasub.data.real import PosedRGBD
from lorasub.data.synthetic import SyntheticScenes
from lorasub.geometry import camera_centers
from lorasub.scenes.sensor import SensorNuisance
from lorasub.structures import SceneBatch

ROWS = {
    "median depth": "{:.2f}",
    "depth p90 / p10": "{:.2f}",
    "depth p99 / p1": "{:.2f}",
    "log depth, lower over upper half": "{:+.2f}",
    "fov, vertical (rad)": "{:.2f}",
    "baseline / median depth": "{:.3f}",
    "rotation (degrees)": "{:.1f}",
    "mean": "{:.2f}",
    "contrast": "{:.2f}",
    "saturation": "{:.2f}",
    "clipped": "{:.3f}",
    "dark": "{:.3f}",
    "gradient": "{:.3f}",
    "fine gradient / coarse": "{:.2f}",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["indoor", "all"])
    parser.add_argument("--real", default="../shared/data/real")
    parser.add_argument("--config", default="configs/real_samples.yaml")
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--sensor", action="store_true", help="look at rendered scenes through a camera's sensor")
    known = parser.parse_args()
    sensor = SensorNuisance.photographic() if known.sensor else None
    columns: dict[str, dict[str, Tensor]] = {}
    for preset in known.presets:
        rendered = SyntheticScenes(attribute=preset, sensor=sensor)
        columns[preset] = statistics(
            rendered.on_after_batch_transfer(rendered.train_sampler.sample(range(first, first + 16)), 0)
            for first in range(0, known.scenes, 16)
        )
    for name, captured in captures(known.config, known.real):
        columns[name] = statistics(captured.val_dataloader())
    print("| | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row, form in ROWS.items():
        cells = []
        for values in columns.values():
            found = values[row][values[row].isfinite()]
            cells.append(
                " ".join(form.format(float(found.quantile(q))) for q in (0.1, 0.5, 0.9)) if found.numel() else "-"
            )
        print(f"| {row} | " + " | ".join(cells) + " |")


def captures(config: str, folder: str) -> Iterator[tuple[str, PosedRGBD]]:
    """The real captures of a configuration, all frames of each."""
    content = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["data"]["init_args"]
    sets = {"kitchen": {"root": content["root"]}, **content["evaluation"]}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PosedRGBD, "data")
    for name, options in sets.items():
        arguments: dict[str, Any] = {"num_views": 4, **options, "base_folder": folder, "val_fraction": 1.0}
        data: PosedRGBD = parser.instantiate(parser.parse_object({"data": arguments})).data
        data.setup("validate")
        yield name, data


def statistics(batches: Iterable[SceneBatch]) -> dict[str, Tensor]:
    """Numbers of all views or pairs, by name."""
    found: dict[str, list[Tensor]] = {name: [] for name in ROWS}
    for batch in batches:
        for name, values in {**of_depths(batch), **of_cameras(batch), **of_images(batch)}.items():
            found[name].append(values.flatten().float())
    return {name: torch.cat(values) for name, values in found.items()}


def of_depths(batch: SceneBatch) -> dict[str, Tensor]:
    """Of each view; views with little depth give NaN."""
    depth = torch.where(batch.valid, batch.depth, torch.nan)
    few = batch.valid.flatten(2).float().mean(-1) < 0.02
    flat = depth.flatten(2).masked_fill(few[..., None], torch.nan)
    p1, p10, p50, p90, p99 = flat.nanquantile(torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99]).to(flat), dim=-1)
    half = depth.shape[2] // 2
    upper, lower = (part.flatten(2).log().nanmean(-1) for part in (depth[:, :, :half], depth[:, :, half:]))
    return {
        "median depth": p50,
        "depth p90 / p10": p90 / p10,
        "depth p99 / p1": p99 / p1,
        "log depth, lower over upper half": lower - upper,
        "fov, vertical (rad)": 2.0 * torch.atan(0.5 * depth.shape[2] / batch.intrinsics[..., 1, 1]),
    }


def of_cameras(batch: SceneBatch) -> dict[str, Tensor]:
    """Of each pair of the first view and another."""
    pose = batch.cam_from_world.double()
    centers = camera_centers(pose)
    depth = torch.where(batch.valid, batch.depth, torch.nan).flatten(2).nanquantile(0.5, dim=-1)
    trace = torch.einsum("bij,bsij->bs", pose[:, 0, :, :3], pose[:, 1:, :, :3])
    angle = torch.acos(((trace - 1.0) / 2.0).clamp(-1.0, 1.0)).rad2deg()
    use = batch.pose_valid[:, :1] & batch.pose_valid[:, 1:]
    return {
        "baseline / median depth": torch.where(
            use, (centers[:, 1:] - centers[:, :1]).norm(dim=-1) / depth[:, :1], torch.nan
        ),
        "rotation (degrees)": torch.where(use, angle, torch.nan),
    }


def of_images(batch: SceneBatch) -> dict[str, Tensor]:
    """Of each view."""
    images = batch.images
    high, low = images.amax(2), images.amin(2)
    grey = images.mean(2)

    def slope(values: Tensor) -> Tensor:
        return 0.5 * (values.diff(dim=-1).abs().mean((-2, -1)) + values.diff(dim=-2).abs().mean((-2, -1)))

    coarse = torch.nn.functional.avg_pool2d(grey, 4)
    return {
        "mean": images.mean((2, 3, 4)),
        "contrast": grey.flatten(2).std(-1),
        "saturation": ((high - low) / high.clamp(min=1e-3)).flatten(2).mean(-1),
        "clipped": (high > 0.985).flatten(2).float().mean(-1),
        "dark": (high < 0.06).flatten(2).float().mean(-1),
        "gradient": slope(grey),
        "fine gradient / coarse": slope(grey) / slope(coarse).clamp(min=1e-4),
    }


if __name__ == "__main__":
    main()

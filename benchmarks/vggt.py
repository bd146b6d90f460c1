"""Our VGGT against the released implementation, on the same random weights: time and peak memory over views.

    python -m benchmarks vggt --released path/to/checkout
    python -m benchmarks vggt --released path/to/checkout --model vggt-1b --size 518 --device cuda --json vggt.json

PATH is a checkout, or the git directory of one, of a repository whose folder ``vggt`` holds the released package; it
is read where it lies. Both models get the same weights, and their outputs are compared before anything is timed. Times
are medians over interleaved rounds, the ratio is taken round by round. Peak memory is taken in a process of its own for
each model and number of views; on the CPU it is the most that the process held, less what it held before the call.
``step`` is forward and backward with all weights trainable and no gradient checkpointing on either side.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.adapters import MEDIUM, Held, objective
from benchmarks.report import interleaved, ratio, spread, summary, write_report
from lorasub import VGGT, Predictions, VGGTConfig

#: The released aggregator keeps the tokens after these pairs, whatever its depth.
KEPT = (4, 11, 17, 23)
CONFIGS = {"medium": MEDIUM.replace(num_pairs=24, taps=KEPT), "vggt-1b": VGGTConfig()}
#: The released image encoders of these widths.
ENCODERS = {384: "dinov2_vits14_reg", 1024: "dinov2_vitl14_reg"}
MODES = ("forward", "step")


def find_package(path: Path, extracted: Path) -> Path:
    """The folder to import the released package ``vggt`` from.

    Args:
        path: a checkout, or a git directory without a work tree.
        extracted: an empty folder, for the files of the latter.
    """
    for folder in (path, path / "vggt"):
        if (folder / "vggt" / "models" / "vggt.py").is_file():
            return folder
    archive = subprocess.run(["git", "-C", path, "archive", "HEAD", "vggt/vggt"], capture_output=True, check=False)
    if archive.returncode:
        raise SystemExit(f"{path} holds no package vggt and is no git repository that does: {archive.stderr.decode()}")
    subprocess.run(["tar", "-x", "-C", extracted], input=archive.stdout, check=True)
    return extracted / "vggt"


def released_model(package: Path, config: VGGTConfig) -> nn.Module:
    """The released implementation in the sizes of ``config``, with weights yet to be loaded."""
    sys.path.insert(0, str(package))
    # the tracking head is not built, so what it would import need not be installed
    tracking = ModuleType("vggt.heads.track_head")
    tracking.TrackHead = None  # type: ignore[attr-defined]
    sys.modules[tracking.__name__] = tracking
    from vggt.heads.camera_head import CameraHead
    from vggt.heads.dpt_head import DPTHead
    from vggt.models.aggregator import Aggregator
    from vggt.models.vggt import VGGT as Released  # noqa: N811

    dim = config.embed_dim
    model = Released.__new__(Released)  # only its forward is wanted; its constructor makes a billion parameters
    nn.Module.__init__(model)
    model.track_head = None
    model.aggregator = Aggregator(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=dim,
        depth=config.num_pairs,
        num_heads=config.num_heads,
        patch_embed=ENCODERS[dim],
    )
    model.camera_head = CameraHead(2 * dim, trunk_depth=config.camera_depth, num_heads=config.camera_heads)
    dense: dict[str, Any] = {
        "features": config.dense_features,
        "out_channels": list(config.dense_channels),
        "intermediate_layer_idx": list(range(len(KEPT))),
    }
    model.point_head = DPTHead(2 * dim, output_dim=4, activation="inv_log", conf_activation="expp1", **dense)
    model.depth_head = DPTHead(2 * dim, output_dim=2, activation="exp", conf_activation="expp1", **dense)
    return model


class Side:
    """One of the two models, and what is timed of it."""

    def __init__(self, model: nn.Module, predict: Callable[[Tensor], Predictions], options: argparse.Namespace) -> None:
        # the released code checkpoints its blocks whenever it is in training mode; nothing else depends on it
        self.model = model.to(options.device).eval().requires_grad_(True)
        self.predict = predict
        self.autocast = torch.autocast(options.device, torch.bfloat16, enabled=options.bf16)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Predictions:
        """Predictions, without gradients."""
        with self.autocast:
            return self.predict(images)

    def step(self, images: Tensor) -> None:
        """Forward and backward."""
        self.model.zero_grad()
        with self.autocast:
            predictions = self.predict(images)
        objective(predictions).backward()


def build(name: str, package: Path, options: argparse.Namespace) -> Side:
    """``ours`` or ``released``, with the same weights."""
    torch.manual_seed(0)
    ours = VGGT(CONFIGS[options.model])
    if name == "ours":
        return Side(ours, ours, options)
    model = released_model(package, CONFIGS[options.model])
    model.load_state_dict(ours.state_dict(), strict=True)

    def predict(images: Tensor) -> Predictions:
        found = model(images)
        poses = found.get("pose_enc_list", [found["pose_enc"]])
        return Predictions(
            pose_encodings=tuple(poses),
            depth=found["depth"].squeeze(-1),
            depth_conf=found["depth_conf"],
            world_points=found["world_points"],
            world_points_conf=found["world_points_conf"],
        )

    return Side(model, predict, options)


def check_equal(ours: Side, released: Side, images: Tensor, tolerance: float) -> None:
    """Refuse to compare the speed of things that differ."""
    left, right = ours.forward(images), released.forward(images)
    for name in ("pose_encoding", "depth", "depth_conf", "world_points", "world_points_conf"):
        found, expected = getattr(left, name).float(), getattr(right, name).float()
        error = float((found - expected).abs().max() / expected.abs().max())
        if not error <= tolerance:
            raise SystemExit(f"{name} differs by {error:.2g} of its range, more than {tolerance:g}: no comparison")


def batch(views: int, options: argparse.Namespace) -> Tensor:
    """One scene."""
    images = torch.rand(1, views, 3, options.size, options.size, generator=torch.Generator().manual_seed(views))
    return images.to(options.device)


def peak_in_own_process(name: str, mode: str, views: int, package: Path, options: argparse.Namespace) -> int:
    """Bytes that a call needs at most beyond what the model itself takes."""
    words = [sys.executable, "-m", "benchmarks.vggt", "--one", name, "--modes", mode, "--views", str(views)]
    words += ["--released", str(package), *(["--bf16"] if options.bf16 else [])]
    for option in ("model", "size", "threads", "device"):
        words += [f"--{option}", str(getattr(options, option))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measuring the memory of {name} failed:\n{done.stderr[-2000:]}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def measure(package: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each mode and number of views."""
    sides = {name: build(name, package, options) for name in ("ours", "released")}
    check_equal(sides["ours"], sides["released"], batch(2, options), 0.05 if options.bf16 else 1e-3)
    rows = []
    for mode in options.modes:
        for views in options.views:
            images = batch(views, options)
            calls = {name: partial(getattr(side, mode), images) for name, side in sides.items()}
            seconds = interleaved(calls, rounds=options.rounds)
            row: dict[str, Any] = {
                "mode": mode,
                "views": views,
                "seconds": {name: summary(values) for name, values in seconds.items()},
                "ours_to_released": ratio(seconds["ours"], seconds["released"]),
            }
            if options.memory:
                row["peak_bytes"] = {name: peak_in_own_process(name, mode, views, package, options) for name in sides}
            rows.append(row)
            print(line(row), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    ours, released = (1000 * row["seconds"][name]["median"] for name in ("ours", "released"))
    peaks = row.get("peak_bytes")
    times = f"{ours:>10.1f}{released:>10.1f}  {spread(row['ours_to_released']):<24}"
    memory = f"{peaks['ours'] / 1e6:>10.0f}{peaks['released'] / 1e6:>10.0f}" if peaks else f"{'-':>10}{'-':>10}"
    return f"{row['mode']:<9}{row['views']:>5}{times}{memory}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--released", type=Path, required=True, metavar="PATH")
    parser.add_argument("--model", choices=CONFIGS, default="medium")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="under bfloat16 autocast")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave the peak memory out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=("ours", "released"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)  # the released code's use of autocast
    with tempfile.TemporaryDirectory() as extracted:
        package = find_package(options.released, Path(extracted))
        if options.one:
            side, images = build(options.one, package, options), batch(options.views[0], options)
            side.forward(images)  # what libraries keep from their first call on is nobody's
            held = Held(images.device)
            getattr(side, options.modes[0])(images)
            print(json.dumps({"peak": held.peak()}))
            return
        print(f"{options.model}, one scene of {options.size} pixels squared, {'bf16' if options.bf16 else 'float32'}")
        heads = f"{'ours ms':>10}{'theirs ms':>10}  {'ours / theirs':<24}{'ours MB':>10}{'theirs MB':>10}"
        print(f"{'':<9}{'views':>5}{heads}")
        rows = measure(package, options)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "one", "released")}
    write_report(options.json, "vggt", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()

"""Whole scenes as folders: lorasub's own layout, nerfstudio's, and MegaSynth's ``opencv_cameras.json``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from lorasub.errors import ConfigError, DataError
from lorasub.exports.cameras import write_nerfstudio
from lorasub.exports.images import write_depth_exr, write_depth_npy, write_depth_png, write_image, write_mask
from lorasub.files import write_json
from lorasub.structures import SceneBatch

Layout = Literal["lorasub", "nerfstudio", "opencv_cameras"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
#: World units per step of 16-bit depth.
DEPTH_UNIT = 0.001
#: What MegaSynth's depth holds where a ray hits nothing.
_NOTHING = 1e10


def write_scene(folder: str | os.PathLike[str], batch: SceneBatch, *, scene: int = 0, layout: Layout) -> None:
    """Write one scene of a batch in the source's units (the batch's times ``scale``).

    ==================  =================  ==================================================
    layout              cameras            depth
    ==================  =================  ==================================================
    ``lorasub``         capture.json       float32 NPY, exact
    ``nerfstudio``      transforms.json    16-bit PNG, off by at most half of 0.001
    ``opencv_cameras``  that .json         float32 EXR, exact; 1e10 where unknown
    ==================  =================  ==================================================

    Images are 8-bit PNG. Masks of objects, if there are any, are 8-bit PNG in ``object_masks``, 255 inside. Only
    ``capture.json`` names them, and holds the scene's label; the other tools' files have no place for either.

    Args:
        folder: made if it is missing.
        batch: the scenes; every view must have a pose.
        scene: which one.
        layout: one of the above.

    Raises:
        ConfigError: an unknown layout.
        DataError: there is no such scene, a view has no pose, or depth does not fit into 16 bits.
    """
    if layout not in _WRITERS:
        raise ConfigError(f"unknown layout '{layout}'; choose from {', '.join(LAYOUTS)}")
    if not 0 <= scene < len(batch):
        raise DataError(f"scene {scene} was asked for, but the batch holds {len(batch)}")
    if not batch.pose_valid[scene].all():
        raise DataError(f"scene '{batch.scene_ids[scene]}' has views without a pose; other tools need one for each")
    root = Path(folder)
    _WRITERS[layout](root, batch, scene)
    if layout != "lorasub" and batch.object_masks is not None:
        for view, mask in enumerate(batch.object_masks[scene]):
            write_mask(root / "object_masks" / f"{view:06d}.png", mask)


def _write_nerfstudio(root: Path, batch: SceneBatch, scene: int) -> None:
    images = [f"images/{view:06d}.png" for view in range(batch.num_views)]
    depths = [f"depth/{view:06d}.png" for view in range(batch.num_views)]
    poses = _poses(batch, scene)
    for view in range(batch.num_views):
        write_image(root / images[view], batch.images[scene, view])
        write_depth_png(root / depths[view], _depth(batch, scene, view), unit=DEPTH_UNIT)
    matrices, path = batch.intrinsics[scene], root / "transforms.json"
    write_nerfstudio(path, images, poses, matrices, batch.image_size, depth_paths=depths, depth_unit=DEPTH_UNIT)


def _write_opencv_cameras(root: Path, batch: SceneBatch, scene: int) -> None:
    height, width = batch.image_size
    frames = []
    for view, (pose, k) in enumerate(zip(_poses(batch, scene).tolist(), batch.intrinsics[scene].tolist(), strict=True)):
        image = f"renderings/{view:08d}_rgba.png"
        write_image(root / image, batch.images[scene, view])
        depth = root / "renderings" / f"{view:08d}_depth.exr"
        write_depth_exr(depth, _depth(batch, scene, view), unknown=_NOTHING)
        frames.append(
            {
                "file_path": image,
                "w2c": [*pose, [0.0, 0.0, 0.0, 1.0]],
                "fx": k[0][0],
                "fy": k[1][1],
                "cx": k[0][2],
                "cy": k[1][2],
                "w": width,
                "h": height,
            }
        )
    write_json(root / "opencv_cameras.json", {"scene_name": batch.scene_ids[scene], "frames": frames})


def _poses(batch: SceneBatch, scene: int) -> torch.Tensor:
    poses = batch.cam_from_world[scene].double().cpu().clone()
    poses[..., 3] *= float(batch.scale[scene])
    return poses


def _depth(batch: SceneBatch, scene: int, view: int) -> torch.Tensor:
    return torch.where(batch.valid[scene, view], batch.depth[scene, view] * batch.scale[scene], 0.0)


_WRITERS: dict[str, Callable[[Path, SceneBatch, int], None]] = {
    "lorasub": lambda root, batch, scene: write_capture(root, batch, scene=scene),
    "nerfstudio": _write_nerfstudio,
    "opencv_cameras": _write_opencv_cameras,
}


VERSION = 1


def write_capture(folder: str | os.PathLike[str], batch: SceneBatch, *, scene: int = 0) -> None:
    """Write one scene of a batch: ``capture.json``, ``images/*.png``, ``depth/*.npy`` and ``object_masks/*.png``.

    Depth and poses are written in the source's units (the batch's times ``scale``). ``capture.json`` is written last: a
    folder that has one is complete.

    Args:
        folder: made if it is missing.
        batch: the scenes.
        scene: which one.

    Raises:
        DataError: there is no such scene.
    """
    if not 0 <= scene < len(batch):
        raise DataError(f"scene {scene} was asked for, but the batch holds {len(batch)}")
    root = Path(folder)
    scale = float(batch.scale[scene])
    frames = []
    for view in range(batch.num_views):
        entry: dict[str, Any] = {
            "name": f"{view:06d}",
            "image": f"images/{view:06d}.png",
            "intrinsics": batch.intrinsics[scene, view].tolist(),
        }
        write_image(root / entry["image"], batch.images[scene, view])
        if batch.pose_valid[scene, view]:
            pose = batch.cam_from_world[scene, view].double().clone()
            pose[:, 3] *= scale
            entry["cam_from_world"] = pose.tolist()
        if batch.valid[scene, view].any():
            entry |= {"depth": f"depth/{view:06d}.npy", "depth_unit": 1.0}
            depth = torch.where(batch.valid[scene, view], batch.depth[scene, view] * scale, 0.0)
            write_depth_npy(root / entry["depth"], depth)
        if batch.object_masks is not None:
            entry["object_mask"] = f"object_masks/{view:06d}.png"
            write_mask(root / entry["object_mask"], batch.object_masks[scene, view])
        frames.append(entry)
    content: dict[str, Any] = {
        "version": VERSION,
        "metric": bool(batch.metric[scene]),
        "source": batch.scene_ids[scene],
        "frames": frames,
    }
    if batch.labels is not None and batch.labels[scene] >= 0:
        content["label"] = int(batch.labels[scene])
    write_json(root / "capture.json", content)

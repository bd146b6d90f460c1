"""Write scenes in lorasub's own layout, which :class:`lorasub.data.readers.capture_json.CaptureJson` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from lorasub.errors import DataError
from lorasub.exports.images import write_depth_npy, write_image, write_mask
from lorasub.files import write_json
from lorasub.structures import SceneBatch

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

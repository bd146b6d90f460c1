"""ClearPose (Chen et al. 2022): transparent objects on tables, with the true depth that their sensor did not see.

A folder a scene, whole or thinned out to every 100th frame as for the paper: ``000000-color.png``, ``-depth.png`` (of
the sensor), ``-depth_true.png`` (objects rendered into it), ``-label.png`` (which object is where; ClearPose's own
loaders count those below 200) and ``metadata.mat``, which holds a struct for each frame with ``intrinsic_matrix``,
``rotation_translation_matrix`` (camera to world, metres) and ``factor_depth`` (steps a metre).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame, pinhole
from lorasub.data.masks import MaskFile
from lorasub.data.paths import inside, numbered
from lorasub.data.readers.base import Reader, pose_from_camera_to_world
from lorasub.data.text import reason
from lorasub.errors import DataError
from lorasub.files import content_fault

FILE = "metadata.mat"
COLOR = "-color.png"
#: Objects are numbered from 1; above it stands what is not one of the transparent ones.
LARGEST_OBJECT = 199


@dataclass(frozen=True, kw_only=True)
class ClearPose(Reader):
    """Reader of ClearPose. Needs scipy (``pip install 'lorasub[clearpose]'``).

    Attributes:
        depth: ``"true"``: with the transparent objects; ``"sensor"``: what the camera measured, wrong on them.
    """

    format: ClassVar[str] = "clearpose"
    layout: ClassVar[tuple[str, ...]] = (FILE, f"*{COLOR}")

    depth: Literal["true", "sensor"] = "true"

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return (root / FILE).is_file() and bool(numbered(root, f"*{COLOR}"))

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        path = inside(root, FILE)
        entries = _load(path)
        images = numbered(root, f"*{COLOR}")
        suffix = "-depth_true.png" if self.depth == "true" else "-depth.png"
        frames = []
        for image in images:
            name = image.name[: -len(COLOR)]
            if name not in entries:
                raise DataError(f"{path}: it holds no entry '{name}' for {image.name}")
            depth, labels = inside(root, name + suffix), inside(root, f"{name}-label.png")
            frames.append(_frame(path, name, entries[name], image, depth, labels))
        lacking = sum(frame.depth is None for frame in frames)
        notes = (f"{lacking} of {len(frames)} images have no {suffix.removeprefix('-')}",) if lacking else ()
        return Capture(name=root.name, root=root, frames=tuple(frames), metric=True, format=self.format, notes=notes)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ModuleNotFoundError as error:
        raise DataError(f"{path}: reading it needs the package scipy: pip install 'lorasub[clearpose]'") from error
    try:
        content: Mapping[str, Any] = loadmat(path, simplify_cells=True)
    # truncated files surface as any of these, in scipy's parser or in zlib below it
    except (MatReadError, OSError, ValueError, TypeError, IndexError, NotImplementedError, zlib.error) as error:
        if isinstance(error, NotImplementedError):
            raise DataError(f"{path}: MATLAB 7.3 files are not supported; save it with save(..., '-v7')") from error
        problem = content_fault(path) or f"it is damaged or truncated ({reason(error, path)})"
        raise DataError(f"{path}: it cannot be read as a MATLAB file: {problem}") from error
    return content


def _frame(path: Path, name: str, entry: Mapping[str, Any], image: Path, depth: Path, labels: Path) -> Frame:
    try:
        camera = torch.as_tensor(entry["intrinsic_matrix"], dtype=torch.float64)
        pose = torch.as_tensor(entry["rotation_translation_matrix"], dtype=torch.float64)
        steps = float(entry["factor_depth"])
        fx, fy, cx, cy = (float(camera[index]) for index in ((0, 0), (1, 1), (0, 2), (1, 2)))
        unit = 1 / steps
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise DataError(f"{path}: entry '{name}' lacks or garbles {error}") from error
    return Frame(
        name=name,
        image=image,
        intrinsics=pinhole(fx, fy, cx, cy, centres=0.0),  # a RealSense's own calibration
        cam_from_world=pose_from_camera_to_world(pose),
        depth=DepthFile(path=depth, unit=unit) if depth.is_file() else None,
        object_mask=MaskFile(path=labels, largest=LARGEST_OBJECT) if labels.is_file() else None,
    )

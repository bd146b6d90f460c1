"""``transforms.json`` of nerfstudio, instant-ngp and NeRF-synthetic: camera-to-world matrices with OpenGL axes.

NeRF-synthetic has ``transforms_train.json``, ``_val`` and ``_test`` instead, which are read as one capture. Settings
stand at the top or in a frame, which then wins. Entries whose image is missing are skipped with a note. Distortion is
removed when images are loaded; lenses other than OpenCV's perspective model are refused, and keys that nothing here
looks at are noted.

Formats: https://docs.nerf.studio/quickstart/data_conventions.html and NVlabs/instant-ngp, ``src/nerf_loader.cu``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lorasub.data.depth import DepthFile, RayDepth
from lorasub.data.frames import Capture, DepthSource, Frame, pinhole
from lorasub.data.images import IMAGE_SUFFIXES, image_size
from lorasub.data.paths import find_file, inside, natural_order, numbered
from lorasub.data.readers.base import Reader, keys_not_read, missing_depth, missing_images, without_lost
from lorasub.data.text import read_json_object
from lorasub.data.undistortion import UndistortedDepth
from lorasub.errors import DataError
from lorasub.geometry import cam_from_world_from_opengl

FILE = "transforms.json"
SPLITS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3")
#: Each says "this lens is not perspective" where it is neither false nor zero.
_OTHER_LENSES = ("is_fisheye", "fisheye", "latlong", "equirectangular", "spherical", "orthographic", "k4", "k5", "k6")
#: Poses that change while a frame is taken.
_ROLLING = ("rolling_shutter", "transform_matrix_start", "transform_matrix_end")
_READ = {
    *("frames", "camera_model", "file_path", "transform_matrix", "w", "h", "fl_x", "fl_y", "cx", "cy", *COEFFICIENTS),
    *("camera_angle_x", "camera_angle_y", "x_fov", "y_fov", *_OTHER_LENSES),
    *("depth_file_path", "depth_path", "depth_unit_scale_factor", "integer_depth_scale", "enable_depth_loading"),
    "applied_scale",
}
#: Keys that say nothing about the geometry of images: splits, training, colours, where files lie.
_NO_GEOMETRY = {
    *("aabb_scale", "scale", "offset", "up", "render_aabb", "n_extra_learnable_dims", "applied_transform"),
    *("ply_file_path", "colmap_im_id", "sharpness", "time", "rotation", "name", "fix_premult"),
    *("train_filenames", "val_filenames", "test_filenames", "white_transparent", "black_transparent", "is_hdr"),
    *("auto_scale_poses_override", "orientation_override", "scene", "timestamp", "crop", "sharpen", "image_id"),
}


@dataclass(frozen=True, kw_only=True)
class Nerfstudio(Reader):
    """Reader of ``transforms.json``.

    Attributes:
        file: the JSON file; empty takes ``transforms.json``, or else the splits of NeRF-synthetic, or the only
            ``transforms*.json`` there is.
        metric: whether the world unit is the metre; structure from motion leaves the scale open.
        depth_unit: world units per stored unit of depth files of integers, where the file does not say
            (``depth_unit_scale_factor``). Depth in floats is in world units unless the file says so.
        depth_channel: of EXR depth, where channels' names do not tell which one is depth.
        depth_along_ray: depth files state distances from the camera's centre, not depth along z.
    """

    format: ClassVar[str] = "nerfstudio"
    layout: ClassVar[tuple[str, ...]] = ("transforms*.json",)

    file: str = ""
    metric: bool = False
    depth_unit: float = 0.001
    depth_channel: str = ""
    depth_along_ray: bool = False

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return bool(self._files(root))

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        files = self._files(root)
        if not files:
            raise DataError(f"{root}: there is no {self.file or FILE}, and no other transforms*.json alone")
        entries = [entry for file in files for entry in _entries(file)]
        frames, missing = [], []
        for entry, file in sorted(entries, key=lambda pair: natural_order(str(pair[0].get("file_path", "")))):
            stated = str(entry.get("file_path") or "")
            if not stated:
                raise DataError(f"{file}: a frame has no file_path")
            image = find_file(root, stated, IMAGE_SUFFIXES)
            if image is None:
                missing.append(stated)
            else:
                frames.append(self._frame(entry, image, root, file))
        if frames and not any("transform_matrix" in entry for entry, _ in entries):
            raise DataError(
                f"{files[0]}: the entry of {frames[0].image.name} lacks or garbles 'transform_matrix', as do all others"
            )
        others = [path.name for path in numbered(root, "transforms*.json") if path not in files]
        notes = missing_images(missing, len(entries))
        notes += (f"not read: {', '.join(others)}",) if others else ()
        notes += keys_not_read([entry for entry, _ in entries], _READ | _NO_GEOMETRY, files[0])
        notes += _depth_notes([entry for entry, _ in entries])
        named = [stated for entry, _ in entries if (stated := self._depth_file(entry)[0])]
        notes += missing_depth([stated for stated in named if find_file(root, stated) is None])
        return Capture(
            name=root.name, root=root, frames=tuple(frames), metric=self.metric, format=self.format, notes=notes
        )

    def _files(self, root: Path) -> list[Path]:
        if self.file or (root / FILE).is_file():
            path = inside(root, self.file or FILE)
            return [path] if path.is_file() else []
        splits = [root / name for name in SPLITS if (root / name).is_file()]
        if splits:
            return splits
        others = numbered(root, "transforms*.json")
        return others if len(others) == 1 else []

    def _frame(self, entry: Mapping[str, Any], image: Path, root: Path, file: Path) -> Frame:
        try:
            matrix = entry.get("transform_matrix")
            pose = None if matrix is None else torch.tensor(matrix, dtype=torch.float64)
            distortion = tuple(float(entry.get(name) or 0.0) for name in COEFFICIENTS)
            size = (int(entry["w"]), int(entry["h"])) if "w" in entry and "h" in entry else None
            if size is not None and min(size) < 1:
                raise ValueError(f"w and h, which are {size[0]} and {size[1]}")
            intrinsics = _intrinsics(entry, size or _size_of(image))
            depth = self._depth(entry, root, intrinsics, distortion)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise DataError(f"{file}: the entry of {image.name} lacks or garbles {error}") from error
        if pose is not None and pose.shape not in ((4, 4), (3, 4)):
            raise DataError(f"{file}: transform_matrix of {image.name} is {list(pose.shape)}, not 4 x 4")
        if pose is not None:
            pose = without_lost(pose, f"{file}: transform_matrix of {image.name}")
        return Frame(
            name=image.relative_to(root).as_posix(),
            image=image,
            intrinsics=intrinsics,
            cam_from_world=None if pose is None else cam_from_world_from_opengl(pose),
            depth=depth,
            distortion=distortion if any(distortion) else (),
            camera_size=size,
        )

    def _depth_file(self, entry: Mapping[str, Any]) -> tuple[str, float, float]:
        """The stated path of a frame's depth, empty without one, and the units of integer and of float files.

        It is nerfstudio's, or else instant-ngp's. Nerfstudio's poses have been multiplied by ``applied_scale``, and its
        depth has not.
        """
        if stated := entry.get("depth_file_path"):
            scale, factor = float(entry.get("applied_scale") or 1.0), entry.get("depth_unit_scale_factor")
            return str(stated), scale * float(factor or self.depth_unit), scale * float(factor or 1.0)
        if (stated := entry.get("depth_path")) and _ngp_depth_is_on(entry):
            return str(stated), float(entry["integer_depth_scale"]), 1.0
        return "", 1.0, 1.0

    def _depth(
        self, entry: Mapping[str, Any], root: Path, intrinsics: Tensor, distortion: tuple[float, ...]
    ) -> DepthSource | None:
        stated, unit, unit_of_floats = self._depth_file(entry)
        path = find_file(root, stated) if stated else None
        if path is None:
            return None
        depth: DepthSource = DepthFile(path=path, unit=unit, float_unit=unit_of_floats, channel=self.depth_channel)
        if any(distortion):
            depth = UndistortedDepth(depth=depth, intrinsics=intrinsics, distortion=distortion)
        return RayDepth(depth=depth, intrinsics=intrinsics) if self.depth_along_ray else depth


def _size_of(image: Path) -> tuple[int, int]:
    """The image's own size; of one that cannot be opened any, since loading it will say what is wrong."""
    try:
        return image_size(image)
    except DataError:
        return 64, 64


def _entries(file: Path) -> list[tuple[dict[str, Any], Path]]:
    """The frames of a file, each with the settings at the top that it does not have itself.

    Raises:
        DataError: the file is no such JSON, or a lens is not perspective.
    """
    content = read_json_object(file)
    frames = content.pop("frames", None)
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise DataError(f"{file}: expected an object with a list 'frames'")
    entries = [{**content, **frame} for frame in frames]
    for entry in entries:
        _refuse_other_lenses(entry, file)
    return [(entry, file) for entry in entries]


def _refuse_other_lenses(entry: Mapping[str, Any], file: Path) -> None:
    where = f"{file}: {entry.get('file_path', 'a frame')}"
    model = str(entry.get("camera_model") or entry.get("camera_type") or "OPENCV").upper()
    if model not in PERSPECTIVE:
        raise DataError(f"{where}: camera model {model} is not supported, only {', '.join(PERSPECTIVE)}")
    lenses = [key for key in entry if key in _OTHER_LENSES or str(key).startswith(("ftheta", "omnidirectional"))]
    # all coefficients of an f-theta lens together make the lens, whichever of them are zero
    if flags := [key for key in lenses if entry[key] not in (None, False, 0, 0.0) or key.startswith("ftheta")]:
        raise DataError(
            f"{where}: the lens is not perspective ({flags[0]} is {entry[flags[0]]}), which is not supported; "
            "undistort the images first"
        )
    if moving := [key for key in _ROLLING if entry.get(key) and entry[key] != [0, 0, 0, 0]]:
        raise DataError(f"{where}: the camera moves within a frame ({moving[0]}), which is not supported")


def _intrinsics(entry: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
    width, height = size
    fx = _focal(entry, "fl_x", ("camera_angle_x",), "x_fov", width)
    fy = _focal(entry, "fl_y", ("camera_angle_y",), "y_fov", height)
    if fx is None and fy is None:
        raise KeyError("fl_x or camera_angle_x")
    fx, fy = fx or fy, fy or fx
    assert fx is not None
    assert fy is not None
    return pinhole(fx, fy, float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2)))


def _focal(entry: Mapping[str, Any], focal: str, radians: Sequence[str], degrees: str, pixels: int) -> float | None:
    if focal in entry:
        return float(entry[focal])
    angle = next((float(entry[name]) for name in radians if name in entry), None)
    if angle is None and degrees in entry:
        angle = math.radians(float(entry[degrees]))
    if angle is not None and not 0 < angle < math.pi:
        raise ValueError(f"{radians[0]}, which is {angle:g}: a field of view lies between 0 and pi (radians)")
    return None if angle is None else 0.5 * pixels / math.tan(0.5 * angle)


def _ngp_depth_is_on(entry: Mapping[str, Any]) -> bool:
    """instant-ngp reads depth only where its scale is stated, unless it is told not to."""
    return bool(entry.get("enable_depth_loading", True)) and float(entry.get("integer_depth_scale") or 0) > 0


def _depth_notes(entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    unused = [entry for entry in entries if entry.get("depth_path") and not entry.get("depth_file_path")]
    unused = [entry for entry in unused if not _ngp_depth_is_on(entry)]
    if not unused:
        return ()
    why = "enable_depth_loading is false" if "integer_depth_scale" in unused[0] else "there is no integer_depth_scale"
    return (f"depth_path of {len(unused)} frames is not read: {why}",)

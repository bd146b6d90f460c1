"""The camera of a folder whose layout does not state one: from a calibration file beside the images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from lorasub.data.depth import DepthFile
from lorasub.data.frames import DepthSource, pinhole
from lorasub.data.paths import is_hidden
from lorasub.data.text import read_json_object, read_rows, read_text, to_float
from lorasub.data.undistortion import UndistortedDepth
from lorasub.errors import DataError

#: Names of calibration files, the most telling first; upper and lower case do not matter.
FILES = (
    *("camera-intrinsics.txt", "camera_intrinsics.txt", "intrinsics.k.txt", "intrinsics.txt", "intrinsic.txt"),
    *("calibration.txt", "calib.txt", "k.txt", "camera.txt", "intrinsics_color.txt", "intrinsic_color.txt"),
    *("camera_intrinsic.json", "camera_intrinsics.json", "intrinsic.json", "intrinsics.json", "calibration.json"),
    *("camera_primesense.json", "camera.json", "camera.yaml", "camera_info.yaml", "calibration.yaml", "calib.yaml"),
    *("intrinsics.yaml", "intrinsic.yaml"),
)
_LENS = ("k1", "k2", "p1", "p2", "k3")
#: Names under which a depth scale stands: Open3D's, ORB-SLAM's, and others'.
_DEPTH_SCALE = ("depth_scale", "depthmapfactor", "png_depth_scale", "depth_map_factor", "depth_factor")
_NAMES = "|".join((*("fx", "fy", "cx", "cy", "width", "height"), *_LENS, *_DEPTH_SCALE))
_NAMED = re.compile(rf"\b({_NAMES})\b['\"]?\s*[:=]\s*([-+.\deE]+)", re.IGNORECASE)
#: Lenses that are not perspective, unless it says "no" behind.
_OTHER_LENS = re.compile(
    r"(?<![a-z])(is_)?(fisheye|kannala\w*|equidistant|omni\w*|equirectangular|panorama\w*|spherical|double_?sphere|e?ucm|"
    r"mei|f_?theta)(?![a-z])(?!['\"]?\s*[:=]\s*['\"]?(0|false|no|none|null)\b)",
    re.IGNORECASE,
)


#: fx, fy, cx, cy.
CameraNumbers = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A camera as a file states it, or an option, or as it is usual for a layout.

    Attributes:
        path: the file; None if no file states it.
        intrinsics: ``[3, 3]``, pixel centres at half integers.
        distortion: OpenCV's k1, k2, p1, p2, k3; empty for none.
        size: (width, height) of the images it is for; None where the file does not say.
        depth_unit: world units per stored unit of depth; None where the file does not say.
        assumed: whether nothing states it, so that it is the one that is usual for the layout.
    """

    path: Path | None
    intrinsics: Tensor
    distortion: tuple[float, ...] = ()
    size: tuple[int, int] | None = None
    depth_unit: float | None = None
    assumed: bool = False

    @classmethod
    def of_folder(
        cls, root: Path, given: CameraNumbers | None, usual: CameraNumbers, size: tuple[int, int]
    ) -> Calibration:
        """Returns the camera that an option gives, or else a file in the folder, or else the layout's usual one.

        Args:
            root: the folder.
            given: fx, fy, cx, cy, counting pixel centres from 0; None if the option is not set.
            usual: likewise.
            size: (width, height) of the images that the usual one is for.
        """
        if given is not None:
            return cls(None, pinhole(*given, centres=0.0))
        stated = find_calibration(root)
        return cls(None, pinhole(*usual, centres=0.0), size=size, assumed=True) if stated is None else stated


def registered_depth(path: Path, camera: Calibration | None, *, unit: float | None, usual_unit: float) -> DepthSource:
    """A depth file that is registered to its colour image, and was seen through the same lens.

    Args:
        path: the file.
        camera: that is stated for the image; None if none is.
        unit: that was asked for; None takes the camera's, or else the usual one.
        usual_unit: of the layout.
    """
    stated = None if camera is None else camera.depth_unit
    depth = DepthFile(path=path, unit=unit or stated or usual_unit, float_unit=unit or 1.0)
    if camera is None or not any(camera.distortion):
        return depth
    return UndistortedDepth(depth=depth, intrinsics=camera.intrinsics, distortion=camera.distortion)


def depth_unit_note(camera: Calibration | None, unit: float | None) -> tuple[str, ...]:
    """The note about a unit of depth that was taken from a calibration file; none if it was not."""
    if camera is None or camera.path is None or camera.depth_unit is None or unit is not None:
        return ()
    return (f"the depth unit is {camera.depth_unit:g}, from {camera.path.name}",)


def find_calibration(root: Path, *, centres: float = 0.0) -> Calibration | None:
    """The camera in the first of :data:`FILES` that ``root`` holds; None if it holds none.

    Files hold a 3 x 3, 3 x 4 or 4 x 4 matrix; or ``fx fy cx cy``, perhaps with OpenCV's distortion (k1 k2 p1 p2 [k3])
    behind; or these with their names; or JSON or YAML of Open3D (``intrinsic_matrix``, column by column), ROS and
    OpenCV (``camera_matrix``, row by row) or ORB-SLAM (``Camera.fx``).

    Args:
        root: the folder.
        centres: where the file puts the centre of the first pixel, see :func:`~lorasub.data.frames.pinhole`.

    Raises:
        DataError: the file is there, and nothing of the above.
    """
    there = {child.name.lower(): child for child in root.iterdir() if not is_hidden(child.name) and child.is_file()}
    path = next((there[name] for name in FILES if name in there), None)
    return None if path is None else read_calibration(path, centres=centres)


def read_calibration(path: Path, *, centres: float = 0.0) -> Calibration:
    """Read a calibration file; see :func:`find_calibration`.

    Raises:
        DataError: it holds no camera in any of these forms.
    """
    size = None
    text = re.sub(r"#.*", "", read_text(path))
    if other := _OTHER_LENS.search(text):
        raise DataError(f"{path}: the lens model {other[0]} is not supported; undistort the images first")
    stated = _NAMED.findall(text.lower())
    named = dict(stated)
    scale = next((to_float(named[name], path) for name in _DEPTH_SCALE if name in named), None)
    if scale is not None and not 0 < scale < float("inf"):
        raise DataError(f"{path}: the scale of depth is {scale:g}; it must be positive")
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        fx, fy, cx, cy, distortion, size = _from_mapping(path)
    elif len(named) >= 4 and {"fx", "fy", "cx", "cy"} <= set(named):
        _refuse_several(stated, path)
        values = {name: to_float(word, path) for name, word in named.items()}
        fx, fy, cx, cy = (values[name] for name in ("fx", "fy", "cx", "cy"))
        distortion = tuple(values.get(name, 0.0) for name in _LENS)
        if {"width", "height"} <= set(values):
            size = int(values["width"]), int(values["height"])
    else:
        fx, fy, cx, cy, distortion = _from_rows(path)
    if fx <= 2 or fy <= 2:
        raise DataError(f"{path}: fx = {fx:g}, fy = {fy:g} are no focal lengths in pixels")
    intrinsics = pinhole(fx, fy, cx, cy, centres=centres)
    # most state steps per metre, RealSense's tools metres per step
    unit = None if scale is None else scale if scale < 1 else 1 / scale
    return Calibration(path, intrinsics, distortion if any(distortion) else (), size, unit)


def _refuse_several(stated: Iterable[tuple[str, object]], path: Path) -> None:
    """A file with the numbers of several cameras (a stereo rig, colour and depth) does not say which one is meant."""
    first: dict[str, object] = {}
    for name, value in stated:
        if name in ("fx", "fy", "cx", "cy", *_LENS) and first.setdefault(name, value) != value:
            raise DataError(
                f"{path}: {name} is stated as {first[name]} and as {value}: it holds several cameras. Leave that of "
                "the colour images alone in it"
            )


def _from_rows(path: Path) -> tuple[float, float, float, float, tuple[float, ...]]:
    rows = [[to_float(word, path) for word in row] for row in read_rows(path)]
    if [len(row) for row in rows] in ([3] * 3, [4] * 3, [4] * 4):
        matrix = torch.tensor([row[:3] for row in rows[:3]], dtype=torch.float64)
        if matrix[2].tolist() == [0, 0, 1] and matrix[1, 0] == 0 and matrix[0, 1] == 0:
            return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]), ()
    elif len(rows) == 1 and len(row := rows[0]) == 9 and row[1] == row[3] == row[6] == row[7] == 0 and row[8] == 1:
        return row[0], row[4], row[2], row[5], ()
    elif len(rows) == 1 and len(rows[0]) in (4, 8, 9):
        fx, fy, cx, cy, *distortion = rows[0]
        return fx, fy, cx, cy, tuple(distortion)
    raise DataError(
        f"{path}: expected a 3 x 3 or 4 x 4 matrix, or one line 'fx fy cx cy [k1 k2 p1 p2 [k3]]', got rows of "
        f"{[len(row) for row in rows]} numbers"
    )


def _open3d_matrix(stated: object) -> tuple[float, float, float, float]:
    """Nine numbers column by column, as Open3D writes them; rows in lists, or row by row if the zeros say so."""
    numbers = torch.tensor(stated, dtype=torch.float64)
    if numbers.numel() != 9:
        raise ValueError(f"intrinsic_matrix has {numbers.numel()} numbers")
    matrix = numbers.reshape(3, 3)
    if numbers.ndim == 1 and not (matrix[2, :2] == 0).all():
        matrix = matrix.T
    if matrix[2].tolist() != [0, 0, 1] or matrix[0, 1] != 0 or matrix[1, 0] != 0:
        raise ValueError(f"intrinsic_matrix is no camera's: {stated}")
    return float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])


def _from_mapping(path: Path) -> tuple[float, float, float, float, tuple[float, ...], tuple[int, int] | None]:
    """JSON or YAML of Open3D, ROS, OpenCV and ORB-SLAM."""
    if path.suffix.lower() == ".json":
        content: object = read_json_object(path)
    else:
        # OpenCV's first line and tags are no YAML
        text = re.sub(r"^%YAML.*$|!!opencv-matrix", "", read_text(path), flags=re.MULTILINE)
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DataError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    entries = content if isinstance(content, dict) else {}
    stated = [(str(key).lower().rpartition(".")[2], value) for key, value in entries.items()]
    _refuse_several(stated, path)
    flat = dict(stated)
    try:
        rows = flat.get("camera_matrix", flat.get("k"))
        if "intrinsic_matrix" in flat:
            fx, fy, cx, cy = _open3d_matrix(flat["intrinsic_matrix"])
        elif rows is not None:
            numbers = rows.get("data") if isinstance(rows, dict) else rows
            fx, _, cx, _, fy, cy, *_ = (float(value) for value in torch.tensor(numbers).flatten().tolist())
        else:
            fx, fy, cx, cy = (float(flat[name]) for name in ("fx", "fy", "cx", "cy"))
        lens = flat.get("distortion_coefficients", flat.get("dist_coeffs", [flat.get(name, 0.0) for name in _LENS]))
        lens = lens.get("data") if isinstance(lens, dict) else lens
        distortion = tuple(float(value) for value in torch.tensor(lens).flatten().tolist())
        width, height = (flat.get(name, flat.get(f"image_{name}")) for name in ("width", "height"))
        size = None if width is None or height is None else (int(width), int(height))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise DataError(
            f"{path}: no camera as Open3D writes it (an object with 9 numbers 'intrinsic_matrix'), as ROS does "
            f"('camera_matrix'), nor one with fx, fy, cx, cy: {error}"
        ) from error
    if str(flat.get("distortion_model", "plumb_bob")) not in ("plumb_bob", "rational_polynomial", "none", "radtan"):
        raise DataError(
            f"{path}: the lens model {flat['distortion_model']} is not supported; undistort the images first"
        )
    return fx, fy, cx, cy, distortion, size

"""COLMAP reconstructions: posed images with dense depth maps, or with sparse points as sparse depth.

The model (``cameras``, ``images``, ``points3D``; ``.txt`` or ``.bin``) stands in ``sparse/0``, ``sparse``, the folder
itself or any folder directly in it; the images in ``images`` or the folder itself. Poses are camera-from-world already,
pixel centres at half integers, the scale is open. A dense workspace has depth maps in ``stereo/depth_maps``: geometric
ones, which agree between views, or else photometric ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lorasub.data.depth import SparseDepth, StereoDepth
from lorasub.data.frames import Capture, DepthSource, Frame, pinhole
from lorasub.data.images import IMAGE_SUFFIXES
from lorasub.data.paths import find_file, inside, natural_order, subfolders
from lorasub.data.readers.base import Reader, missing_images, pose_from_quaternion
from lorasub.data.readers.colmap_model import (
    ColmapCamera,
    ColmapImage,
    ColmapModel,
    is_colmap_model,
    read_colmap_model,
)
from lorasub.errors import DataError
from lorasub.geometry import invert_pose, world_to_camera

#: Folders of resized copies, as Gaussian splatting and nerfstudio make them.
_COPIES = re.compile(r"images_\d+")
#: Where dense depth maps lie, and which of them, the better first.
_STEREO, _MAPS = Path("stereo/depth_maps"), ("geometric", "photometric")
#: OpenCV's order of coefficients.
DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
#: Parameters of COLMAP's perspective camera models, in its order.
PARAMETERS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("fx", "fy", "cx", "cy", *DISTORTION),
}


@dataclass(frozen=True, kw_only=True)
class Colmap(Reader):
    """Reader of COLMAP models.

    Attributes:
        model: folder of the model, relative to the root; empty looks in the usual places.
        images: folder of the images, relative to the root; empty looks in ``images``, resized copies of it
            (``images_4``) and the root.
        metric: whether the model was scaled to metres.
    """

    format: ClassVar[str] = "colmap"
    layout: ClassVar[tuple[str, ...]] = ("sparse/0/", "images/")

    model: str = ""
    images: str = ""
    metric: bool = False

    def can_read(self, root: Path) -> bool:
        """See :class:`Reader`."""
        return self._model_folder(root) is not None

    def read(self, root: Path) -> Capture:
        """See :class:`Reader`."""
        folder = self._model_folder(root)
        if folder is None:
            raise DataError(f"{root}: no COLMAP model (cameras and images, .txt or .bin) here or in sparse/0")
        model = read_colmap_model(folder)
        image_folder = self._image_folder(root)
        frames, missing = [], []
        for entry in sorted(model.images, key=lambda entry: natural_order(entry.name)):
            # names are relative to the folder of images, whatever they begin with
            image = find_file(root, f"{image_folder.relative_to(root).as_posix()}/{entry.name}", IMAGE_SUFFIXES)
            if image is not None:
                frames.append(_frame(entry, model, image, folder, _stereo_depth(root, entry.name)))
            else:
                missing.append(entry.name)
        return Capture(
            name=root.name,
            root=root,
            frames=tuple(frames),
            metric=self.metric,
            format=self.format,
            notes=missing_images(missing, len(model.images)) + self._other_models(folder) + _stereo_notes(root, frames),
        )

    def _other_models(self, folder: Path) -> tuple[str, ...]:
        """The note about other reconstructions of the same images; none if there are none, or one was named."""
        others = [other.name for other in subfolders(folder.parent) if other != folder and is_colmap_model(other)]
        if self.model or not others or not folder.name.isdigit():
            return ()
        return (f"not read: other models beside {folder.name} in {folder.parent.name}: {', '.join(others)}",)

    def _image_folder(self, root: Path) -> Path:
        """``images``, or else copies of another size (``images_4``), or else the root."""
        if self.images:
            return inside(root, self.images)
        usual = [root / "images", *(folder for folder in subfolders(root) if _COPIES.fullmatch(folder.name))]
        return next((folder for folder in usual if folder.is_dir()), root)

    def _model_folder(self, root: Path) -> Path | None:
        if self.model:
            candidates = [inside(root, self.model)]
        else:
            candidates = [root / "sparse" / "0", root / "sparse", root, *subfolders(root)]
        return next((folder for folder in candidates if is_colmap_model(folder)), None)


def _stereo_depth(root: Path, name: str) -> StereoDepth | None:
    """The dense depth map of an image; None if there is none."""
    folder = inside(root, _STEREO)
    paths = (inside(folder, f"{name}.{kind}.bin") for kind in _MAPS)
    return next((StereoDepth(path=path) for path in paths if path.is_file()), None)


def _stereo_notes(root: Path, frames: Sequence[Frame]) -> tuple[str, ...]:
    """Notes on dense depth maps; nothing if there are none."""
    read = [frame.depth.path for frame in frames if isinstance(frame.depth, StereoDepth)]
    photometric = sum(path.name.endswith(".photometric.bin") for path in read)
    notes = []
    if read:
        kinds = f" ({photometric} of them photometric: they have outliers)" if photometric else ""
        notes.append(f"depth of {len(read)} of {len(frames)} frames is COLMAP's own, from {_STEREO}{kinds}")
    elif (root / _STEREO).is_dir():
        notes.append(f"{_STEREO} holds no depth map of any of these images")
    others = [folder.name for folder in subfolders(root) if (folder / _STEREO).is_dir()]
    if others:
        notes.append(
            f"not read: {others[0]}/{_STEREO}, which belongs to the images of {others[0]}; give {root / others[0]} "
            "to read these with their depth"
        )
    return tuple(notes)


def _frame(entry: ColmapImage, model: ColmapModel, image: Path, folder: Path, dense: StereoDepth | None) -> Frame:
    camera = model.cameras.get(entry.camera_id)
    if camera is None:
        raise DataError(f"{folder}: image {entry.name} belongs to camera {entry.camera_id}, which is not there")
    intrinsics, distortion = camera_parameters(camera, folder)
    w, x, y, z = entry.quaternion
    # COLMAP's numbers are the extrinsics themselves, so the inverse of "camera to world" undoes the helper's inversion
    inverse = pose_from_quaternion(entry.translation, (x, y, z, w), folder / f"images ({entry.name})")
    pose = None if inverse is None else invert_pose(inverse)
    seen = [model.points[i] for i in entry.point_ids.tolist() if i in model.points]
    depth: DepthSource | None = dense
    if depth is None and seen and pose is not None:
        points = world_to_camera(torch.tensor(seen, dtype=torch.float64), pose)
        depth = SparseDepth(points=points, intrinsics=intrinsics)
    return Frame(
        name=entry.name,
        image=image,
        intrinsics=intrinsics,
        cam_from_world=pose,
        depth=depth,
        distortion=distortion,
        camera_size=(camera.width, camera.height) if camera.width > 0 and camera.height > 0 else None,
    )


def camera_parameters(camera: ColmapCamera, where: Path) -> tuple[Tensor, tuple[float, ...]]:
    """Intrinsics and OpenCV distortion of a COLMAP camera.

    Raises:
        DataError: the model is not a perspective one, or has the wrong number of parameters.
    """
    if camera.model not in PARAMETERS:
        raise DataError(
            f"{where}: camera model {camera.model} is not supported, only {', '.join(PARAMETERS)}; "
            "undistort the images first (colmap image_undistorter)"
        )
    names = PARAMETERS[camera.model]
    if len(camera.params) != len(names):
        raise DataError(f"{where}: {camera.model} has {len(names)} parameters, the file gives {len(camera.params)}")
    values = dict(zip(names, camera.params, strict=True))
    fx, fy = values.get("fx", values.get("f", 0.0)), values.get("fy", values.get("f", 0.0))
    intrinsics = pinhole(fx, fy, values["cx"], values["cy"])
    distortion = tuple(values.get(name, 0.0) for name in DISTORTION)
    return intrinsics, distortion if any(distortion) else ()

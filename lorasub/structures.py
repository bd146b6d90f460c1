"""What a batch of scenes is, and what a backbone says about it: the two types that every part of lorasub shares.

Conventions, everywhere: camera axes are OpenCV's (x right, y down, z forward); extrinsics map world to camera; pixel
(i, j) is sampled at (j + 0.5, i + 0.5); depth is along z; images are float32 in [0, 1].

Sizes in this file: B scenes, S views of each, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from lorasub.errors import DataError

#: Fields of a SceneBatch that most data sets do not have at all, and that are None there.
_OPTIONAL = ("labels", "object_masks")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneBatch:
    """B scenes with S views each, with everything that is known about them.

    Missing knowledge is a mask, never a missing tensor: a scene without depth has ``valid`` all false, a view without
    a pose has ``pose_valid`` false, and losses and metrics skip just those.

    Attributes:
        images: ``[B, S, 3, H, W]`` float32 in [0, 1].
        intrinsics: ``[B, S, 3, 3]`` in pixels.
        cam_from_world: ``[B, S, 3, 4]`` OpenCV extrinsics; identity where ``pose_valid`` is false.
        pose_valid: ``[B, S]`` bool.
        depth: ``[B, S, H, W]`` z-depth in world units, 0 where invalid.
        valid: ``[B, S, H, W]`` bool, where depth is known.
        world_points: ``[B, S, H, W, 3]`` in world units, 0 where invalid. Meaningful where ``points_valid``.
        scale: ``[B]`` world units of the source per unit of this batch. 1 as read; after normalisation the factor that
            restores the source's units (multiply by it).
        metric: ``[B]`` bool, whether the source's unit is the metre.
        scene_ids: one name per scene, used in messages and result files.
        frame_ids: one tuple of S view names per scene.
        labels: ``[B]`` int64, the class of each scene for tasks that classify, -1 where unknown. Of scenes that are
            planar or real: 0 planar, 1 real. None where no scene has one.
        object_masks: ``[B, S, H, W]`` bool, the pixels of the objects that the data set is about (a transparent object,
            a face). None where no scene has them.
    """

    images: Tensor
    intrinsics: Tensor
    cam_from_world: Tensor
    pose_valid: Tensor
    depth: Tensor
    valid: Tensor
    world_points: Tensor
    scale: Tensor
    metric: Tensor
    scene_ids: tuple[str, ...]
    frame_ids: tuple[tuple[str, ...], ...]
    labels: Tensor | None = None
    object_masks: Tensor | None = None

    def __post_init__(self) -> None:
        b, s, c, h, w = self.images.shape
        expected = {
            "images": (b, s, 3, h, w),
            "intrinsics": (b, s, 3, 3),
            "cam_from_world": (b, s, 3, 4),
            "pose_valid": (b, s),
            "depth": (b, s, h, w),
            "valid": (b, s, h, w),
            "world_points": (b, s, h, w, 3),
            "scale": (b,),
            "metric": (b,),
            "labels": (b,),
            "object_masks": (b, s, h, w),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            found = tuple(value.shape)
            if found != shape:
                raise DataError(
                    f"SceneBatch.{name} has shape {found}; with images {(b, s, c, h, w)} it must be {shape}"
                )
        if len(self.scene_ids) != b or len(self.frame_ids) != b or any(len(f) != s for f in self.frame_ids):
            raise DataError(f"SceneBatch needs {b} scene_ids and {b} x {s} frame_ids, one per scene and per view")

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def num_views(self) -> int:
        """S, the number of views of each scene."""
        return self.images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def points_valid(self) -> Tensor:
        """``[B, S, H, W]`` bool: depth and pose are both known, so that ``world_points`` means something."""
        return self.valid & self.pose_valid[..., None, None]

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields exchanged; shapes are checked again."""
        return dataclasses.replace(self, **changes)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every tensor, as ``Tensor.to``. Lightning calls this when a batch arrives; masks stay masks."""
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None, non_blocking)

        return self._map(move)

    def pin_memory(self) -> Self:
        """Copy every tensor to page-locked memory. Torch's data loader calls this."""
        return self._map(Tensor.pin_memory)

    def select_scenes(self, index: Tensor | list[int]) -> Self:
        """The scenes at ``index``, in that order; duplicates are allowed."""
        order = [int(i) for i in index]
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                changes[field.name] = value[order] if isinstance(value, Tensor) else tuple(value[i] for i in order)
        return self.replace(**changes)

    def select_views(self, index: Tensor | list[int] | list[list[int]]) -> Self:
        """The same scenes with the views at ``index`` (in that order); duplicates are allowed.

        Args:
            index: ``[V]`` for all scenes alike, or ``[B, V]`` with each scene's own.
        """
        order = torch.as_tensor(index, dtype=torch.long).cpu().expand(self.images.shape[0], -1)
        scene = torch.arange(self.images.shape[0])[:, None]
        per_view = ("images", "intrinsics", "cam_from_world", "pose_valid", "depth", "valid", "world_points")
        changes: dict[str, Any] = {name: getattr(self, name)[scene, order] for name in per_view}
        if self.object_masks is not None:
            changes["object_masks"] = self.object_masks[scene, order]
        pairs = zip(self.frame_ids, order.tolist(), strict=True)
        changes["frame_ids"] = tuple(tuple(names[i] for i in chosen) for names, chosen in pairs)
        return self.replace(**changes)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        changes = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = function(value)
        return self.replace(**changes)

    @classmethod
    def concatenate(cls, batches: list[Self]) -> Self:
        """Join batches of equal S, H and W along the scene axis; this is what a data loader's collate calls.

        Where only some have labels or object masks, the others get -1 and empty masks.

        Raises:
            DataError: the list is empty, or sizes differ.
        """
        if not batches:
            raise DataError("SceneBatch.concatenate was given an empty list")
        sizes = {tuple(batch.images.shape[1:]) for batch in batches}
        if len(sizes) > 1:
            raise DataError(f"scenes of different sizes cannot share a batch: [S, 3, H, W] = {sorted(sizes)}")
        joined: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            values = [getattr(batch, field.name) for batch in batches]
            if field.name in _OPTIONAL:
                if all(value is None for value in values):
                    continue
                pairs = zip(batches, values, strict=True)
                values = [_unknown(batch, field.name) if value is None else value for batch, value in pairs]
            if isinstance(values[0], Tensor):
                joined[field.name] = torch.cat(values)
            else:
                joined[field.name] = tuple(item for value in values for item in value)
        return cls(**joined)


def _unknown(batch: SceneBatch, name: str) -> Tensor:
    if name == "labels":
        return torch.full_like(batch.metric, -1, dtype=torch.int64)
    return torch.zeros_like(batch.valid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a 3D backbone says about a batch of images. Absent parts are None (a head that is not there).

    Everything is in the first camera's frame and in the backbone's own unit.

    Attributes:
        pose_encodings: one ``[B, S, 9]`` per refinement iteration, the last is the answer: translation (3), quaternion
            xyzw (4), vertical and horizontal field of view in radians (2). Empty without a camera head.
        depth: ``[B, S, H, W]`` positive z-depth.
        depth_conf: ``[B, S, H, W]`` confidence, at least 1.
        world_points: ``[B, S, H, W, 3]`` in the first camera's frame.
        world_points_conf: ``[B, S, H, W]`` confidence, at least 1.
    """

    pose_encodings: tuple[Tensor, ...] = ()
    depth: Tensor | None = None
    depth_conf: Tensor | None = None
    world_points: Tensor | None = None
    world_points_conf: Tensor | None = None

    @property
    def pose_encoding(self) -> Tensor | None:
        """``[B, S, 9]`` of the last iteration, None without a camera head."""
        return self.pose_encodings[-1] if self.pose_encodings else None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every tensor, as ``Tensor.to``."""
        changes: dict[str, Any] = {"pose_encodings": tuple(pose.to(*args, **kwargs) for pose in self.pose_encodings)}
        for name in ("depth", "depth_conf", "world_points", "world_points_conf"):
            value = getattr(self, name)
            changes[name] = None if value is None else value.to(*args, **kwargs)
        return self.replace(**changes)

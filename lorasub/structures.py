"""Batches of scenes and predictions about them: the two types that every part of lorasub shares.

Conventions, everywhere: camera axes are OpenCV's (x right, y down, z forward); extrinsics map world to camera; pixel
(i, j) is sampled at (j + 0.5, i + 0.5); depth is along z; images are float32 in [0, 1].

Sizes in this file: B scenes, S views of each, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
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

    @classmethod
    def from_views(
        cls,
        images: Tensor | Sequence[Tensor],
        depth: Tensor | Sequence[Tensor] | None = None,
        *,
        intrinsics: Tensor | None = None,
        cam_from_world: Tensor | None = None,
        valid: Tensor | None = None,
        object_masks: Tensor | None = None,
        metric: bool = False,
        scene_id: str = "scene",
        frame_ids: Sequence[str] | None = None,
        label: int | None = None,
    ) -> Self:
        """Make a batch of one scene from its views; everything that is not given is derived or masked out.

        Args:
            images: ``[S, 3, H, W]``, or S images ``[3, H, W]``; float in [0, 1], or uint8.
            depth: ``[S, H, W]`` z-depth in world units; unknown where it is not positive or not finite.
            intrinsics: ``[S, 3, 3]``, or ``[3, 3]`` for all, in pixels with centres at half integers. Without it a
                field of view of 53 degrees along the longer side stands in, which nothing is compared with.
            cam_from_world: ``[S, 3, 4]`` or ``[S, 4, 4]`` OpenCV extrinsics; NaN where a view has none.
            valid: ``[S, H, W]`` bool, where depth is to be believed, beside what it says itself.
            object_masks: ``[S, H, W]`` bool.
            metric: whether the world unit is the metre.
            scene_id: name of the scene.
            frame_ids: names of the views; their numbers by default.
            label: class of the scene, for tasks that classify.

        Raises:
            DataError: something has another shape or range, or poses come without intrinsics.

        Example:
            >>> import torch
            >>> batch = SceneBatch.from_views(torch.rand(3, 3, 56, 84), depth=torch.ones(3, 56, 84))
            >>> batch.num_views, batch.image_size, bool(batch.pose_valid.any())
            (3, (56, 84), False)
        """
        from lorasub.geometry import world_points_from_depth

        views = _stack_views("images", images, 4)
        count, _, height, width = views.shape
        if views.dtype == torch.uint8:
            views = views.float() / 255
        elif not views.is_floating_point() or not bool(((views >= 0) & (views <= 1)).all()):
            raise DataError("SceneBatch.from_views: images must be uint8, or float between 0 and 1")
        known = torch.zeros(count, height, width, dtype=torch.bool)
        z = torch.zeros(count, height, width)
        if depth is not None:
            z = _stack_views("depth", depth, 3)
            _expect("depth", z, (count, height, width))
            known = torch.isfinite(z) & (z > 0)
            if valid is not None:
                _expect("valid", valid, (count, height, width))
                known = known & valid.bool()
            z = torch.where(known, z, 0.0)
        poses = torch.eye(3, 4, dtype=torch.float64).repeat(count, 1, 1)
        posed = torch.zeros(count, dtype=torch.bool)
        if cam_from_world is not None:
            if intrinsics is None:
                raise DataError("SceneBatch.from_views: poses need intrinsics, since fields of view are compared too")
            if tuple(cam_from_world.shape) not in ((count, 3, 4), (count, 4, 4)):
                _expect("cam_from_world", cam_from_world, (count, 3, 4))
            given = cam_from_world[:, :3].double()
            posed = torch.isfinite(given).flatten(1).all(1)
            poses = torch.where(posed[:, None, None], given, poses)
        if intrinsics is None:
            focal = float(max(height, width))
            intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        if intrinsics.ndim == 2:
            intrinsics = intrinsics.expand(count, *intrinsics.shape)
        _expect("intrinsics", intrinsics, (count, 3, 3))
        # in double precision: captures can stand far from their world's origin
        points = world_points_from_depth(z.double(), intrinsics.double(), poses)
        points = torch.where((known & posed[:, None, None])[..., None], points, 0.0)
        names = [str(view) for view in range(count)] if frame_ids is None else list(frame_ids)
        return cls(
            images=views.float()[None],
            intrinsics=intrinsics.float()[None],
            cam_from_world=poses.float()[None],
            pose_valid=posed[None],
            depth=z.float()[None],
            valid=known[None],
            world_points=points.float()[None],
            scale=torch.ones(1),
            metric=torch.tensor([metric]),
            scene_ids=(scene_id,),
            frame_ids=(tuple(names),),
            labels=None if label is None else torch.tensor([label]),
            object_masks=None if object_masks is None else object_masks.bool()[None],
        )

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        return shapes_of(self)

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


def require_scenes(batch: object) -> SceneBatch:
    """Return the batch itself if it is a :class:`SceneBatch`.

    Raises:
        DataError: it is something else, such as a dictionary.
    """
    if isinstance(batch, SceneBatch):
        return batch
    keys = f" with the keys {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else ""
    raise DataError(
        f"a batch must be a lorasub.SceneBatch, this data gives a {type(batch).__name__}{keys}. Let the data set "
        "return SceneBatch.from_views(images, depth=..., ...), and the loader collate_fn=SceneBatch.concatenate"
    )


def shapes_of(thing: Any) -> str:
    """A dataclass in one line for people: of tensors their dtype and shape, of long tuples the beginning."""
    words = [f"{f.name}={_short(getattr(thing, f.name))}" for f in dataclasses.fields(thing)]
    return f"{type(thing).__name__}({', '.join(words)})"


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        where = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}{where}"
    if isinstance(value, tuple | list):
        rest = ", ..." if len(value) > 3 else ""
        return f"({', '.join(map(_short, value[:3]))}{rest})"
    if isinstance(value, Mapping):
        rest = ", ..." if len(value) > 3 else ""
        return f"{{{', '.join(f'{key!r}: {_short(item)}' for key, item in list(value.items())[:3])}{rest}}}"
    return shapes_of(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else repr(value)


def _stack_views(name: str, values: Tensor | Sequence[Tensor], dims: int) -> Tensor:
    if isinstance(values, Mapping):
        raise DataError(f"SceneBatch.from_views: {name} is a dictionary with the keys {', '.join(map(str, values))}")
    try:
        stacked = values if isinstance(values, Tensor) else torch.stack([torch.as_tensor(value) for value in values])
    except (TypeError, RuntimeError, ValueError) as error:
        raise DataError(f"SceneBatch.from_views: {name} must be tensors of one size, one for each view") from error
    if stacked.ndim != dims or (dims == 4 and stacked.shape[1] != 3):
        wanted = "[S, 3, H, W]" if dims == 4 else "[S, H, W]"
        raise DataError(f"SceneBatch.from_views: {name} must be {wanted}, got {list(stacked.shape)}")
    return stacked


def _expect(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise DataError(f"SceneBatch.from_views: {name} must be {list(shape)}, got {list(value.shape)}")


def _unknown(batch: SceneBatch, name: str) -> Tensor:
    if name == "labels":
        return torch.full_like(batch.metric, -1, dtype=torch.int64)
    return torch.zeros_like(batch.valid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Predictions of a 3D backbone about a batch of images. Absent parts are None (a head that is not there).

    Everything is in the first camera's frame and in the backbone's own unit.

    Attributes:
        pose_encodings: one ``[B, S, 9]`` per refinement iteration, the last is the answer: translation (3), quaternion
            xyzw (4), vertical and horizontal field of view in radians (2). Empty without a camera head.
        depth: ``[B, S, H, W]`` positive z-depth.
        depth_conf: ``[B, S, H, W]`` confidence, at least 1.
        world_points: ``[B, S, H, W, 3]`` in the first camera's frame.
        world_points_conf: ``[B, S, H, W]`` confidence, at least 1.

    Example:
        >>> found = Predictions(depth=torch.ones(1, 2, 28, 28))
        >>> found.pose_encoding is None  # no camera head: metrics of poses are skipped
        True
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

    def __repr__(self) -> str:
        return shapes_of(self)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every tensor, as ``Tensor.to``."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are there, by name; poses as ``pose_encodings[0]`` and so on."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        poses = {f"pose_encodings[{index}]": pose for index, pose in enumerate(fields.pop("pose_encodings"))}
        return {name: tensor for name, tensor in fields.items() if tensor is not None} | poses

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy with a function applied to every tensor."""
        changes: dict[str, Any] = {n: function(t) for n, t in self.tensors().items() if not n.startswith("pose")}
        return self.replace(pose_encodings=tuple(map(function, self.pose_encodings)), **changes)

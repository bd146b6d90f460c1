"""A model that does not look at the images: the trivial baseline that numbers of real ones are read against."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lorasub.backbones.base import Backbone
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_tensors, write_tensors
from lorasub.geometry import encode_pose, normalize_scene
from lorasub.structures import Predictions, SceneBatch

#: No translation, no rotation, and a field of view of 60 degrees both ways.
_IDENTITY = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, torch.pi / 3, torch.pi / 3)


class ConstantGeometry(Backbone):
    """Predicts the same depth map and the same cameras for every scene.

    Without arguments: a plane facing the camera, seen by cameras that do not move. :meth:`mean_of` gives the mean depth
    map and the mean camera of each view of some scenes, which is as far as one gets without looking.

    Args:
        depth: ``[h, w]`` positive, or ``[S, h, w]`` for a map of each view; resized to the images. A constant by
            default. Views beyond the last map are given the last.
        poses: ``[S, 9]`` pose encodings of the views in the first one's frame; views beyond the last are given the
            last. The identity by default.

    Raises:
        ConfigError: tensors of another shape.
    """

    groups: Mapping[str, tuple[str, ...]] = {}
    patch_size = 1
    model_id = "constant"

    depth: Tensor
    poses: Tensor

    def __init__(self, depth: Tensor | None = None, poses: Tensor | None = None) -> None:
        super().__init__()
        depth = torch.ones(1, 1) if depth is None else depth
        poses = torch.tensor([_IDENTITY]) if poses is None else poses
        if (
            depth.ndim not in (2, 3)
            or not depth.numel()
            or poses.ndim != 2
            or poses.shape[1] != len(_IDENTITY)
            or not len(poses)
        ):
            raise ConfigError(
                "ConstantGeometry needs depth [h, w] or [S, h, w] and poses [S, 9], not "
                f"{list(depth.shape)} and {list(poses.shape)}"
            )
        self.register_buffer("depth", depth)
        self.register_buffer("poses", poses)

    @classmethod
    def mean_of(cls, batches: Iterable[SceneBatch], *, per_view: bool = False) -> Self:
        """The mean normalised depth of each pixel, and the mean pose encoding of each view, over all scenes.

        Pixels whose depth no scene knows, such as a sky, are given the mean of the known ones.

        Args:
            batches: scenes of equal size and number of views.
            per_view: a depth map for each view, instead of one for all views.

        Raises:
            ConfigError: no scene, no depth in any of them, or a view whose pose is not known in any of them.
        """
        axes = 0 if per_view else (0, 1)
        sums: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for batch in map(normalize_scene, batches):
            encoding = encode_pose(batch.cam_from_world, batch.intrinsics, batch.image_size)
            sums.append(
                (
                    torch.where(batch.valid, batch.depth, 0.0).sum(axes),
                    batch.valid.sum(axes),
                    torch.where(batch.pose_valid[..., None], encoding, 0.0).sum(0),
                    batch.pose_valid.sum(0),
                )
            )
        if not sums:
            raise ConfigError("ConstantGeometry.mean_of was given no scenes")
        depths, pixels, poses, views = (torch.stack(parts).sum(0) for parts in zip(*sums, strict=True))
        if not (pixels.any() and views.all()):
            raise ConfigError("the mean needs some depth, and every view's pose in at least one scene")
        everywhere = depths.sum() / pixels.sum()
        return cls(torch.where(pixels > 0, depths / pixels.clamp(min=1), everywhere), poses / views[:, None])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a safetensors file that :meth:`load` reads."""
        write_tensors(path, {"depth": self.depth, "poses": self.poses})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ConstantGeometry:
        """Reads what :meth:`save` wrote.

        Args:
            path: of the file.

        Raises:
            ArtefactError: it is missing, damaged, or something else.
        """
        tensors = read_tensors(path)
        if tensors.keys() != {"depth", "poses"}:
            raise ArtefactError(f"{path} holds {sorted(tensors)}, not the depth and poses of a ConstantGeometry")
        return cls(tensors["depth"], tensors["poses"])

    def forward(self, images: Tensor) -> Predictions:
        """The same for all ``images [B, S, 3, H, W]``, with confidence 1."""
        self.check_images(images)
        b, s, _, height, width = images.shape
        maps = self.depth if self.depth.ndim == 3 else self.depth[None]
        depth = F.interpolate(maps[None], size=(height, width), mode="bilinear", align_corners=False)[0]
        views = torch.arange(s, device=images.device)
        depth = depth[views.clamp(max=len(maps) - 1)].to(images.dtype).expand(b, s, height, width)
        index = views.clamp(max=len(self.poses) - 1)
        poses = self.poses[index].to(images.dtype).expand(b, s, -1)
        return Predictions(pose_encodings=(poses,), depth=depth, depth_conf=torch.ones_like(depth))

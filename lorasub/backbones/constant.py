"""A model that does not look at the images: the trivial baseline that numbers of real ones are read against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lorasub.backbones.base import Backbone
from lorasub.errors import ConfigError
from lorasub.geometry import encode_pose, normalize_scene
from lorasub.structures import Predictions, SceneBatch

#: No translation, no rotation, and a field of view of 60 degrees both ways.
_IDENTITY = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, torch.pi / 3, torch.pi / 3)


class ConstantGeometry(Backbone):
    """Predicts the same depth map and the same cameras for every scene.

    Without arguments: a plane facing the camera, seen by cameras that do not move. :meth:`mean_of` gives the mean depth
    map and the mean camera of each view of some scenes, which is as far as one gets without looking.

    Args:
        depth: ``[h, w]`` positive; resized to the images. A constant by default.
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
        if depth.ndim != 2 or poses.ndim != 2 or poses.shape[1] != len(_IDENTITY) or not len(poses):
            raise ConfigError(
                f"ConstantGeometry needs depth [h, w] and poses [S, 9], not {list(depth.shape)} and {list(poses.shape)}"
            )
        self.register_buffer("depth", depth)
        self.register_buffer("poses", poses)

    @classmethod
    def mean_of(cls, batches: Iterable[SceneBatch]) -> Self:
        """The mean normalised depth of each pixel, and the mean pose encoding of each view, over all scenes.

        Args:
            batches: scenes of equal size and number of views.

        Raises:
            ConfigError: no scene, or a pixel or a view that is not known in any of them.
        """
        sums: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for batch in map(normalize_scene, batches):
            encoding = encode_pose(batch.cam_from_world, batch.intrinsics, batch.image_size)
            sums.append(
                (
                    torch.where(batch.valid, batch.depth, 0.0).sum((0, 1)),
                    batch.valid.sum((0, 1)),
                    torch.where(batch.pose_valid[..., None], encoding, 0.0).sum(0),
                    batch.pose_valid.sum(0),
                )
            )
        if not sums:
            raise ConfigError("ConstantGeometry.mean_of was given no scenes")
        depths, pixels, poses, views = (torch.stack(parts).sum(0) for parts in zip(*sums, strict=True))
        if not (pixels.all() and views.all()):
            raise ConfigError("the mean needs every pixel's depth and every view's pose in at least one scene")
        return cls(depths / pixels, poses / views[:, None])

    def forward(self, images: Tensor) -> Predictions:
        """The same for all ``images [B, S, 3, H, W]``, with confidence 1."""
        self.check_images(images)
        b, s, _, height, width = images.shape
        depth = F.interpolate(self.depth[None, None], size=(height, width), mode="bilinear", align_corners=False)
        depth = depth.to(images.dtype).expand(b, s, height, width)
        index = torch.arange(s, device=images.device).clamp(max=len(self.poses) - 1)
        poses = self.poses[index].to(images.dtype).expand(b, s, -1)
        return Predictions(pose_encodings=(poses,), depth=depth, depth_conf=torch.ones_like(depth))

"""Scenes of a few views drawn from captures: the map-style data set behind :class:`lorasub.data.real.PosedRGBD`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from lorasub.data.decoding import Crop, View, ViewCache, load_view
from lorasub.data.frames import Capture, Frame
from lorasub.data.loading import EpochSampler
from lorasub.data.view_sampling import BaselineSampling
from lorasub.errors import ConfigError, DataError
from lorasub.geometry import world_points_from_depth
from lorasub.structures import SceneBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFormat:
    """How frames become tensors.

    Attributes:
        size: (H, W) of the images.
        crop: where the cut window is centred, see :func:`lorasub.data.decoding.load_view`.
    """

    size: tuple[int, int]
    crop: Crop = "principal_point"


class CaptureScenes(Dataset[SceneBatch]):
    """Scenes around reference frames: item i of epoch e is a pure function of (seed, e, i).

    Every frame of every capture is the reference of one scene an epoch (or ``length`` evenly spaced ones are); the
    other views are drawn anew in each epoch.

    Args:
        captures: what to draw from; views of one scene come from one capture.
        num_views: views of a scene.
        view_format: size and crop.
        sampling: how views are chosen.
        seed: seed of the choice.
        length: scenes an epoch; None takes one for each frame.
        cache_mb: memory for decoded frames, for each process.
        skip_damaged: frames that cannot be decoded are left out with a warning instead of being an error. Others take
            their place, the same ones every time.
    """

    def __init__(
        self,
        captures: Sequence[Capture],
        *,
        num_views: int,
        view_format: ViewFormat,
        sampling: BaselineSampling,
        seed: int = 0,
        length: int | None = None,
        cache_mb: float = 1024.0,
        skip_damaged: bool = False,
    ) -> None:
        for capture in captures:
            if len(capture) < num_views:
                raise ConfigError(
                    f"{capture.root}: num_views is {num_views} but only {len(capture)} frames are there to draw from; "
                    "lower num_views or give this split more frames"
                )
        self.captures = tuple(captures)
        self.num_views = num_views
        self.view_format = view_format
        self.sampling = sampling
        self.seed = seed
        self._references = [(c, i) for c, capture in enumerate(captures) for i in range(len(capture))]
        if not self._references:
            raise ConfigError("there is no frame to make scenes of")
        self._length = len(self._references) if length is None else length
        self._cache = ViewCache(cache_mb)
        self.skip_damaged = skip_damaged
        self._damaged: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, key: int | tuple[int, int]) -> SceneBatch:
        """The scene of ``(epoch, index)``; a plain index means epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(index)
        capture_index, reference = self._reference(index)
        capture = self.captures[capture_index]
        reference = self._first_readable(capture_index, reference)
        rng = np.random.default_rng([self.seed, epoch, index])
        ranked = self.sampling.rank(
            capture.frames, reference, rng, lambda i: median_depth(self._view(capture_index, i))
        )
        views: list[View] = []
        for candidate in ranked:
            view = self._view_or_none(capture_index, candidate)
            if view is not None:
                views.append(view)
            if len(views) == self.num_views:
                return scene_from_views(views, scene_id=f"{capture.name}/{views[0].name}", metric=capture.metric)
        raise DataError(f"{capture.root}: only {len(views)} frames are readable, num_views is {self.num_views}")

    def _reference(self, index: int) -> tuple[int, int]:
        total = len(self._references)
        if self._length < total:  # evenly spaced, so that a shortened validation still sees everything
            index = index * total // self._length
        return self._references[index % total]

    def _first_readable(self, capture_index: int, reference: int) -> int:
        total = len(self.captures[capture_index])
        for step in range(total):
            index = (reference + step) % total
            if self._view_or_none(capture_index, index) is not None:
                return index
        raise DataError(f"{self.captures[capture_index].root}: none of its {total} frames is readable")

    def _view_or_none(self, capture_index: int, frame_index: int) -> View | None:
        """None for a damaged frame, if such are skipped. Which ones are does not depend on who asks or when."""
        if (capture_index, frame_index) in self._damaged:
            return None
        try:
            return self._view(capture_index, frame_index)
        except DataError as error:
            if not self.skip_damaged:
                raise
            self._damaged.add((capture_index, frame_index))
            warnings.warn(f"skipping frame {len(self._damaged)} of this data set: {error}", stacklevel=2)
            return None

    def _view(self, capture_index: int, frame_index: int) -> View:
        frame = self.captures[capture_index].frames[frame_index]
        return self._cache.get((capture_index, frame_index), lambda: _decode(frame, self.view_format))


class SuccessiveScenes(Dataset[SceneBatch]):
    """All frames of the captures, once and in order, ``num_views`` at a time.

    The last scene of a capture may be shorter.

    Args:
        captures: what to go through.
        num_views: views of a scene.
        view_format: size and crop.
    """

    def __init__(self, captures: Sequence[Capture], *, num_views: int, view_format: ViewFormat) -> None:
        self.view_format = view_format
        self._groups = [
            (capture, capture.frames[first : first + num_views])
            for capture in captures
            for first in range(0, len(capture), num_views)
        ]

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> SceneBatch:
        capture, frames = self._groups[index]
        views = [_decode(frame, self.view_format) for frame in frames]
        return scene_from_views(views, scene_id=f"{capture.name}/{views[0].name}", metric=capture.metric)


class EpochAndIndexSampler(EpochSampler):
    """Yields ``(epoch, index)``, so that a data set can draw other views in every epoch, whoever asks it."""

    def order(self, epoch: int) -> list[tuple[int, int]]:  # type: ignore[override]
        """The keys of all ranks in the given epoch."""
        return [(epoch, index) for index in super().order(epoch)]


def scene_from_views(views: Sequence[View], *, scene_id: str, metric: bool) -> SceneBatch:
    """One scene (B = 1) in the world units of its source."""
    identity = torch.eye(3, 4, dtype=torch.float64)
    poses = torch.stack([identity if view.cam_from_world is None else view.cam_from_world for view in views])
    pose_valid = torch.tensor([view.cam_from_world is not None for view in views])
    depth = torch.stack([view.depth for view in views])
    valid = depth > 0
    intrinsics = torch.stack([view.intrinsics for view in views])
    # in double precision: captures can stand far from their world's origin
    points = world_points_from_depth(depth.double(), intrinsics, poses)
    points = torch.where((valid & pose_valid[:, None, None])[..., None], points, 0.0)
    return SceneBatch(
        images=(torch.stack([view.image for view in views]).float() / 255)[None],
        intrinsics=intrinsics.float()[None],
        cam_from_world=poses.float()[None],
        pose_valid=pose_valid[None],
        depth=depth[None],
        valid=valid[None],
        world_points=points.float()[None],
        scale=torch.ones(1),
        metric=torch.tensor([metric]),
        scene_ids=(scene_id,),
        frame_ids=(tuple(view.name for view in views),),
    )


def median_depth(view: View) -> float:
    """Median of the known depth, 0 if there is none."""
    known = view.depth[view.depth > 0]
    return float(known.median()) if known.numel() else 0.0


def _decode(frame: Frame, view_format: ViewFormat) -> View:
    return load_view(frame, view_format.size, view_format.crop)

"""Scenes of a few views drawn from captures: the map-style data set behind :class:`lorasub.data.real.PosedRGBD`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lorasub.data.decoding import Crop, View, ViewCache, load_view
from lorasub.data.frames import Capture, Frame
from lorasub.data.loading import EpochSampler
from lorasub.data.splits import References
from lorasub.data.view_sampling import Candidates, ViewSampling
from lorasub.errors import ConfigError, DataError
from lorasub.rng import generator
from lorasub.structures import SceneBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewFormat:
    """Size and crop of decoded frames.

    Attributes:
        size: (H, W) of the images.
        crop: where the cut window is centred, see :func:`lorasub.data.decoding.load_view`.
    """

    size: tuple[int, int]
    crop: Crop = "principal_point"


class CaptureScenes(Dataset[SceneBatch]):
    """Scenes around reference frames: item i of epoch e is a pure function of (seed, e, i).

    Every frame of every capture is the reference of one scene an epoch, unless ``length`` or ``weights`` ask for
    another mixture (:class:`~lorasub.data.splits.References`); the other views are drawn anew in each epoch.

    Args:
        captures: what to draw from; views of one scene come from one capture.
        num_views: views of a scene.
        view_format: size and crop.
        sampling: how views are chosen.
        seed: seed of the choice.
        length: scenes an epoch; None takes one for each frame.
        weights: share of each capture in an epoch; None takes all frames alike.
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
        sampling: ViewSampling,
        seed: int = 0,
        length: int | None = None,
        weights: Sequence[float] | None = None,
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
        if not captures:
            raise ConfigError("there is no capture to make scenes of")
        self._references = References([len(capture) for capture in captures], weights, length)
        self._candidates = [self._candidates_of(index) for index in range(len(captures))]
        self._cache = ViewCache(cache_mb)
        self.skip_damaged = skip_damaged
        self._damaged: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        return len(self._references)

    def __getitem__(self, key: int | tuple[int, int]) -> SceneBatch:
        """The scene of ``(epoch, index)``; a plain index means epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(index)
        capture_index, frame = self._references.of(epoch, index)
        capture = self.captures[capture_index]
        reference = self._first_readable(capture_index, frame)
        rng = generator(self.seed, "views", epoch, index)
        views: list[View] = []
        for candidate in self.sampling.rank(self._candidates[capture_index], reference, rng):
            view = self._view_or_none(capture_index, candidate)
            if view is not None:
                views.append(view)
            if len(views) == self.num_views:
                return _scene(views, capture)
        raise DataError(f"{capture.root}: only {len(views)} frames are readable, num_views is {self.num_views}")

    def _candidates_of(self, capture_index: int) -> Candidates:
        return Candidates(self.captures[capture_index].frames, lambda index: self._view_or_none(capture_index, index))

    def _first_readable(self, capture_index: int, reference: int) -> int:
        total = len(self.captures[capture_index])
        for step in range(total):
            index = (reference + step) % total
            if self._view_or_none(capture_index, index) is not None:
                return index
        raise DataError(f"{self.captures[capture_index].root}: none of its {total} frames is readable")

    def _view_or_none(self, capture_index: int, frame_index: int) -> View | None:
        """Returns a decoded frame; None where it is damaged and such frames are skipped, whoever asks and whenever."""
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
        num_views: views of a scene; None takes all frames of a capture.
        view_format: size and crop.
        cache_mb: memory for decoded frames, for each process.
        skip_damaged: frames that cannot be decoded are left out with a warning instead of being an error. All frames
            are decoded at once to know which.

    Raises:
        DataError: no frame can be decoded, though damaged ones are skipped.
    """

    def __init__(
        self,
        captures: Sequence[Capture],
        *,
        num_views: int | None,
        view_format: ViewFormat,
        cache_mb: float = 1024.0,
        skip_damaged: bool = False,
    ) -> None:
        self.view_format = view_format
        self._cache = ViewCache(cache_mb)
        self._scenes: list[tuple[str, Capture, list[Frame]]] = []
        for capture in captures:
            frames = [frame for frame in capture.frames if not skip_damaged or self._is_readable(frame)]
            size = num_views or max(len(frames), 1)
            for first in range(0, len(frames), size):
                name = capture.name if num_views is None else f"{capture.name}/{frames[first].name}"
                self._scenes.append((name, capture, frames[first : first + size]))
        if not self._scenes:
            raise DataError(f"{', '.join(str(capture.root) for capture in captures)}: none of the frames is readable")

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> SceneBatch:
        name, capture, frames = self._scenes[index]
        views = [self._view(frame) for frame in frames]
        return scene_from_views(views, scene_id=name, metric=capture.metric, label=capture.label)

    def _view(self, frame: Frame) -> View:
        return self._cache.get((frame.image, frame.name), lambda: _decode(frame, self.view_format))

    def _is_readable(self, frame: Frame) -> bool:
        try:
            self._view(frame)
        except DataError as error:
            warnings.warn(f"skipping a frame: {error}", stacklevel=2)
            return False
        return True


class EpochAndIndexSampler(EpochSampler):
    """Yields ``(epoch, index)``, so that a data set can draw other views in every epoch, whoever asks it."""

    def order(self, epoch: int) -> list[tuple[int, int]]:  # type: ignore[override]
        """The keys of all ranks in the given epoch."""
        return [(epoch, index) for index in super().order(epoch)]


def scene_from_views(views: Sequence[View], *, scene_id: str, metric: bool, label: int | None = None) -> SceneBatch:
    """One scene (B = 1) in the world units of its source."""
    lost = torch.full((3, 4), torch.nan, dtype=torch.float64)
    depth = torch.stack([view.depth for view in views])
    return SceneBatch.from_views(
        torch.stack([view.image for view in views]),
        depth,
        intrinsics=torch.stack([view.intrinsics for view in views]),
        cam_from_world=torch.stack([lost if view.cam_from_world is None else view.cam_from_world for view in views]),
        object_masks=_stack_masks([view.object_mask for view in views], depth > 0),
        metric=metric,
        scene_id=scene_id,
        frame_ids=[view.name for view in views],
        label=label,
    )


def _scene(views: Sequence[View], capture: Capture) -> SceneBatch:
    name = f"{capture.name}/{views[0].name}"
    return scene_from_views(views, scene_id=name, metric=capture.metric, label=capture.label)


def _stack_masks(masks: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    """``[S, H, W]``, empty in views without a mask if others have one; None if none has."""
    if all(mask is None for mask in masks):
        return None
    return torch.stack([torch.zeros_like(like[0]) if mask is None else mask for mask in masks])


def _decode(frame: Frame, view_format: ViewFormat) -> View:
    return load_view(frame, view_format.size, view_format.crop)

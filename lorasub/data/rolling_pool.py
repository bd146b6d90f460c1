"""Rendered scenes that stay on the training device and are renewed a part at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from lorasub.structures import SceneBatch

#: Fields of a SceneBatch that have a second axis for the views.
_PER_VIEW = frozenset(("images", "intrinsics", "cam_from_world", "pose_valid", "depth", "valid", "world_points"))


class RollingPool:
    """The ``size`` latest blocks of an endless sequence of equally large blocks of scenes.

    Block i stands in slot ``i % size``: a new one takes the place of the oldest, in the same memory.

    Args:
        size: number of blocks.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = [-1] * size
        self._names: list[str] = []
        self._frames: list[tuple[str, ...]] = []
        self._scenes: SceneBatch | None = None

    def advance(self, first: int, make: Callable[[int], SceneBatch]) -> None:
        """Hold the blocks ``first .. first + size - 1``.

        Args:
            first: number of the oldest block.
            make: gives a block. It is called for those that are not here yet.
        """
        for block in range(first, first + self.size):
            if self._held[block % self.size] != block:
                self._put(block % self.size, make(block))
                self._held[block % self.size] = block

    def __len__(self) -> int:
        return len(self._names)

    def take(self, scenes: Tensor, views: Tensor) -> SceneBatch:
        """Copies of some views of some scenes.

        Args:
            scenes: ``[B]`` int64 on the CPU, places in the pool.
            views: ``[B, V]`` int64 on the CPU, the views of each scene, in their order.
        """
        assert self._scenes is not None
        device = self._scenes.images.device
        one, two = scenes.to(device, non_blocking=True), views.to(device, non_blocking=True)
        tensors = {
            name: value[one[:, None], two] if name in _PER_VIEW else value[one] for name, value in self._tensors()
        }
        return SceneBatch(
            **tensors,
            scene_ids=tuple(self._names[scene] for scene in scenes.tolist()),
            frame_ids=tuple(
                tuple(self._frames[scene][view] for view in chosen)
                for scene, chosen in zip(scenes.tolist(), views.tolist(), strict=True)
            ),
        )

    def _put(self, slot: int, scenes: SceneBatch) -> None:
        # what backbones are not pre-trained on; only some kinds of scenes have it
        scenes = scenes.replace(labels=None, object_masks=None)
        count = len(scenes)
        if self._scenes is None:
            self._scenes = SceneBatch.concatenate([scenes] * self.size)
            self._names, self._frames = list(self._scenes.scene_ids), list(self._scenes.frame_ids)
        where = slice(slot * count, (slot + 1) * count)
        for name, value in self._tensors():
            value[where] = getattr(scenes, name)
        self._names[where], self._frames[where] = scenes.scene_ids, scenes.frame_ids

    def _tensors(self) -> list[tuple[str, Tensor]]:
        fields = [field.name for field in dataclasses.fields(SceneBatch)]
        values = [(name, getattr(self._scenes, name)) for name in fields]
        return [(name, value) for name, value in values if isinstance(value, torch.Tensor)]

"""Which frames of a capture make up one scene of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from lorasub.data.frames import Frame
from lorasub.errors import ConfigError
from lorasub.geometry import camera_centers


@dataclass(frozen=True, kw_only=True)
class BaselineSampling:
    """Views around a reference frame, chosen by how far their cameras are from its camera.

    The baseline decides what multi-view geometry can be seen: too short and depth is not observable, too long and the
    views share nothing.

    Attributes:
        baseline: shortest and longest distance between the reference camera and another one.
        unit: ``"median_depth"``: in units of the reference frame's median depth, which suits any scale of scene;
            ``"world"``: in world units (metres, for metric captures).
        max_angle: largest angle between the viewing directions, in degrees.
    """

    baseline: tuple[float, float] = (0.02, 0.4)
    unit: Literal["median_depth", "world"] = "median_depth"
    max_angle: float = 45.0

    def __post_init__(self) -> None:
        low, high = self.baseline
        if not 0 <= low < high:
            raise ConfigError(f"baseline must be an increasing pair of distances, got {self.baseline}")
        if not 0 < self.max_angle <= 180:
            raise ConfigError(f"max_angle is in degrees between 0 and 180, got {self.max_angle}")

    def rank(
        self,
        frames: Sequence[Frame],
        reference: int,
        rng: np.random.Generator,
        median_depth: Callable[[int], float],
    ) -> list[int]:
        """Order the frames by how well they go with a reference, which comes first; a scene takes as many as it needs.

        Cameras within the range come in random order, then the others, the least far outside first, and last those
        without a pose. If the reference itself has none, its neighbours in time come first.

        Args:
            frames: the candidates.
            reference: index of the first view.
            rng: source of randomness.
            median_depth: median known depth of a frame, in world units; not positive if it has none.

        Returns:
            All indices of ``frames``.
        """
        pose = frames[reference].cam_from_world
        posed = [(i, p) for i, frame in enumerate(frames) if i != reference and (p := frame.cam_from_world) is not None]
        if pose is None or not posed:
            return sorted(range(len(frames)), key=lambda index: (abs(index - reference), index))
        poses = torch.stack([other for _, other in posed])
        distance = torch.linalg.norm(camera_centers(poses) - camera_centers(pose), dim=-1).numpy()
        cosine = (poses[:, 2, :3] @ pose[2, :3]).clamp(-1, 1).numpy()
        low, high = self.baseline
        if self.unit == "median_depth":
            depth = median_depth(reference)
            # without depth, the spread of the cameras is the only length there is
            scale = depth if depth > 0 else max(float(np.median(distance)), 1e-9)
            low, high = low * scale, high * scale
        # how far outside the wanted range a camera is: 0 inside, then relative to the range, angles counting likewise
        outside = np.maximum(low - distance, 0) / high + np.maximum(distance - high, 0) / high
        outside = outside + np.maximum(np.degrees(np.arccos(cosine)) - self.max_angle, 0) / self.max_angle
        shuffled = rng.permutation(len(posed))
        best_first = shuffled[np.argsort(outside[shuffled], kind="stable")]
        ranked = [reference, *(posed[int(i)][0] for i in best_first)]
        return ranked + sorted(set(range(len(frames))) - set(ranked))

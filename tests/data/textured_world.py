"""A small world with detail in its images, for tests of the check: a wall, a floor and a ball, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from lorasub.data.depth import DepthFile, SparseDepth
from lorasub.data.frames import Capture, Frame, pinhole

SIZE = (120, 160)
CAMERA = (130.0, 130.0, 82.0, 57.0)
WALL, FLOOR, BALL, RADIUS = 4.0, 0.8, np.array([0.1, 0.15, 2.6]), 0.55


@dataclass(frozen=True)
class TexturedWorld:
    """Cameras that look at it from an arc. OpenCV axes, y down; pixel centres at half integers.

    Attributes:
        count: number of cameras.
        camera: fx, fy, cx, cy.
    """

    count: int = 6
    camera: tuple[float, float, float, float] = CAMERA

    def world_from_cam(self, index: int) -> np.ndarray:
        turn = index - (self.count - 1) / 2
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler(
            "yxz", [-7.0 * turn, 2.0 * np.sin(2.0 * index), 1.5 * turn], degrees=True
        ).as_matrix()
        pose[:3, 3] = [0.32 * turn, 0.12 * np.cos(1.7 * index), 0.1 * np.sin(1.1 * index)]
        return pose

    def points(self, index: int) -> np.ndarray:
        """``[H, W, 3]`` where each pixel's ray meets the world."""
        fx, fy, cx, cy = self.camera
        y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
        pose = self.world_from_cam(index)
        rays = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], -1) @ pose[:3, :3].T
        origin = pose[:3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            wall = (WALL - origin[2]) / rays[..., 2]
            floor = (FLOOR - origin[1]) / rays[..., 1]
        a, b, c = (rays**2).sum(-1), 2 * rays @ (origin - BALL), ((origin - BALL) ** 2).sum() - RADIUS**2
        root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0))
        ball = np.where(b**2 > 4 * a * c, (-b - root) / (2 * a), np.inf)
        distance = np.min([np.where(t > 0, t, np.inf) for t in (wall, floor, ball)], axis=0)
        return origin + rays * distance[..., None]

    def depth(self, index: int) -> np.ndarray:
        pose = self.world_from_cam(index)
        return ((self.points(index) - pose[:3, 3]) @ pose[:3, :3])[..., 2]

    def image(self, index: int) -> np.ndarray:
        """Colours of a random lattice, interpolated, at three scales; the ball is brighter than what is behind it."""
        points = self.points(index)
        color = sum(weight * _noise(points * scale) for scale, weight in ((3.0, 0.35), (7.0, 0.4), (16.0, 0.25)))
        on_ball = np.linalg.norm(points - BALL, axis=-1) < RADIUS * 1.001
        return np.round(255 * np.where(on_ball[..., None], 0.35 + 0.65 * color, 0.75 * color)).astype(np.uint8)

    def capture(self, folder: Path, *, depth: bool = True) -> Capture:
        """Write the files and describe them."""
        frames = []
        for i in range(self.count):
            Image.fromarray(self.image(i)).save(folder / f"{i:02d}.png")
            np.save(folder / f"{i:02d}.npy", self.depth(i).astype(np.float32))
            frames.append(
                Frame(
                    name=f"{i:02d}",
                    image=folder / f"{i:02d}.png",
                    intrinsics=pinhole(*self.camera),
                    cam_from_world=torch.from_numpy(np.linalg.inv(self.world_from_cam(i))[:3]),
                    depth=DepthFile(path=folder / f"{i:02d}.npy", unit=1.0) if depth else None,
                )
            )
        return Capture(name="world", root=folder, frames=tuple(frames), metric=True, format="test")

    def sparse(self, index: int, count: int = 400) -> SparseDepth:
        """Some of the world's points as structure from motion gives them: in the camera of one view."""
        chosen = np.random.default_rng(0).integers(0, (self.count, *SIZE), size=(count, 3))
        points = np.stack([self.points(i)[y, x] for i, y, x in chosen])
        local = np.c_[points, np.ones(count)] @ np.linalg.inv(self.world_from_cam(index))[:3].T
        return SparseDepth(points=torch.from_numpy(local), intrinsics=pinhole(*self.camera))


def _noise(points: np.ndarray) -> np.ndarray:
    cell, part = np.floor(points).astype(int), points - np.floor(points)
    part = part * part * (3 - 2 * part)
    lattice = np.random.default_rng(5).random((32, 32, 32, 3))
    total = np.zeros((*points.shape[:-1], 3))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner) == 1, part, 1 - part), axis=-1)
        i, j, k = ((cell[..., axis] + corner[axis]) % 32 for axis in range(3))
        total += weight[..., None] * lattice[i, j, k]
    return total

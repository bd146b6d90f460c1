"""A world whose images, depths and cameras are known in closed form, to be written to disk in every layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from lorasub.data.decoding import load_view
from lorasub.data.frames import Capture


@dataclass
class PlaneWorld:
    """A coloured plane, seen by cameras that look at it from several sides. All in numpy and float64.

    Pixel centres are at half integers. ``world_from_cam`` has OpenCV axes.
    """

    count: int = 6
    size: tuple[int, int] = (48, 64)
    focal: tuple[float, float] = (60.0, 58.0)
    center: tuple[float, float] = (31.0, 25.0)
    normal: np.ndarray = field(default_factory=lambda: np.array([0.2, -0.1, 1.0]) / np.linalg.norm([0.2, -0.1, 1.0]))
    offset: float = 2.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)  # moves every camera in its own frame: the other of two sensors

    @property
    def intrinsics(self) -> np.ndarray:
        return np.array([[self.focal[0], 0, self.center[0]], [0, self.focal[1], self.center[1]], [0, 0, 1.0]])

    @property
    def world_from_cam(self) -> np.ndarray:
        poses = np.zeros((self.count, 4, 4))
        for i in range(self.count):
            poses[i, :3, :3] = Rotation.from_euler("xyz", [4 * i - 9, 5 * i - 12, 3 * i], degrees=True).as_matrix()
            poses[i, :3, 3] = poses[i, :3, :3] @ self.shift + [0.12 * i - 0.3, 0.05 * (i % 3), -0.04 * i]
            poses[i, 3, 3] = 1
        return poses

    def rays(self) -> np.ndarray:
        y, x = np.mgrid[: self.size[0], : self.size[1]] + 0.5
        return np.stack(
            [(x - self.center[0]) / self.focal[0], (y - self.center[1]) / self.focal[1], np.ones_like(x)], -1
        )

    def depth(self, index: int) -> np.ndarray:
        """``[H, W]``: where the ray of each pixel meets the plane."""
        pose = self.world_from_cam[index]
        directions = self.rays() @ pose[:3, :3].T
        return (self.offset - self.normal @ pose[:3, 3]) / (directions @ self.normal)

    def points(self, index: int) -> np.ndarray:
        pose = self.world_from_cam[index]
        return (self.rays() * self.depth(index)[..., None]) @ pose[:3, :3].T + pose[:3, 3]

    def image(self, index: int) -> np.ndarray:
        return self.color(self.points(index))

    @staticmethod
    def color(points: np.ndarray) -> np.ndarray:
        """uint8 colours that vary smoothly over the plane."""
        waves = [np.sin(2 * points[..., 0]), np.sin(3 * points[..., 1]), np.cos(2 * (points[..., 0] + points[..., 1]))]
        return np.round(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)

    def save_image(self, index: int, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.image(index)).save(path)

    def save_depth(self, index: int, path: Path, unit: float = 0.001, depth: np.ndarray | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round((self.depth(index) if depth is None else depth) / unit).astype(np.uint16)).save(path)

    def quaternion(self, index: int) -> np.ndarray:
        """xyzw of world_from_cam."""
        return Rotation.from_matrix(self.world_from_cam[index, :3, :3]).as_quat()

    def check(
        self,
        capture: Capture,
        indices: list[int],
        *,
        depth_error: float = 0.002,
        share: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        """A capture describes this world: its depth lies on the plane, and every point has the colour that it should.

        Args:
            capture: what a reader made.
            indices: which of this world's cameras its frames are.
            depth_error: how far from the plane points may be.
            share: at least this part of the pixels has depth; 0 if there is no depth.
            scale: this world's units per unit of the capture.
        """
        assert len(capture) == len(indices)
        for frame, index in zip(capture.frames, indices, strict=True):
            view = load_view(frame)
            assert view.image.shape == (3, *self.size)
            k = view.intrinsics.numpy()
            np.testing.assert_allclose(k, self.intrinsics, atol=1e-6)
            assert view.cam_from_world is not None
            pose = np.linalg.inv(np.vstack([view.cam_from_world.numpy(), [0, 0, 0, 1]]))
            pose[:3, 3] *= scale
            np.testing.assert_allclose(pose, self.world_from_cam[index], atol=2e-4)
            known = view.depth.numpy() > 0
            assert known.mean() >= share
            if known.any():
                points = (self.rays() * scale * view.depth.numpy()[..., None])[known] @ pose[:3, :3].T + pose[:3, 3]
                assert np.abs(points @ self.normal - self.offset).max() < depth_error
            difference = view.image.permute(1, 2, 0).numpy().astype(float) - self.image(index)
            assert np.abs(difference).mean() < 3  # JPEG

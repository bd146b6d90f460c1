"""Small random scenes, geometrically consistent, for tests of everything that takes a SceneBatch."""

from __future__ import annotations

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from lorasub.structures import Predictions, SceneBatch


def random_scenes(
    scenes: int = 2, views: int = 3, size: tuple[int, int] = (8, 10), seed: int = 0, dtype: torch.dtype = torch.float64
) -> SceneBatch:
    """Scenes with exact world points: K^-1 applied by a linear solver, poses inverted by one."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    rotations = Rotation.random(scenes * views, random_state=seed).as_matrix().reshape(scenes, views, 3, 3)
    translations = 4 * rand(scenes, views, 3, 1) - 2
    cam_from_world = torch.cat([torch.from_numpy(rotations), translations], -1)
    intrinsics = torch.zeros(scenes, views, 3, 3, dtype=torch.float64)
    intrinsics[..., 0, 0] = width * (0.8 + 0.4 * rand(scenes, views))
    intrinsics[..., 1, 1] = width * (0.8 + 0.4 * rand(scenes, views))
    intrinsics[..., 0, 2], intrinsics[..., 1, 2], intrinsics[..., 2, 2] = width / 2, height / 2, 1
    depth = 1 + 3 * rand(scenes, views, height, width)
    valid = rand(scenes, views, height, width) > 0.2

    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).double().reshape(-1, 3).T
    rays = torch.linalg.solve(intrinsics, pixels.expand(scenes, views, 3, -1))
    in_camera = rays * depth.reshape(scenes, views, 1, -1)
    world = torch.linalg.solve(cam_from_world[..., :3], in_camera - cam_from_world[..., 3:])
    world_points = world.mT.reshape(scenes, views, height, width, 3)
    return SceneBatch(
        images=rand(scenes, views, 3, height, width).to(dtype),
        intrinsics=intrinsics.to(dtype),
        cam_from_world=cam_from_world.to(dtype),
        pose_valid=torch.ones(scenes, views, dtype=torch.bool),
        depth=torch.where(valid, depth, 0.0).to(dtype),
        valid=valid,
        world_points=torch.where(valid[..., None], world_points, 0.0).to(dtype),
        scale=torch.ones(scenes, dtype=dtype),
        metric=torch.ones(scenes, dtype=torch.bool),
        scene_ids=tuple(f"scene{i}" for i in range(scenes)),
        frame_ids=tuple(tuple(f"view{j}" for j in range(views)) for _ in range(scenes)),
    )


def random_predictions(
    batch: SceneBatch, seed: int = 1, iterations: int = 3, dtype: torch.dtype = torch.float64
) -> Predictions:
    """Predictions of the right shapes that have nothing to do with the scene."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(dtype)

    leading = batch.depth.shape
    return Predictions(
        pose_encodings=tuple(2 * rand(*leading[:2], 9) - 1 for _ in range(iterations)),
        depth=0.5 + rand(*leading),
        depth_conf=1 + rand(*leading),
        world_points=2 * rand(*leading, 3) - 1,
        world_points_conf=1 + rand(*leading),
    )

"""Residuals of observations under an interpretation of the cameras.

Three kinds, each of which sees another part of a mistake:

- ``epipolar``: matched points of two images against each other's epipolar lines (poses, intrinsics, order of images);
- ``points``: a matched point, moved into the other image by its depth, against its match (all of these, and the unit);
- ``depth``: depth moved into the other view against the depth there (poses, unit and intrinsics of the depth's camera;
  images take no part).

Everything is computed for P pairs of views at once, N points in each, padded with NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lorasub.data.check.hypotheses import AS_READ, DepthCamera, Interpretation
from lorasub.data.check.matching import Matches
from lorasub.data.decoding import View
from lorasub.geometry import project_points, relative_pose, transform_points

Kind = Literal["epipolar", "points", "depth"]
#: Residuals below these are noise: pixels at the size at which views are compared, or parts of the depth.
FLOORS: dict[Kind, float] = {"epipolar": 0.15, "points": 0.3, "depth": 0.001}
#: Pixels of a view whose depth is moved: more do not make a median more certain.
MOVED_PIXELS = 500
#: Cameras nearer than this have no epipolar lines (world units).
STANDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Cameras:
    """The cameras of all V views under one interpretation.

    Attributes:
        poses: ``[V, 3, 4]`` float64 extrinsics, NaN where a view has none.
        intrinsics: ``[V, 3, 3]`` float64.
        depth_factor: what depth is multiplied with,
        ray_exponent: and the power of its ray's length that it is multiplied with, see :class:`Interpretation`.
    """

    poses: Tensor
    intrinsics: Tensor
    depth_factor: float = 1.0
    ray_exponent: int = 0

    def move(self, i: Tensor, j: Tensor, pixels: Tensor, depth: Tensor) -> Tensor:
        """Pixels of views i in views j.

        Args:
            i: ``[P]`` numbers of the first views.
            j: ``[P]`` of the second.
            pixels: ``[P, N, 2]`` (x, y).
            depth: ``[P, N]`` in the first views.

        Returns:
            ``[P, N, 3]``: (x, y) in the second view, and depth there. NaN without poses.
        """
        motion = relative_pose(self.poses[i], self.poses[j])
        points = transform_points(motion, self._rays(i, pixels) * self.z_depth(i, pixels, depth)[..., None])
        return torch.cat([project_points(points, self.intrinsics[j]), points[..., 2:]], dim=-1)

    def z_depth(self, views: Tensor, pixels: Tensor, depth: Tensor) -> Tensor:
        """``[P, N]`` depth along z of pixels ``[P, N, 2]`` of views ``[P]``, from depth ``[P, N]`` as it was read."""
        if self.ray_exponent:
            depth = depth * self._rays(views, pixels).norm(dim=-1) ** self.ray_exponent
        return depth * self.depth_factor

    def _rays(self, views: Tensor, pixels: Tensor) -> Tensor:
        """``[P, N, 3]`` points at z = 1 on the rays of pixels."""
        focal = self.intrinsics[views].diagonal(dim1=-2, dim2=-1)[:, None, :2]
        across = (pixels - self.intrinsics[views][:, None, :2, 2]) / focal
        return torch.cat([across, torch.ones_like(across[..., :1])], dim=-1)


def cameras_of(
    views: Sequence[View], frames: Sequence[int], poses: Tensor, interpretation: Interpretation = AS_READ
) -> Cameras:
    """The cameras of some views under an interpretation.

    Args:
        views: decoded.
        frames: which frame of the capture each is.
        poses: ``[N, 3, 4]`` float64 of all frames as read, NaN where there is none.
        interpretation: of them.
    """
    intrinsics = [
        interpretation.apply_to_intrinsics(view.intrinsics.double(), (view.image.shape[-2], view.image.shape[-1]))
        for view in views
    ]
    return Cameras(
        interpretation.poses(poses)[list(frames)],
        torch.stack(intrinsics),
        interpretation.depth_factor,
        interpretation.ray_exponent,
    )


@dataclass(frozen=True, slots=True, eq=False)
class MatchedPairs:
    """Matched points of P pairs of views, with the depth at them.

    Attributes:
        views: ``[P, 2]`` the two of each.
        a: ``[P, N, 2]`` (x, y) in the first, padded with NaN.
        b: ``[P, N, 2]`` in the second.
        depth_a: ``[P, N]`` depth at the points in the first, NaN where unknown.
        depth_b: ``[P, N]`` in the second.
    """

    views: Tensor
    a: Tensor
    b: Tensor
    depth_a: Tensor
    depth_b: Tensor

    def __len__(self) -> int:
        return len(self.views)

    @classmethod
    def of(cls, matches: dict[tuple[int, int], Matches], views: Sequence[View]) -> MatchedPairs:
        """From matches of single pairs."""
        if not matches:
            points, numbers = torch.zeros(0, 0, 2, dtype=torch.float64), torch.zeros(0, 0, dtype=torch.float64)
            return cls(torch.zeros(0, 2, dtype=torch.long), points, points, numbers, numbers)
        columns = zip(
            *(
                (m.a, m.b, depth_at(views[i].depth, m.a), depth_at(views[j].depth, m.b))
                for (i, j), m in matches.items()
            ),
            strict=True,
        )
        padded = [pad_sequence(list(column), batch_first=True, padding_value=torch.nan) for column in columns]
        return cls(torch.tensor(list(matches)), *padded)

    @property
    def motion(self) -> Tensor:
        """``[P]`` median distance between matched points, in pixels."""
        return (self.a - self.b).norm(dim=-1).nanmedian(dim=1).values if len(self) else self.a.new_zeros(0)

    def epipolar(self, cameras: Cameras) -> Tensor:
        """``[P, N]`` first-order distance to the epipolar geometry, in pixels (Sampson 1982)."""
        in_a, in_b = self.epipolar_lines(cameras)
        residual = (_homogeneous(self.b) * in_b).sum(-1).abs()
        squares: Tensor = in_a[..., :2].square().sum(-1) + in_b[..., :2].square().sum(-1)
        return residual / squares.sqrt()

    def epipolar_lines(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """Lines on which the points must lie, as ``[P, N, 3]`` in the first and in the second views.

        A line (l, m, n) holds the points with l x + m y + n = 0; NaN if a pose is missing or cameras stand together.
        """
        i, j = self.views.unbind(dim=1)
        motion = relative_pose(cameras.poses[i], cameras.poses[j])
        length = motion[:, :, 3].norm(dim=-1, keepdim=True)
        x, y, z = torch.where(length > STANDING, motion[:, :, 3] / length, torch.nan).unbind(dim=-1)
        zero = torch.zeros_like(x)
        cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
        to_rays = torch.linalg.inv(cameras.intrinsics)
        fundamental = to_rays[j].mT @ cross @ motion[..., :3] @ to_rays[i]
        return _homogeneous(self.b) @ fundamental, _homogeneous(self.a) @ fundamental.mT

    def points(self, cameras: Cameras) -> Tensor:
        """``[P, 2 N]`` distance of each point, moved by its depth, from its match, both ways, in pixels.

        NaN where depth is unknown, infinite behind the camera.
        """
        i, j = self.views.unbind(dim=1)
        there, back = cameras.move(i, j, self.a, self.depth_a), cameras.move(j, i, self.b, self.depth_b)
        return torch.cat([_distance(there, self.b), _distance(back, self.a)], dim=1)

    def with_depth_of(self, camera: DepthCamera, views: Sequence[View]) -> MatchedPairs:
        """Returns the points with the depth that they have if another camera took it."""
        depths: list[list[Tensor]] = [[], []]
        for p, pair in enumerate(self.views.tolist()):
            for side, (points, depth) in enumerate(((self.a[p], self.depth_a[p]), (self.b[p], self.depth_b[p]))):
                view = views[pair[side]]
                places = camera.to_depth(points, depth, view.intrinsics.double())
                depths[side].append(depth_at(view.depth, torch.where(depth[:, None].isnan(), points, places)))
        return MatchedPairs(self.views, self.a, self.b, torch.stack(depths[0]), torch.stack(depths[1]))


@dataclass(frozen=True, slots=True, eq=False)
class DepthPairs:
    """Pairs of views whose depth is compared.

    Attributes:
        views: ``[P, 2]`` from which to which.
        pixels: ``[P, N, 2]`` (x, y) of some known pixels of the first, padded with NaN.
        depth: ``[P, N]`` theirs.
        maps: the depth maps of all views, each ``[H, W]``.
    """

    views: Tensor
    pixels: Tensor
    depth: Tensor
    maps: Sequence[Tensor]

    def __len__(self) -> int:
        return len(self.views)

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, int]], views: Sequence[View], pixels: int = MOVED_PIXELS) -> DepthPairs:
        """Draw known pixels of the first view of each pair, the same in every pair of a view."""
        maps = [view.depth for view in views]
        if not pairs:
            points, numbers = torch.zeros(0, 0, 2, dtype=torch.float64), torch.zeros(0, 0, dtype=torch.float64)
            return cls(torch.zeros(0, 2, dtype=torch.long), points, numbers, maps)
        drawn = {i: _draw(maps[i], pixels) for i in {i for i, _ in pairs}}
        places = pad_sequence([drawn[i][0] for i, _ in pairs], batch_first=True, padding_value=torch.nan)
        depth = pad_sequence([drawn[i][1] for i, _ in pairs], batch_first=True, padding_value=torch.nan)
        return cls(torch.tensor(list(pairs)), places, depth, maps)

    def errors(self, cameras: Cameras) -> Tensor:
        """``[P, N]`` relative difference from the other view's depth; NaN where that is unknown or out of sight."""
        return self.moved(cameras)[1]

    def moved(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """``[P, N, 2]`` where the pixels fall in the other view, and the errors."""
        i, j = self.views.unbind(dim=1)
        there = cameras.move(i, j, self.pixels, self.depth)
        expected = (
            torch.stack([_looked_up(self.maps[view], there[p, :, :2]) for p, view in enumerate(j.tolist())])
            if len(self)
            else there[..., 2]
        )
        expected = torch.where(there[..., 2] > 0, cameras.z_depth(j, there[..., :2], expected), torch.nan)
        return there[..., :2], (there[..., 2] - expected).abs() / expected


def depth_at(depth: Tensor, points: Tensor) -> Tensor:
    """``[N]`` depth at the known pixel nearest to each point, among the nine around it; NaN where none is known.

    Args:
        depth: ``[H, W]``, 0 where unknown.
        points: ``[N, 2]`` (x, y); NaN gives NaN.
    """
    offsets = torch.tensor([(x, y) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)], dtype=points.dtype)
    centers = points.floor()[:, None] + offsets + 0.5
    found = _looked_up(depth, centers)
    distance = torch.where(found.isnan(), torch.inf, (centers - points[:, None]).square().sum(-1))
    return found.gather(1, distance.argmin(dim=1, keepdim=True))[:, 0]


def _looked_up(depth: Tensor, points: Tensor) -> Tensor:
    """``[...]`` depth at the pixel below each of the points ``[..., 2]``; NaN outside and where it is unknown."""
    height, width = depth.shape
    x, y = points.unbind(dim=-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = torch.where(inside, x, 0.0).long(), torch.where(inside, y, 0.0).long()
    value = depth[row, column].double()
    return torch.where(inside & (value > 0), value, torch.nan)


def _draw(depth: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Pixels (x, y) with known depth, drawn at random but always the same, and their depth."""
    rows, columns = (depth > 0).nonzero(as_tuple=True)
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:count]
    rows, columns = rows[chosen], columns[chosen]
    return torch.stack([columns, rows], dim=-1).double() + 0.5, depth[rows, columns].double()


def _distance(moved: Tensor, to: Tensor) -> Tensor:
    distance = torch.where(moved[..., 2] > 0, (moved[..., :2] - to).norm(dim=-1), torch.inf)
    return torch.where(moved[..., 2].isnan() | to[..., 0].isnan(), torch.nan, distance)


def _homogeneous(points: Tensor) -> Tensor:
    return torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)

"""Compares two point clouds: accuracy, completeness, normal consistency, F-score, and rigid ICP.

Nearest neighbours come from scipy's k-d tree: eight views of 518 x 392 pixels are 1.6 million points a side, which a
tree answers in seconds on a laptop, while all distances (2.6e12 of them, once for each step of ICP) would need a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from lorasub.errors import DataError, NumericalError
from lorasub.geometry import Similarity, full_precision, umeyama

Points = npt.NDArray[np.float64]

#: Open3D's defaults, which the published evaluations use.
NORMAL_NEIGHBOURS = 30
ICP_ITERATIONS = 30
ICP_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudErrors:
    """Agreement of a predicted cloud and a true one; lengths in their common unit.

    Attributes:
        accuracy: mean distance from a predicted point to its nearest true one.
        accuracy_median: the median of these.
        completeness: mean distance from a true point to its nearest predicted one.
        completeness_median: the median of these.
        normal_accuracy: mean ``|cos|`` between a predicted point's normal and its nearest true one's (NC1).
        normal_completeness: mean ``|cos|`` from true to predicted (NC2).
        fscore: threshold -> harmonic mean of precision and recall, the shares of predicted and of true points with the
            other cloud nearer than the threshold.
    """

    accuracy: float
    accuracy_median: float
    completeness: float
    completeness_median: float
    normal_accuracy: float = float("nan")
    normal_completeness: float = float("nan")
    fscore: dict[float, float] = field(default_factory=dict)

    @property
    def normal_consistency(self) -> float:
        """Mean of the two directions' ``|cos|``."""
        return (self.normal_accuracy + self.normal_completeness) / 2


def cloud_errors(
    prediction: Tensor, target: Tensor, *, thresholds: Sequence[float] = (), normals: bool = False
) -> CloudErrors:
    """Compare two aligned point clouds, whatever the order and number of their points.

    No distance is capped and no point is left out, as in recons_eval.

    Args:
        prediction: ``[N, 3]``.
        target: ``[M, 3]``.
        thresholds: distances for the F-score.
        normals: also estimate and compare normals.

    Raises:
        DataError: a cloud is empty or not finite.
    """
    p, g = _points(prediction, "predicted"), _points(target, "true")
    to_truth, nearest_true = _nearest(cKDTree(g), p)
    to_prediction, nearest_predicted = _nearest(cKDTree(p), g)
    one = two = float("nan")
    if normals:
        p_normals, g_normals = (estimate_normals(torch.from_numpy(points)).numpy() for points in (p, g))
        one = _mean_cosine(p_normals, g_normals[nearest_true])
        two = _mean_cosine(g_normals, p_normals[nearest_predicted])
    return CloudErrors(
        accuracy=float(to_truth.mean()),
        accuracy_median=float(np.median(to_truth)),
        completeness=float(to_prediction.mean()),
        completeness_median=float(np.median(to_prediction)),
        normal_accuracy=one,
        normal_completeness=two,
        fscore={
            threshold: _harmonic_mean(float((to_truth < threshold).mean()), float((to_prediction < threshold).mean()))
            for threshold in thresholds
        },
    )


def estimate_normals(points: Tensor, neighbours: int = NORMAL_NEIGHBOURS, chunk: int = 100_000) -> Tensor:
    """Direction of least spread among the nearest neighbours of each point, the point itself included; as Open3D.

    Args:
        points: ``[N, 3]``.
        neighbours: how many; fewer if there are not so many points.
        chunk: points that are worked on at a time; bounds memory.

    Returns:
        ``[N, 3]`` float64 unit vectors of unspecified sign; NaN where the neighbours lie on a line or in one spot.
    """
    cloud = torch.from_numpy(_points(points, "given"))
    count = min(neighbours, len(cloud))
    if count < 3:
        return torch.full_like(cloud, torch.nan)
    tree = cKDTree(cloud.numpy())
    normals = []
    for start in range(0, len(cloud), chunk):
        _, index = tree.query(cloud[start : start + chunk].numpy(), k=count, workers=-1)
        around = cloud[torch.from_numpy(np.asarray(index))]
        centred = around - around.mean(dim=1, keepdim=True)
        spread, directions = torch.linalg.eigh(centred.mT @ centred)
        flat = (spread[:, 1] > 1e-12 * spread[:, 2])[:, None]
        normals.append(torch.where(flat, directions[..., 0], torch.nan))
    return torch.cat(normals)


def icp(source: Tensor, target: Tensor, max_distance: float) -> Similarity:
    """Rigid point-to-point ICP from where the clouds are (Besl and McKay 1992), with Open3D's rules for stopping.

    In each step points pair with their nearest target within reach, and the rigid motion of least squares is applied.
    It ends after 30 steps, or when the share of paired points and their root mean squared distance both change by less
    than 1e-6.

    Args:
        source: ``[N, 3]``.
        target: ``[M, 3]``.
        max_distance: pairs that are further apart do not count.

    Returns:
        The motion of ``source``; the identity where fewer than three points are within reach of the target.

    Raises:
        DataError: a cloud is empty or not finite.
        NumericalError: the pairs do not determine a motion.
    """
    moved = torch.from_numpy(_points(source, "predicted"))
    goal = torch.from_numpy(_points(target, "true"))
    tree = cKDTree(goal.numpy())
    total = Similarity(moved.new_ones(()), torch.eye(3, dtype=moved.dtype), moved.new_zeros(3))
    fitness, rmse, paired, partners = _pairs(tree, moved, max_distance)
    for _ in range(ICP_ITERATIONS):
        if int(paired.sum()) < 3:
            break
        step = umeyama(moved[paired], goal[partners], with_scale=False)
        moved = step.apply(moved)
        total = Similarity(total.scale, step.rotation @ total.rotation, step.apply(total.translation))
        before = fitness, rmse
        fitness, rmse, paired, partners = _pairs(tree, moved, max_distance)
        if abs(fitness - before[0]) < ICP_TOLERANCE and abs(rmse - before[1]) < ICP_TOLERANCE:
            break
    return total


def _pairs(tree: cKDTree, points: Tensor, max_distance: float) -> tuple[float, float, Tensor, Tensor]:
    """Share of points within reach, their root mean squared distance, which they are, and their partners."""
    distances, index = _nearest(tree, points.numpy(), max_distance)
    near = np.isfinite(distances)
    rmse = float(np.sqrt(np.mean(distances[near] ** 2))) if near.any() else 0.0
    return float(near.mean()), rmse, torch.from_numpy(near), torch.from_numpy(index[near])


def _nearest(tree: cKDTree, points: Points, within: float = np.inf) -> tuple[Points, npt.NDArray[np.intp]]:
    """Distance and index of each point's nearest neighbour; infinite, and one past the end, where none is near."""
    distances, index = tree.query(points, distance_upper_bound=within, workers=-1)
    return np.asarray(distances), np.asarray(index)


def _points(points: Tensor, which: str) -> Points:
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise DataError(f"the {which} point cloud must be [N, 3] with N > 0, not {tuple(points.shape)}")
    if not torch.isfinite(points).all():
        raise DataError(f"the {which} point cloud holds points that are not finite")
    array: Points = points.detach().cpu().double().numpy()
    return array


def _mean_cosine(first: Points, second: Points) -> float:
    """Mean ``|cos|`` over pairs that both have a normal; NaN where none has."""
    cosines = np.abs((first * second).sum(-1))
    known = np.isfinite(cosines)
    return float(cosines[known].mean()) if known.any() else float("nan")


def _harmonic_mean(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@full_precision
def point_map_error(prediction: Tensor, target: Tensor, valid: Tensor, scored: Tensor | None = None) -> Tensor:
    """Mean distance between corresponding points after Umeyama's Sim(3) alignment of the whole scene.

    Args:
        prediction: ``[..., 3]`` points, pixel by pixel the partners of ``target``, in any frame and unit.
        target: ``[..., 3]``.
        valid: ``[...]`` bool, the points that are aligned.
        scored: ``[...]`` bool, the points among them whose distances count; all by default.

    Returns:
        ``[]`` in the target's unit; NaN where the valid points do not determine an alignment (fewer than 3, or on a
        line) or no point is scored, infinite where a valid pixel's prediction is not finite.
    """
    source, goal = prediction[valid], target[valid]
    if not source.isfinite().all():
        return target.new_tensor(torch.inf)
    try:
        aligned = umeyama(source, goal).apply(source)
    except NumericalError:
        return target.new_tensor(torch.nan)
    distances: Tensor = torch.linalg.vector_norm(aligned - goal, dim=-1)
    return (distances if scored is None else distances[scored[valid]]).mean()

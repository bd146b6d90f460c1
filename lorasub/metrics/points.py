"""Point-map accuracy as torchmetrics classes: corresponding points, and whole clouds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from lorasub.errors import ConfigError, NumericalError
from lorasub.geometry import Similarity, decode_pose, full_precision, umeyama, world_points_from_depth
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.functional.clouds import CloudErrors, cloud_errors, icp, point_map_error
from lorasub.structures import Predictions, SceneBatch

PointSource = Literal["depth", "points"]


def predicted_points(predictions: Predictions, batch: SceneBatch, source: PointSource) -> Tensor | None:
    """``[B, S, H, W, 3]`` in the prediction's world; None if the heads that ``source`` needs are not there.

    Args:
        predictions: of a backbone.
        batch: what they are for.
        source: ``depth`` unprojects predicted depth with predicted cameras; ``points`` takes the point head.
    """
    if source == "points":
        return predictions.world_points
    if predictions.depth is None or predictions.pose_encoding is None:
        return None
    cam_from_world, intrinsics = decode_pose(predictions.pose_encoding, batch.image_size)
    return world_points_from_depth(predictions.depth, intrinsics, cam_from_world)


class PointMapError(SceneMetric):
    """Mean distance of corresponding points after a Sim(3) alignment of each scene; every scene counts the same.

    Args:
        source: ``depth`` unprojects predicted depth with predicted cameras, which VGGT's authors recommend and
            published tables use; ``points`` takes the point head.
        region: ``objects`` scores the points inside the scenes' object masks only. The alignment is fitted to all.

    Results: ``point_error`` in the source's unit; ``objects_point_error`` for the region.
    """

    def __init__(self, source: PointSource = "depth", region: Literal["all", "objects"] = "all") -> None:
        if source not in get_args(PointSource) or region not in ("all", "objects"):
            raise ConfigError(
                f"PointMapError takes source depth or points and region all or objects, not {source!r} and {region!r}"
            )
        within = "" if region == "all" else ", objects only, aligned on all"
        name = "point_error" if region == "all" else f"{region}_point_error"
        super().__init__((name,), protocol=f"point map from {source}, Umeyama per scene{within}")
        self.source = source
        self.region = region

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch; without the predictions that ``source`` needs, nothing happens.

        Args:
            predictions: depth and pose encoding, or world points.
            batch: ``world_points``, ``points_valid`` and ``scale`` are read, and ``object_masks`` for the region.
        """
        points = predicted_points(predictions, batch, self.source)
        if points is None:
            return
        target = batch.world_points * batch.scale[:, None, None, None, None]
        valid = batch.points_valid
        scored = valid
        if self.region == "objects":
            scored = torch.zeros_like(valid) if batch.object_masks is None else valid & batch.object_masks
        per_scene = zip(points, target, valid, scored, strict=True)
        errors = torch.stack([point_map_error(*scene) for scene in per_scene])
        for scene in errors.isnan().nonzero().flatten().tolist():
            self.note(scene, f"{int(scored[scene].sum())} points to score, {_too_few(valid[scene])}")
        self.add({self.names[0]: errors}, ~errors.isnan())


class PointCloudAccuracy(SceneMetric):
    """Accuracy, completeness, normal consistency and F-score of the predicted cloud; every scene counts the same.

    Both clouds have the pixels with a true depth and pose, all views together. By default they are aligned as in
    recons_eval's multi-view reconstruction: Umeyama's Sim(3) on corresponding pixels, then, if asked for, ICP.

    Args:
        source: see :class:`PointMapError`.
        alignment: ``similarity``; ``rigid`` for metric predictions; ``none`` takes the first camera's frame for common.
        icp_distance: reach of the ICP that follows, in the source's unit; None for none.
        normals: estimate and compare normals, which takes about as long as everything else together.
        thresholds: distances of the F-score in the source's unit.
        max_points: at most so many pixels of a scene, evenly spaced, the same in both clouds; None takes all.

    Results: ``acc``, ``acc_median``, ``comp``, ``comp_median`` in the source's unit; ``nc``, ``nc1``, ``nc2`` (mean
    ``|cos|``); ``fscore@t``.
    """

    def __init__(
        self,
        source: PointSource = "depth",
        alignment: Literal["similarity", "rigid", "none"] = "similarity",
        icp_distance: float | None = None,
        normals: bool = True,
        thresholds: Sequence[float] = (),
        max_points: int | None = None,
    ) -> None:
        if source not in get_args(PointSource) or alignment not in ("similarity", "rigid", "none"):
            raise ConfigError(
                "PointCloudAccuracy takes source depth or points and alignment similarity, rigid or none, "
                f"not {source!r} and {alignment!r}"
            )
        positive = [*thresholds, *([] if icp_distance is None else [icp_distance])]
        if any(not value > 0 for value in positive) or (max_points is not None and max_points < 3):
            raise ConfigError(
                f"PointCloudAccuracy needs distances above 0 and max_points of at least 3, "
                f"not {positive} and {max_points}"
            )
        names = ("acc", "acc_median", "comp", "comp_median", *(("nc", "nc1", "nc2") if normals else ()))
        details = [f"point clouds from {source}, alignment {alignment}"]
        details += [f"ICP within {icp_distance:g}"] if icp_distance is not None else []
        details += ["normals of 30 neighbours"] if normals else []
        details += [f"F-score at {', '.join(f'{t:g}' for t in thresholds)}"] if thresholds else []
        details += [f"at most {max_points} points"] if max_points is not None else []
        super().__init__((*names, *(f"fscore@{t:g}" for t in thresholds)), protocol=", ".join(details))
        self.source = source
        self.alignment = alignment
        self.icp_distance = icp_distance
        self.normals = normals
        self.thresholds = tuple(thresholds)
        self.max_points = max_points

    def update(self, predictions: Predictions, batch: SceneBatch) -> None:
        """Measure one batch; without the predictions that ``source`` needs, nothing happens.

        Args:
            predictions: depth and pose encoding, or world points.
            batch: ``world_points``, ``points_valid``, ``scale`` and, without alignment, ``cam_from_world`` are read.
        """
        points = predicted_points(predictions, batch, self.source)
        if points is None:
            return
        values = {name: torch.full((len(batch),), torch.nan, dtype=torch.float64) for name in self.names}
        for scene, valid in enumerate(batch.points_valid):
            used = _thinned(valid, self.max_points)
            scale = batch.scale[scene]
            # without a similarity to find it, the prediction's unit is the batch's
            source = points[scene][used] * (1 if self.alignment == "similarity" else scale)
            target = batch.world_points[scene][used] * scale
            if not len(target):
                self.note(scene, "no pixel has a true depth and pose")
                continue
            if not torch.isfinite(source).all():
                self.note(scene, "predicted points are not finite")
                found = _DIVERGED
            else:
                try:
                    source = self._align(source, target)
                    found = cloud_errors(source, target, thresholds=self.thresholds, normals=self.normals)
                except NumericalError as error:
                    self.note(scene, str(error))
                    continue
            for name, number in self._named(found).items():
                values[name][scene] = number
        for name, value in values.items():
            self.add({name: value}, ~value.isnan())

    @full_precision
    def _align(self, source: Tensor, target: Tensor) -> Tensor:
        source, target = source.cpu().double(), target.cpu().double()
        if self.alignment != "none":
            source = umeyama(source, target, with_scale=self.alignment == "similarity").apply(source)
        if self.icp_distance is not None:
            motion: Similarity = icp(source, target, self.icp_distance)
            source = motion.apply(source)
        return source

    def _named(self, errors: CloudErrors) -> dict[str, float]:
        named = {
            "acc": errors.accuracy,
            "acc_median": errors.accuracy_median,
            "comp": errors.completeness,
            "comp_median": errors.completeness_median,
            "nc": errors.normal_consistency,
            "nc1": errors.normal_accuracy,
            "nc2": errors.normal_completeness,
        }
        named |= {f"fscore@{threshold:g}": errors.fscore.get(threshold, 0.0) for threshold in self.thresholds}
        return {name: named[name] for name in self.names}


#: A prediction that is not finite is infinitely far off.
_DIVERGED = CloudErrors(
    accuracy=float("inf"),
    accuracy_median=float("inf"),
    completeness=float("inf"),
    completeness_median=float("inf"),
)


def _thinned(valid: Tensor, max_points: int | None) -> Tensor:
    """``valid`` with at most ``max_points`` true entries left, evenly spaced."""
    index = valid.flatten().nonzero().flatten()
    if max_points is None or len(index) <= max_points:
        return valid
    kept = index[torch.arange(max_points, device=index.device) * len(index) // max_points]
    return torch.zeros_like(valid).flatten().index_fill_(0, kept, True).reshape(valid.shape)


def _too_few(valid: Tensor) -> str:
    return f"{int(valid.sum())} to align by, which do not determine a similarity or leave nothing to score"

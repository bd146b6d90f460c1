"""Evaluation measures as pure functions on tensors."""

from lorasub.metrics.functional.depth import DepthAlignment, DepthErrors, align_depth, depth_errors
from lorasub.metrics.functional.points import point_map_error
from lorasub.metrics.functional.pose import (
    PairErrors,
    pose_auc,
    pose_auc_vggt_np,
    pose_auc_vggt_torch,
    relative_pose_errors,
)

__all__ = [
    "DepthAlignment",
    "DepthErrors",
    "PairErrors",
    "align_depth",
    "depth_errors",
    "point_map_error",
    "pose_auc",
    "pose_auc_vggt_np",
    "pose_auc_vggt_torch",
    "relative_pose_errors",
]

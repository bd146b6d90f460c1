"""Evaluation measures as pure functions on tensors."""

from lorasub.metrics.functional.calibration import (
    Sparsification,
    error_by_confidence,
    rank_correlation,
    sparsification,
)
from lorasub.metrics.functional.clouds import CloudErrors, cloud_errors, estimate_normals, icp, point_map_error
from lorasub.metrics.functional.depth import (
    DepthAlignment,
    DepthErrors,
    align_depth,
    alignment_determined,
    depth_errors,
    depth_within,
    matched_depths,
)
from lorasub.metrics.functional.pose import (
    PairErrors,
    pose_auc,
    pose_auc_vggt_np,
    pose_auc_vggt_torch,
    relative_pose_errors,
)
from lorasub.metrics.functional.trajectory import (
    TrajectoryAlignment,
    TrajectoryErrors,
    align_trajectory,
    move_cameras,
    trajectory_errors,
)

__all__ = [
    "CloudErrors",
    "DepthAlignment",
    "DepthErrors",
    "PairErrors",
    "Sparsification",
    "TrajectoryAlignment",
    "TrajectoryErrors",
    "align_depth",
    "align_trajectory",
    "alignment_determined",
    "cloud_errors",
    "depth_errors",
    "depth_within",
    "error_by_confidence",
    "estimate_normals",
    "icp",
    "matched_depths",
    "move_cameras",
    "point_map_error",
    "pose_auc",
    "pose_auc_vggt_np",
    "pose_auc_vggt_torch",
    "rank_correlation",
    "relative_pose_errors",
    "sparsification",
    "trajectory_errors",
]

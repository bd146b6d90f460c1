"""Named evaluation protocols: what exactly is measured, under an id that a config can name and result files repeat.

Numbers of the same name differ between projects by alignment, unit, binning or frame choice, often by more than the
methods that they are to tell apart. So a number belongs to a protocol, and only numbers of one protocol compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torchmetrics import MetricCollection

from lorasub.errors import ConfigError
from lorasub.metrics.base import SceneMetric
from lorasub.metrics.calibration import ConfidenceCalibration
from lorasub.metrics.depth import DepthAccuracy
from lorasub.metrics.points import PointCloudAccuracy, PointMapError
from lorasub.metrics.pose import PoseAccuracy, TrajectoryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One way to measure.

    Attributes:
        measures: what, in a line.
        used_by: whose published numbers it matches, or when to choose it.
        metrics: makes its metrics anew.
    """

    measures: str
    used_by: str
    metrics: Callable[[], list[SceneMetric]]


#: The protocol whose results have no id before their names.
DEFAULT = "default"

PROTOCOLS: dict[str, Protocol] = {
    DEFAULT: Protocol(
        measures="depth after median alignment per scene, angles of all pairs, corresponding points after Sim(3)",
        used_by="everyday training; quick, and robust on short fits",
        metrics=lambda: [DepthAccuracy(), PoseAccuracy(), PointMapError()],
    ),
    "exact_scale_shift": Protocol(
        measures="depth after the exact least-absolute-error scale and shift per scene",
        used_by="new comparisons that want scale and shift: what lad2 aims at and often misses",
        metrics=lambda: [DepthAccuracy("scale_shift")],
    ),
    "metric_depth": Protocol(
        measures="depth as it is, in the source's unit",
        used_by="recons_eval and CUT3R, alignment 'metric'",
        metrics=lambda: [DepthAccuracy("none")],
    ),
    "recons_eval_mono": Protocol(
        measures="depth after median alignment per frame",
        used_by="single-image depth of recons_eval, CUT3R and MonST3R (NYU)",
        metrics=lambda: [DepthAccuracy("recons_eval_median", per="frame")],
    ),
    "recons_eval_scale": Protocol(
        measures="depth after one re-weighted least-squares scale per sequence",
        used_by="video depth of recons_eval and CUT3R, alignment 'scale' (KITTI)",
        metrics=lambda: [DepthAccuracy("recons_eval_scale")],
    ),
    "recons_eval_scale_bonn": Protocol(
        measures="recons_eval_scale on true depth below 70",
        used_by="the same on Bonn",
        metrics=lambda: [DepthAccuracy("recons_eval_scale", max_depth=70)],
    ),
    "recons_eval_scale_sintel": Protocol(
        measures="recons_eval_scale on true depth below 70, predictions clipped to 70",
        used_by="the same on Sintel",
        metrics=lambda: [DepthAccuracy("recons_eval_scale", max_depth=70, clip=70)],
    ),
    "cut3r_lad2": Protocol(
        measures="depth after one scale and shift per sequence by 1,000 steps of Adam, learning rate 1e-4",
        used_by="video depth of CUT3R and recons_eval, alignment 'scale&shift' (KITTI)",
        metrics=lambda: [DepthAccuracy("cut3r_lad2")],
    ),
    "cut3r_lad2_bonn": Protocol(
        measures="cut3r_lad2 on true depth below 70",
        used_by="the same on Bonn",
        metrics=lambda: [DepthAccuracy("cut3r_lad2", max_depth=70)],
    ),
    "cut3r_lad2_sintel": Protocol(
        measures="cut3r_lad2 on true depth below 70, predictions clipped to 70",
        used_by="the same on Sintel",
        metrics=lambda: [DepthAccuracy("cut3r_lad2", max_depth=70, clip=70)],
    ),
    "cut3r_lad2_nyu": Protocol(
        measures="cut3r_lad2 with learning rate 1e-3",
        used_by="the same on NYU",
        metrics=lambda: [DepthAccuracy("cut3r_lad2_nyu")],
    ),
    "submining_paper": Protocol(
        measures="every second frame; the true depth moved onto each predicted frame by lad2, errors in that unit",
        used_by="real-world depth of 'Mining Attribute Subspaces', as released",
        metrics=lambda: [DepthAccuracy("submining_lad2", per="frame", frame_step=2)],
    ),
    "recons_eval_points": Protocol(
        measures="clouds after Umeyama per sequence and ICP within 0.1: Acc, Comp, NC",
        used_by="multi-view reconstruction of recons_eval and of 'Mining Attribute Subspaces'",
        metrics=lambda: [PointCloudAccuracy(icp_distance=0.1)],
    ),
    "recons_eval_points_dtu": Protocol(
        measures="recons_eval_points with ICP within 100 (millimetres)",
        used_by="the same on DTU",
        metrics=lambda: [PointCloudAccuracy(icp_distance=100)],
    ),
    "vggt_points": Protocol(
        measures="clouds of the point head after Umeyama per sequence: Acc, Comp",
        used_by="VGGT's point maps on ETH3D",
        metrics=lambda: [PointCloudAccuracy("points", normals=False)],
    ),
    "vggt_co3d": Protocol(
        measures="angles of all pairs: RRA, RTA at 5, 15, 30 and AUC, exact and binned in both published ways",
        used_by="relative poses of VGGT, recons_eval and 'Mining Attribute Subspaces' (CO3Dv2, Re10K)",
        metrics=lambda: [PoseAccuracy((5, 15, 30), (5, 15, 30))],
    ),
    "evo_sim3": Protocol(
        measures="ATE after Sim(3), RPE of successive frames, root mean squares",
        used_by="camera paths of MonST3R, CUT3R and recons_eval (Sintel, TUM, ScanNet)",
        metrics=lambda: [TrajectoryError()],
    ),
    "indoor_metric": Protocol(
        measures="metric depth, path and clouds after a rigid motion only, F-score at 5 cm",
        used_by="metric predictions of rooms",
        metrics=lambda: [
            DepthAccuracy("none"),
            TrajectoryError("rigid"),
            PointCloudAccuracy(alignment="rigid", thresholds=(0.05,)),
        ],
    ),
    "calibration": Protocol(
        measures="AUSE and rank correlation of depth confidence",
        used_by="how far confidence can be trusted",
        metrics=lambda: [ConfidenceCalibration()],
    ),
}


def protocol_metrics(protocols: Sequence[str | SceneMetric]) -> MetricCollection:
    """Makes the metrics of several protocols, each result under its protocol's id (those of ``default`` under none).

    Args:
        protocols: keys of :data:`PROTOCOLS`, and metrics of your own.

    Raises:
        ConfigError: an id is unknown, or a protocol or class of metric comes twice.
    """
    metrics: dict[str, SceneMetric] = {}
    for each in protocols:
        for metric in [each] if isinstance(each, SceneMetric) else _metrics_of(each):
            name = "_".join(filter(None, (metric.protocol_id, type(metric).__name__)))
            if name in metrics:
                raise ConfigError(f"{name} would be measured twice: name each protocol and each metric once")
            metrics[name] = metric
    return MetricCollection(dict(metrics), compute_groups=False)


def _metrics_of(protocol: str) -> list[SceneMetric]:
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}, or give a SceneMetric")
    metrics = PROTOCOLS[protocol].metrics()
    for metric in metrics:
        metric.protocol_id = None if protocol == DEFAULT else protocol
    return metrics

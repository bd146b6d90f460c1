"""Transparent objects: does the model see the glass, or what is behind it?

Also an example of a task that only measures differently: it overrides ``configure_metrics``.
"""

from __future__ import annotations

from torchmetrics import MetricCollection

from lorasub.metrics import DepthAccuracy, PointMapError
from lorasub.metrics.protocols import protocol_metrics
from lorasub.tasks.geometry import GeometryTask


class TransparentObjectsTask(GeometryTask):
    """Geometry, scored inside the object masks beside the scores of the whole image.

    Depth is aligned by its median over the whole scene and then scored inside and outside of the objects apart, with
    the ratios 1.05, 1.10 and 1.25 of ClearGrasp (Sajjan et al., ICRA 2020). A model that looks through the glass has a
    good background and a bad object. True depth on the glass has to come from a painted twin or a mesh: a depth camera
    is wrong just there.

    Takes the arguments of :class:`~lorasub.tasks.GeometryTask`. Batches need ``object_masks``; scenes without them
    count for the whole image only.
    """

    def configure_metrics(self) -> MetricCollection:
        """Those of the protocols; depth inside and outside of the objects, and points inside."""
        metrics = protocol_metrics(self.protocols)
        metrics.add_metrics(
            {
                "objects": DepthAccuracy(region="objects", thresholds=(1.05, 1.1, 1.25)),
                "background": DepthAccuracy(region="background"),
                "object_points": PointMapError(region="objects"),
            }
        )
        return metrics

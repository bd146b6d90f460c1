"""Checks that depth lies on the image: edges of depth are edges of the image, where both come from one camera.

A step in depth is the outline of a thing, and outlines are nearly always visible. So the image's gradient is stronger
along the steps of its own depth than anywhere beside them. Every view says so by itself, without poses; the spread over
the views is the uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d

from lorasub.data.check.hypotheses import AS_READ, DepthCamera, Interpretation
from lorasub.data.check.statistics import Estimate, over_views
from lorasub.data.decoding import View

#: A step in depth: the other side is farther by this part. Smaller ones, where there are none so large, may be noise.
STEPS = (0.06, 0.03)
#: Views with fewer pixels on steps say nothing.
LEAST_STEPS = 60
#: Pixels at the image's border that are left out.
BORDER = 4


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """The steps in a view's depth, and the strength of edges in its image.

    Attributes:
        pixels: ``[N, 2]`` (x, y) of pixels on the near side of a step.
        depth: ``[N]`` theirs.
        strength: ``[H, W]`` edges of the image: ranks of its smoothed gradient, in [0, 1].
        intrinsics: ``[3, 3]`` of the view.
    """

    pixels: Tensor
    depth: Tensor
    strength: Tensor
    intrinsics: Tensor

    def agreement(self, camera: DepthCamera) -> float:
        """Mean strength of the image's edges at the steps, if depth was taken by this camera."""
        # where depth belongs in the image: the reverse of where the image's pixels are found in the depth
        places = camera.to_image(self.pixels, self.depth, self.intrinsics)
        height, width = self.strength.shape
        inside = (places >= 0).all(-1) & (places[:, 0] < width) & (places[:, 1] < height)
        if int(inside.sum()) < LEAST_STEPS // 2:
            return float("nan")
        grid = places[inside] / places.new_tensor([width, height]) * 2 - 1
        found = grid_sample(self.strength[None, None], grid[None, None].float(), align_corners=False)
        return float(found.mean())


def outlines(view: View) -> Outlines | None:
    """The steps in a view's depth and the edges of its image; None where there are too few steps."""
    depth = view.depth
    # the farthest of the nine around each pixel, unknown ones left out
    farther = max_pool2d(depth[None, None], 3, stride=1, padding=1)[0, 0] / depth.clamp(min=1e-12) - 1
    inner = torch.zeros_like(depth, dtype=torch.bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = depth[BORDER:-BORDER, BORDER:-BORDER] > 0
    found = ((inner & (farther > step)).nonzero(as_tuple=True) for step in STEPS)
    rows, columns = next((pixels for pixels in found if len(pixels[0]) >= LEAST_STEPS), (None, None))
    if rows is None or columns is None:
        return None
    gray = view.image.float().mean(0)[None, None]
    smooth = avg_pool2d(gray, 3, stride=1, padding=1, count_include_pad=False)[0, 0]
    gradient = torch.stack(torch.gradient(smooth)).norm(dim=0)
    # equal gradients (a blank image) have equal ranks
    ranked = gradient.flatten().sort().values
    below, up_to = (torch.searchsorted(ranked, gradient.flatten(), right=right) for right in (False, True))
    ranks = (below + up_to).float() / (2 * gradient.numel())
    return Outlines(
        pixels=torch.stack([columns, rows], dim=-1).double() + 0.5,
        depth=depth[rows, columns].double(),
        strength=ranks.reshape(gradient.shape),
        intrinsics=view.intrinsics.double(),
    )


def edge_evidence(found: Sequence[Outlines], interpretation: Interpretation) -> Estimate:
    """By how much the image's edges are stronger at the steps of depth as read than under another interpretation.

    Args:
        found: one for each view.
        interpretation: with another camera of depth.
    """
    differences = [view.agreement(AS_READ.depth_camera) - view.agreement(interpretation.depth_camera) for view in found]
    return over_views([value for value in differences if not math.isnan(value)])

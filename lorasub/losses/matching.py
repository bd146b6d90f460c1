"""Patch correspondence between the views of a scene, as a contrastive loss on patch features.

Relative pose has to be read from which patch of one view shows what which patch of another view shows. A network that
is trained from scratch on poses alone finds that out very late; told where the patches match (InfoNCE, van den Oord et
al. 2018), it does so early. VGGT's tracking loss, which is not part of lorasub, serves the same end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lorasub.geometry import full_precision, project_points
from lorasub.geometry.poses import world_to_camera
from lorasub.losses.reduction import masked_mean
from lorasub.structures import SceneBatch

#: Stands for a patch without a counterpart.
NO_MATCH = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingLoss:
    """Matching of each scene's patches, all ``[B]``.

    Attributes:
        loss: mean cross-entropy of finding a patch's counterpart among the patches of the other view.
        accuracy: share of patches whose counterpart is the most similar of all; 0 for a scene without counterparts.
    """

    loss: Tensor
    accuracy: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSightings:
    """Where what the middle of a patch shows is seen in every view.

    Attributes:
        pixels: ``[B, S, S, P, 2]`` x and y, in pixels of view b (third axis), of patch p of view a (second axis), row
            by row. Means something where it is visible.
        visible: ``[B, S, S, P]`` bool. A view does not count as seen in itself.
        image_size: (H, W) of the views.
    """

    pixels: Tensor
    visible: Tensor
    image_size: tuple[int, int]

    def matches(self, patch_size: int) -> Tensor:
        """``[B, S, S, P]`` int64: which patch of the other view it falls onto, or :data:`NO_MATCH`."""
        column, row = (torch.where(self.visible[..., None], self.pixels, 0.0).long() // patch_size).unbind(-1)
        return torch.where(self.visible, row * (self.image_size[1] // patch_size) + column, NO_MATCH)


@torch.no_grad()
def patch_sightings(batch: SceneBatch, patch_size: int, *, tolerance: float = 0.05) -> PatchSightings:
    """Where every other view shows what the middle of a patch shows, from known depth and poses.

    The world point at the pixel just below and right of the patch's middle is projected into the other view. It is
    seen there if it falls onto a pixel whose depth is known and agrees with the point's; otherwise something stands in
    front of it, or depth is missing.

    Args:
        batch: scenes, normalised or not. H and W are multiples of ``patch_size``.
        patch_size: pixels.
        tolerance: by how much the two depths may differ, as a share of the point's.
    """
    height, width = batch.image_size
    middle = slice(patch_size // 2, None, patch_size)
    points = batch.world_points[:, :, middle, middle].flatten(2, 3)  # [B, S, P, 3]
    known = batch.points_valid[:, :, middle, middle].flatten(2)
    b, s, p = known.shape

    # every view's points, seen by every camera: [B, a, b, P, ...]
    cameras = batch.cam_from_world[:, None].expand(-1, s, -1, -1, -1)
    seen = world_to_camera(points[:, :, None].expand(-1, -1, s, -1, -1), cameras)
    pixels = project_points(seen, batch.intrinsics[:, None].expand(-1, s, -1, -1, -1))
    z = seen[..., 2]
    inside = (z > 0) & (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height)
    column, row = torch.where(inside[..., None], pixels, 0.0).long().unbind(-1)

    index = (row * width + column).transpose(1, 2).reshape(b, s, s * p)  # by the view that looks
    depth = batch.depth.flatten(2).gather(2, index).view(b, s, s, p).transpose(1, 2)
    measured = batch.points_valid.flatten(2).gather(2, index).view(b, s, s, p).transpose(1, 2)
    visible = inside & known[:, :, None] & measured & ((depth - z).abs() < tolerance * z)
    visible &= ~torch.eye(s, dtype=torch.bool, device=z.device)[None, :, :, None]
    return PatchSightings(pixels=pixels, visible=visible, image_size=(height, width))


@full_precision
def matching_loss(features: Tensor, matches: Tensor, *, temperature: float = 0.07) -> MatchingLoss:
    """InfoNCE over the patches of every ordered pair of views.

    For patch p of view a with a counterpart in view b, the cosine similarities to all patches of b, divided by the
    temperature, are the logits of a classification whose right answer is the counterpart. All pairs of all views are
    compared at once, which takes memory for (S P)^2 similarities of a scene.

    Args:
        features: ``[B, S, P, D]`` of any length.
        matches: ``[B, S, S, P]`` of :meth:`PatchSightings.matches`.
        temperature: small values ask for a clear difference between the counterpart and the rest.

    Returns:
        Means over all patches that have a counterpart, 0 for scenes without one (a single view, no depth, no poses).
    """
    unit = F.normalize(features, dim=-1)
    logits = torch.einsum("bipd,bjqd->bijpq", unit, unit) / temperature
    visible = matches != NO_MATCH
    target = matches.clamp(min=0)
    # not F.cross_entropy with ignore_index: its mean would pool the scenes
    likelihood = logits.log_softmax(-1).gather(-1, target[..., None]).squeeze(-1)
    correct = logits.detach().argmax(-1) == target
    return MatchingLoss(loss=masked_mean(-likelihood, visible), accuracy=masked_mean(correct.to(logits), visible))


@full_precision
def location_loss(locations: Tensor, sightings: PatchSightings) -> Tensor:
    """L1 distance between where patches are said to be seen in the first view and where they are.

    Matching says which patch is the counterpart; this asks to carry its place over, which is what a pose is made of.

    Args:
        locations: ``[B, S, P, 2]`` x and y in the first view, from -1 at its left and upper border to 1 at the others.
            What is said of the first view's own patches is not read.
        sightings: of the same patches.

    Returns:
        ``[B]``: the mean over coordinates of all patches of later views that the first view sees, 0 without any.
    """
    height, width = sightings.image_size
    visible = sightings.visible[:, 1:, 0]
    half = torch.tensor([width, height], device=locations.device) / 2
    target = torch.where(visible[..., None], sightings.pixels[:, 1:, 0].to(locations) / half - 1, 0.0)
    return masked_mean((locations[:, 1:] - target).abs().mean(-1), visible)

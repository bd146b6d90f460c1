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
# A logarithm of nothing whose gradient is finite.
_NOTHING = -1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingLoss:
    """Matching of each scene's patches, all ``[B]``.

    Attributes:
        loss: mean cross-entropy of finding a patch's counterpart among the patches of the other view.
        accuracy: share of patches whose counterpart is the most similar of all; 0 for a scene without counterparts.
    """

    loss: Tensor
    accuracy: Tensor


@torch.no_grad()
def patch_matches(batch: SceneBatch, patch_size: int, *, tolerance: float = 0.05) -> Tensor:
    """Finds the patch of each other view that shows the middle of a patch, from known depth and poses.

    The world point at the pixel just below and right of the patch's middle is projected into the other view. It is
    seen there if it falls onto a pixel whose depth is known and agrees with the point's; otherwise something stands in
    front of it, or depth is missing.

    Args:
        batch: scenes, normalised or not. H and W are multiples of ``patch_size``.
        patch_size: pixels.
        tolerance: by how much the two depths may differ, as a share of the point's.

    Returns:
        ``[B, S, S, P]`` int64: for patch p of view a (second axis), the patch of view b (third axis), row by row, or
        :data:`NO_MATCH`. A view has no match in itself.
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

    matches = (row // patch_size) * (width // patch_size) + column // patch_size
    return torch.where(visible, matches, NO_MATCH)


@full_precision
def matching_loss(features: Tensor, matches: Tensor, *, temperature: float = 0.07) -> MatchingLoss:
    """InfoNCE over the patches of every ordered pair of views.

    For patch p of view a with a counterpart in view b, the cosine similarities to all patches of b, divided by the
    temperature, are the logits of a classification whose right answer is the counterpart. All pairs of all views are
    compared at once, which takes memory for (S P)^2 similarities of a scene.

    Args:
        features: ``[B, S, P, D]`` of any length.
        matches: ``[B, S, S, P]`` of :func:`patch_matches`.
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
def attention_loss(queries: Tensor, keys: Tensor, matches: Tensor) -> Tensor:
    """Asks a head of attention over all views to look from each patch at its counterparts.

    A projection that tells counterparts apart does not make the network use them: it also has to learn to fetch what
    they hold. Here the attention weights themselves are the prediction.

    Args:
        queries: ``[B, S, N, D]`` of one head; the last P of a view's N tokens are its patches.
        keys: likewise.
        matches: ``[B, S, S, P]`` of :func:`patch_matches`.

    Returns:
        ``[B]``: minus the logarithm of the weight on all counterparts of a patch together, the mean over patches that
        have any; 0 for scenes without.
    """
    b, s, n, d = queries.shape
    p = matches.shape[-1]
    logits = queries[:, :, n - p :].reshape(b, s * p, d) @ keys.reshape(b, s * n, d).mT / d**0.5
    log_weights = logits.log_softmax(-1).view(b, s, p, s, n)[..., n - p :].transpose(2, 3)  # [B, a, b, P, P]
    visible = matches != NO_MATCH
    found = log_weights.gather(-1, matches.clamp(min=0)[..., None]).squeeze(-1)
    together = torch.where(visible, found, _NOTHING).logsumexp(2)
    some = visible.any(2)
    return masked_mean(-torch.where(some, together, 0.0), some)

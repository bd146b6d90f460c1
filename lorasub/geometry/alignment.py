"""The similarity between two point sets in closed form (Umeyama, PAMI 1991)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lorasub.errors import NumericalError
from lorasub.precision import full_precision

#: Singular values of the covariance below this fraction of the largest count as zero: points on a line.
_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Similarity:
    """A Sim(3) transform, ``target = scale * rotation @ source + translation``.

    Attributes:
        scale: ``[]`` positive.
        rotation: ``[3, 3]``.
        translation: ``[3]``.

    Example:
        >>> double = Similarity(scale=torch.tensor(2.0), rotation=torch.eye(3), translation=torch.ones(3))
        >>> double.apply(torch.tensor([[0.0, 1.0, 2.0]]))
        tensor([[1., 3., 5.]])
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    @full_precision
    def apply(self, points: Tensor) -> Tensor:
        """Move points ``[..., 3]``; the result has their shape and dtype."""
        scaled = (self.scale * self.rotation).to(points.dtype)
        return points @ scaled.mT + self.translation.to(points.dtype)


@full_precision
def umeyama(source: Tensor, target: Tensor, weights: Tensor | None = None, *, with_scale: bool = True) -> Similarity:
    """The similarity that takes ``source`` closest to ``target`` in (weighted) least squares.

    Computed in float64 whatever the input, where the device has it. Points whose weight is 0 are not read at all and
    may be NaN.

    Args:
        source: ``[N, 3]``.
        target: ``[N, 3]``, point by point the partners of ``source``.
        weights: ``[N]`` not negative, or a bool mask. Default: all 1.
        with_scale: false fixes the scale to 1 (a rigid motion).

    Returns:
        The transform, in the precision it was computed in.

    Raises:
        NumericalError: the points do not determine a similarity: fewer than 3 have weight, they lie on a line or in one
            spot, or they are not finite.

    Example:
        >>> source = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        >>> found = umeyama(source, 2 * source + torch.tensor([0.0, 0, 3]))
        >>> round(found.scale.item(), 6), found.translation.round(decimals=6).tolist()
        (2.0, [0.0, 0.0, 3.0])
    """
    if weights is None:
        weights = source.new_ones(source.shape[0])
    used = weights > 0
    # Apple's GPUs know no float64.
    precise = torch.float32 if source.device.type == "mps" else torch.float64
    x, y, w = (tensor[used].to(precise) for tensor in (source, target, weights))
    _check_points(x, y)
    w = w / w.sum()
    x_mean, y_mean = w @ x, w @ y
    x, y = x - x_mean, y - y_mean
    covariance = (y * w[:, None]).mT @ x
    u, s, vt = torch.linalg.svd(covariance)
    if s[1] <= _RANK_TOLERANCE * s[0] or s[0] == 0:
        raise NumericalError(
            f"cannot align {x.shape[0]} points: they lie on a line or in one spot (singular values of the covariance "
            f"{[float(f'{value:.3g}') for value in s.tolist()]}), so the rotation is not determined"
        )
    # The last direction is turned round where the best orthogonal matrix would be a reflection.
    signs = torch.ones_like(s)
    signs[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = (u * signs) @ vt
    variance = w @ x.square().sum(-1)
    scale = (s * signs).sum() / variance if with_scale else torch.ones_like(variance)
    return Similarity(scale=scale, rotation=rotation, translation=y_mean - scale * (rotation @ x_mean))


def _check_points(x: Tensor, y: Tensor) -> None:
    if x.shape[0] < 3:
        raise NumericalError(
            f"cannot align {x.shape[0]} points: a similarity needs at least 3 that are not on one line"
        )
    if not (x.isfinite().all() and y.isfinite().all()):
        raise NumericalError("cannot align points that are not finite; mask them by weights of 0")

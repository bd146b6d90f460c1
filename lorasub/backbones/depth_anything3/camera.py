"""The camera head of Depth Anything 3, and its poses in lorasub's convention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lorasub.geometry import quaternion_to_matrix


class CameraDecoder(nn.Module):
    """Predicts each view's camera from its camera token. Names are the published checkpoints'.

    Args:
        dim: width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.fc_t = nn.Linear(dim, 3)
        self.fc_qvec = nn.Linear(dim, 4)
        self.fc_fov = nn.Sequential(nn.Linear(dim, 2), nn.ReLU())

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, S, dim]`` to ``[B, S, 9]``: translation and quaternion xyzw of world-from-camera, fields of view."""
        features = self.backbone(tokens.to(self.fc_t.weight.dtype))
        return torch.cat((self.fc_t(features), self.fc_qvec(features), self.fc_fov(features)), dim=-1)


def inverted_pose_encoding(encoding: Tensor) -> Tensor:
    """Turn the encoding of world-from-camera into that of camera-from-world, or back; ``[..., 9]``.

    The quaternion keeps its length, which is the network's own.
    """
    translation, quaternion, fov = torch.split(encoding, [3, 4, 2], dim=-1)
    conjugate = torch.cat((-quaternion[..., :3], quaternion[..., 3:]), dim=-1)
    moved = -(quaternion_to_matrix(conjugate) @ translation[..., None])[..., 0]
    return torch.cat((moved, conjugate, fov), dim=-1)

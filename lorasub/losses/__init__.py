"""Training losses as pure functions with explicit masks.

Every loss returns one value per scene, ``[B]``, and takes its means and quantiles within the scene. VGGT's released
code pools the whole batch instead, so that there a scene with more valid pixels weighs more, and one process with eight
scenes computes something else than eight processes with one. Here the mean over scenes is the same however they are
spread over processes.
"""

from lorasub.losses.camera import CameraLoss, camera_loss
from lorasub.losses.matching import MatchingLoss, attention_loss, matching_loss, patch_matches
from lorasub.losses.regression import RegressionLoss, gradient_loss, regression_loss
from lorasub.losses.vggt import LossTerms, VGGTLoss

__all__ = [
    "CameraLoss",
    "LossTerms",
    "MatchingLoss",
    "RegressionLoss",
    "VGGTLoss",
    "attention_loss",
    "camera_loss",
    "gradient_loss",
    "matching_loss",
    "patch_matches",
    "regression_loss",
]

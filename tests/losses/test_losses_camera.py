"""The camera loss against a plain loop over views and iterations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lorasub.losses import camera_loss

ALL = torch.ones(2, 3, dtype=torch.bool)
KNOWN = torch.ones(2, dtype=torch.bool)


def encodings(count: int, seed: int = 0, shape: tuple[int, int] = (2, 3)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, 9, generator=generator, dtype=torch.float64) for _ in range(count)]


def reference(iterations: list[Tensor], target: Tensor, valid: Tensor, scene: int) -> tuple[float, float, float]:
    translation, rotation, focal = 0.0, 0.0, 0.0
    for i, encoding in enumerate(iterations):
        t, r, f = [], [], []
        for view in range(target.shape[1]):
            if valid[scene, view]:
                e, g = encoding[scene, view].numpy(), target[scene, view].numpy()
                t += [min(abs(a - b), 100.0) for a, b in zip(e[:3], g[:3], strict=True)]
                r += [min(np.abs(e[3:7] - g[3:7]).mean(), np.abs(e[3:7] + g[3:7]).mean())]
                f += list(np.abs(e[7:] - g[7:]))
        weight = 0.6 ** (len(iterations) - 1 - i)
        translation, rotation, focal = (
            total + weight * np.mean(part) / len(iterations)
            for total, part in zip((translation, rotation, focal), (t, r, f), strict=True)
        )
    return translation, rotation, focal


@pytest.mark.parametrize("iterations", [1, 4])
def test_equals_a_plain_loop(iterations: int) -> None:
    predicted, (target,) = encodings(iterations), encodings(1, seed=1)
    target[0, 1, :3] += 500  # beyond the cap
    valid = torch.tensor([[True, True, False], [True, False, True]])
    found = camera_loss(predicted, target, valid, KNOWN)
    for scene in range(2):
        t, r, f = reference(predicted, target, valid, scene)
        assert found.translation[scene].item() == pytest.approx(t)
        assert found.rotation[scene].item() == pytest.approx(r)
        assert found.focal[scene].item() == pytest.approx(f)
        assert found.total[scene].item() == pytest.approx(t + r + 0.5 * f)


def test_weights_of_the_parts() -> None:
    predicted, (target,) = encodings(2), encodings(1, seed=1)
    found = camera_loss(predicted, target, ALL, KNOWN, translation_weight=2, rotation_weight=3, focal_weight=5)
    torch.testing.assert_close(found.total, 2 * found.translation + 3 * found.rotation + 5 * found.focal)


def test_opposite_quaternions_are_the_same_rotation() -> None:
    (target,) = encodings(1)
    opposite = torch.cat([target[..., :3], -target[..., 3:7], target[..., 7:]], -1)
    assert not camera_loss([opposite], target, ALL, KNOWN).total.any()


def test_unknown_scale_takes_out_the_translation_only() -> None:
    predicted, (target,) = encodings(2), encodings(1, seed=1)
    predicted = [encoding.requires_grad_() for encoding in predicted]
    known = torch.tensor([False, True])
    found, full = camera_loss(predicted, target, ALL, known), camera_loss(predicted, target, ALL, KNOWN)
    assert found.translation[0] == 0
    torch.testing.assert_close(found.translation[1], full.translation[1])
    torch.testing.assert_close(found.rotation, full.rotation)
    torch.testing.assert_close(found.focal, full.focal)
    found.total.sum().backward()
    gradient = predicted[-1].grad
    assert gradient is not None
    assert not gradient[0, :, :3].any()
    assert gradient[0, :, 3:].any()


def test_views_without_pose_leave_no_trace() -> None:
    """Not even NaN in the target reaches values or gradients."""
    predicted, (target,) = encodings(2), encodings(1, seed=1)
    predicted = [encoding.requires_grad_() for encoding in predicted]
    target[0, 1], target[1] = torch.nan, torch.inf
    valid = torch.tensor([[True, False, True], [False, False, False]])
    found = camera_loss(predicted, target, valid, KNOWN)
    assert found.total.isfinite().all()
    assert found.total[1] == 0
    found.total.sum().backward()
    for encoding in predicted:
        assert encoding.grad is not None
        assert encoding.grad.isfinite().all()
        assert not encoding.grad[~valid].any()
        assert encoding.grad[valid].any()


def test_a_single_view_is_enough() -> None:
    (predicted,), (target,) = encodings(1, shape=(1, 1)), encodings(1, seed=1, shape=(1, 1))
    found = camera_loss([predicted], target, ALL[:1, :1], KNOWN[:1])
    assert found.total.isfinite().all()
    assert found.total > 0


def test_gradients() -> None:
    predicted = [encoding.requires_grad_() for encoding in encodings(3)]
    (target,) = encodings(1, seed=1)
    valid = torch.tensor([[True, True, False], [True, False, True]])

    def total(*iterations: Tensor) -> Tensor:
        return camera_loss(iterations, target, valid, KNOWN).total

    assert torch.autograd.gradcheck(total, tuple(predicted))

"""Rotations against scipy, at the angles where formulas break: 0, tiny, 180 degrees."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from lorasub.geometry import matrix_to_quaternion, quaternion_to_matrix, rotation_angle

AXES = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -2, 3), (-1, -1, -1), (0, -1, 1e-4)]
ANGLES = [0.0, 1e-7, 1e-3, 1.0, math.pi / 2, 3.0, math.pi - 1e-6, math.pi]


def scipy_rotations() -> Rotation:
    vectors = [np.array(axis) / np.linalg.norm(axis) * angle for axis in AXES for angle in ANGLES]
    return Rotation.from_rotvec(np.stack(vectors))


def test_matrices_agree_with_scipy() -> None:
    rotations = scipy_rotations()
    quaternions = torch.from_numpy(rotations.as_quat()) * 1.7  # length does not matter
    torch.testing.assert_close(quaternion_to_matrix(quaternions), torch.from_numpy(rotations.as_matrix()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quaternions_agree_with_scipy_up_to_sign(dtype: torch.dtype) -> None:
    rotations = scipy_rotations()
    found = matrix_to_quaternion(torch.from_numpy(rotations.as_matrix()).to(dtype))
    expected = torch.from_numpy(rotations.as_quat())
    assert found.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    assert torch.minimum((found - expected).abs().amax(-1), (found + expected).abs().amax(-1)).max() < tolerance
    assert (found[..., 3] >= 0).all()


@given(st.integers(0, 2**32 - 1))
def test_round_trip_of_any_rotation(seed: int) -> None:
    matrices = torch.from_numpy(Rotation.random(5, random_state=seed).as_matrix())
    torch.testing.assert_close(quaternion_to_matrix(matrix_to_quaternion(matrices)), matrices)


def test_zero_quaternion_is_the_identity() -> None:
    torch.testing.assert_close(quaternion_to_matrix(torch.zeros(4)), torch.eye(3))


@pytest.mark.parametrize("angle", [0.0, 1e-3, 2.0, math.pi - 1e-3, math.pi])
def test_gradient_of_the_quaternion_along_rotations(angle: float) -> None:
    """Numerical against automatic derivative, along the group: off it the matrices are no rotations."""
    start = torch.from_numpy(Rotation.from_rotvec(np.array([0.6, 0.0, -0.8]) * angle).as_matrix())

    def quaternion(omega: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros_like(omega[0])
        skew = torch.stack([zero, -omega[2], omega[1], omega[2], zero, -omega[0], -omega[1], omega[0], zero])
        found = matrix_to_quaternion(torch.linalg.matrix_exp(skew.reshape(3, 3)) @ start)
        reference = torch.from_numpy(Rotation.from_matrix(start).as_quat())
        return found * torch.sign((found * reference).sum()).detach()  # one sheet of the double cover

    omega = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(quaternion, (omega,))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.5, 3.0, math.pi - 1e-7, math.pi])
@pytest.mark.parametrize("axis", AXES)
def test_angle_is_accurate_everywhere(axis: tuple[float, ...], angle: float) -> None:
    base = Rotation.random(random_state=3)
    turn = Rotation.from_rotvec(np.array(axis) / np.linalg.norm(axis) * angle)
    found = rotation_angle(torch.from_numpy(base.as_matrix()), torch.from_numpy((base * turn).as_matrix()))
    assert found.item() == pytest.approx(angle, abs=1e-14, rel=1e-9)


def test_tiny_angles_survive_float32() -> None:
    turn = torch.from_numpy(Rotation.from_rotvec([0, 1e-5, 0]).as_matrix()).float()
    # acos((trace - 1) / 2) would give 0 or 3.5e-4 here
    assert rotation_angle(torch.eye(3), turn).item() == pytest.approx(1e-5, rel=1e-3)


def test_angle_of_equal_rotations_has_a_finite_gradient() -> None:
    matrix = torch.eye(3, requires_grad=True)
    rotation_angle(matrix, torch.eye(3)).backward()
    assert matrix.grad is not None
    assert matrix.grad.isfinite().all()

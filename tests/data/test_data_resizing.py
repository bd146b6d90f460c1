"""Cutting and resizing: what the intrinsics say must be what the pixels show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lorasub.data.resizing import (
    Window,
    largest_window,
    resize_depth,
    resize_image,
    resize_intrinsics,
    resize_mask,
)
from lorasub.errors import DataError

sizes = st.tuples(st.integers(20, 90), st.integers(20, 90))


@given(source=sizes, target=sizes, x=st.floats(0.3, 0.7), y=st.floats(0.3, 0.7))
def test_window_is_the_largest_of_its_shape_around_its_center(
    source: tuple[int, int], target: tuple[int, int], x: float, y: float
) -> None:
    height, width = source
    window = largest_window(source, target, (x * width, y * height))
    assert window.left >= 0
    assert window.top >= 0
    assert window.left + window.width <= width
    assert window.top + window.height <= height
    assert window.width / window.height == pytest.approx(target[1] / target[0])
    assert window.left + window.width / 2 == pytest.approx(x * width)
    assert window.top + window.height / 2 == pytest.approx(y * height)
    gaps = [window.left, window.top, width - window.left - window.width, height - window.top - window.height]
    assert min(gaps) == pytest.approx(0, abs=1e-9)  # it touches an edge


def test_window_without_center_is_in_the_middle() -> None:
    assert largest_window((480, 640), (112, 112)) == Window(80, 0, 480, 480)


def test_center_outside_of_the_image_is_refused() -> None:
    with pytest.raises(DataError, match="outside the image of 64 x 48"):
        largest_window((48, 64), (10, 10), (70, 20))


@settings(deadline=None, max_examples=40)
@given(
    target=st.tuples(st.integers(30, 120), st.integers(30, 120)),
    point=st.tuples(st.floats(-0.25, 0.25), st.floats(-0.25, 0.25), st.floats(1, 3)),
    axis=st.tuples(st.floats(60, 68), st.floats(52, 60)),
)
def test_a_projected_point_lands_where_the_resized_image_shows_it(
    target: tuple[int, int], point: tuple[float, float, float], axis: tuple[float, float]
) -> None:
    # a bright blob is painted where a point is seen; after resizing, its centroid must be at the new projection
    height, width = 112, 128
    k = torch.tensor([[70.0, 0, axis[0]], [0, 75.0, axis[1]], [0, 0, 1]], dtype=torch.float64)
    ray = torch.tensor([point[0], point[1], 1.0], dtype=torch.float64)
    x, y = (k @ ray)[:2].tolist()
    rows, columns = np.mgrid[:height, :width] + 0.5
    blob = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))
    image = np.repeat(np.round(blob)[..., None], 3, axis=-1).astype(np.uint8)

    window = largest_window((height, width), target, axis)
    resized = resize_image(image, window, target)[0].double().numpy()
    new_x, new_y = (resize_intrinsics(k, window, target) @ ray)[:2].tolist()

    scale = target[1] / window.width
    margin = 16 * scale  # the whole blob must be inside for its centroid to be meaningful
    if margin < new_x < target[1] - margin and margin < new_y < target[0] - margin:
        rows, columns = np.mgrid[: target[0], : target[1]] + 0.5
        assert (resized * columns).sum() / resized.sum() == pytest.approx(new_x, abs=0.02 * max(1, scale))
        assert (resized * rows).sum() / resized.sum() == pytest.approx(new_y, abs=0.02 * max(1, scale))


def test_principal_point_comes_to_the_middle() -> None:
    k = torch.tensor([[615.2, 0, 298.4], [0, 615.2, 247.5], [0, 0, 1]], dtype=torch.float64)
    new = resize_intrinsics(k, largest_window((480, 640), (112, 140), (298.4, 247.5)), (112, 140))
    assert new[:2, 2].tolist() == pytest.approx([70, 56])
    assert new[0, 0] == pytest.approx(new[1, 1])


def brute_force_depth(depth: np.ndarray, window: Window, size: tuple[int, int]) -> np.ndarray:
    """Look at every source pixel for every target pixel."""
    out = np.zeros(size)
    step_x, step_y = window.width / size[1], window.height / size[0]
    for i in range(size[0]):
        for j in range(size[1]):
            x, y = window.left + (j + 0.5) * step_x, window.top + (i + 0.5) * step_y
            best = np.inf
            for row in range(depth.shape[0]):
                for column in range(depth.shape[1]):
                    dx, dy = abs(column + 0.5 - x), abs(row + 0.5 - y)
                    below = column == int(x), row == int(y)
                    inside = (dx <= step_x / 2 or below[0]) and (dy <= step_y / 2 or below[1])
                    if inside and depth[row, column] > 0 and dx**2 + dy**2 < best - 1e-9:
                        best, out[i, j] = dx**2 + dy**2, depth[row, column]
    return out


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    source=st.tuples(st.integers(5, 14), st.integers(5, 14)),
    target=st.tuples(st.integers(2, 14), st.integers(2, 14)),
)
def test_depth_takes_the_nearest_known_value(seed: int, source: tuple[int, int], target: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 5, source) * (rng.random(source) > 0.5)
    window = largest_window(source, target, (source[1] * rng.uniform(0.3, 0.7), source[0] * rng.uniform(0.3, 0.7)))
    found = resize_depth(torch.from_numpy(depth), window, target).numpy()
    expected = brute_force_depth(depth, window, target)
    assert ((found > 0) == (expected > 0)).all()
    # equally near pixels may be chosen either way
    assert np.isin(found, [0.0, *depth.ravel()]).all()
    assert (found == expected).mean() > 0.9


def test_depth_never_mixes_object_and_background() -> None:
    depth = torch.full((100, 100), 5.0)
    depth[:, :47] = 1.0
    resized = resize_depth(depth, Window(0, 0, 100, 100), (13, 13))
    assert set(resized.unique().tolist()) == {1.0, 5.0}


def test_depth_of_the_same_size_is_unchanged() -> None:
    depth = torch.rand(20, 30) * (torch.rand(20, 30) > 0.3)
    assert torch.equal(resize_depth(depth, Window(0, 0, 30, 20), (20, 30)), depth)


def test_a_lone_depth_value_survives_downsampling() -> None:
    depth = torch.zeros(50, 50)
    depth[21, 33] = 2.5
    resized = resize_depth(depth, Window(0, 0, 50, 50), (10, 10))
    assert resized[4, 6] == 2.5
    assert (resized > 0).sum() == 1


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), source=sizes, target=sizes)
def test_a_mask_takes_the_pixel_below_each_center(seed: int, source: tuple[int, int], target: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(source) > 0.5
    window = largest_window(source, target, (source[1] * rng.uniform(0.3, 0.7), source[0] * rng.uniform(0.3, 0.7)))
    box = (window.left, window.top, window.left + window.width, window.top + window.height)
    expected = Image.fromarray(mask.astype(np.uint8)).resize(target[::-1], Image.Resampling.NEAREST, box=box)
    found = resize_mask(torch.from_numpy(mask), window, target)
    assert found.dtype == torch.bool
    # where a centre lies on the edge between two pixels either will do
    assert (found.numpy() == np.array(expected)).mean() > 0.95
    # depth that is known everywhere is taken from the same pixels
    depth = torch.from_numpy(1.0 + mask)
    assert ((resize_depth(depth, window, target) > 1.5) == found).float().mean() > 0.95

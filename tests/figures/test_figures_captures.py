"""The picture of a capture: what it draws, read back from the figure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lorasub.errors import DataError
from lorasub.figures.captures import Agreement, ShownView, capture_figure


def view(name: str, depth: float) -> ShownView:
    return ShownView(name=name, image=torch.full((3, 30, 40), 0.5), depth=torch.full((30, 40), depth))


def test_points_and_lines_are_where_they_should_be() -> None:
    points = torch.tensor([[10.5, 20.5], [30.0, 5.0]])
    # the vertical line x = 10.5 and the line x + y = 35, which the second point is on
    lines = torch.tensor([[2.0, 0.0, -21.0], [1.0, 1.0, -35.0]])
    agreement = Agreement(
        title="a in b", image=torch.zeros(3, 30, 40), points=points, error=torch.tensor([0.0, 4.0]), lines=lines
    )
    figure = capture_figure(
        "title", [view("a", 1.0), view("b", 2.0)], [[agreement]], error_label="pixels", largest_error=10
    )
    panels = [axis for axis in figure.axes if axis.get_title().startswith("a in b")]
    assert len(panels) == 1
    assert panels[0].get_title() == "a in b\nmedian 2"
    segments, dots = panels[0].collections
    np.testing.assert_allclose(dots.get_offsets(), points)
    for (start, end), (a, b, c) in zip(segments.get_segments(), lines.tolist(), strict=True):
        for x, y in (start, end):
            assert a * x + b * y + c == pytest.approx(0, abs=1e-9 * 100)
        assert np.linalg.norm(end - start) > np.hypot(30, 40)
    assert panels[0].get_xlim() == (0, 40)
    assert panels[0].get_ylim() == (30, 0)


def test_rows_follow_what_there_is() -> None:
    unknown = [view("a", 0.0)]
    assert len(capture_figure("t", unknown, [], error_label="", largest_error=1).axes) == 1
    with_depth = capture_figure("t", [view("a", 1.0)], [], error_label="", largest_error=1)
    assert "100% known" in {axis.get_title() for axis in with_depth.axes}
    with pytest.raises(DataError, match="there is no view to draw"):
        capture_figure("t", [], [], error_label="", largest_error=1)

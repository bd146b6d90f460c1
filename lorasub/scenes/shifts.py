"""Ranges outside of pre-training, in graded doses: what design ``shift`` draws the chosen attribute from.

Each attribute has one end point that shares no value with the ranges of pre-training. A dose between 0 and 1 moves both
ends of every range on a straight line toward it: 0 is pre-training itself, at 1 no draw could have occurred there.
What an end point does not name stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from lorasub.errors import ConfigError
from lorasub.scenes.ranges import Attribute, Range, SceneRanges

#: Attribute -> field of its ranges -> the range, or the share, at dose 1.
END_POINTS: Mapping[Attribute, Mapping[str, Range | float]] = {
    # few, large, tall things that lean
    "geometry": {"count": (2, 4), "radius": (0.52, 0.66), "aspect": (1.85, 2.2), "tilt": (0.65, 1.2)},
    # fine, bent, glaring patterns that shine
    "texture": {
        "scale": (0.02, 0.05),
        "warp": (1.1, 1.6),
        "saturation": (0.88, 1.0),
        "roughness": (0.05, 0.13),
        "specular": (0.45, 0.9),
    },
    # a longer lens, held on its side
    "camera": {"fov": (0.38, 0.6), "roll": (0.7, 1.4)},
    # low red suns in the dark, overexposed
    "lighting": {
        "elevation": (0.06, 0.28),
        "directional": 1.0,
        "temperature": (1750.0, 2400.0),
        "ambient": (0.01, 0.05),
        "exposure": (1.8, 3.0),
    },
}


def shifted(ranges: SceneRanges, attribute: Attribute, dose: float) -> SceneRanges:
    """Ranges whose chosen attribute is moved away from pre-training.

    Args:
        ranges: of pre-training.
        attribute: which part of them is moved.
        dose: how far, in [0, 1].

    Raises:
        ConfigError: the dose is out of range.
    """
    if not 0.0 <= dose <= 1.0:
        raise ConfigError(f"dose is {dose}; it must be between 0 (pre-training) and 1 (wholly outside of it)")
    part = getattr(ranges, attribute)
    moved = {name: _between(getattr(part, name), end, dose) for name, end in END_POINTS[attribute].items()}
    return dataclasses.replace(ranges, **{attribute: dataclasses.replace(part, **moved)})


def _between(start: Range | float, end: Range | float, dose: float) -> Range | float:
    """A share, or both ends of a range, moved by ``dose`` of the way; whole numbers stay whole."""
    if isinstance(start, tuple) and isinstance(end, tuple):
        low, high = (a + dose * (b - a) for a, b in zip(start, end, strict=True))
        return (round(low), round(high)) if all(isinstance(value, int) for value in start) else (low, high)
    assert not isinstance(start, tuple)
    assert not isinstance(end, tuple)
    return start + dose * (end - start)

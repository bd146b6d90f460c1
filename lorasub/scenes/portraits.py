"""Draws portraits: a head in front of a room, or a flat photograph of one on a card.

The head looks along +x, where the cameras are. It is put together from ellipsoids; a card is a thin box whose picture
comes from the renderer's atlas. Both have their own surfaces, so that shapes and materials are drawn independently.
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.scenes.color import hsv_to_linear_rgb
from lorasub.scenes.description import FIRST_OBJECT, Geometry, Materials, Pattern, Primitive, field_tensor
from lorasub.scenes.geometry import draw_geometry
from lorasub.scenes.materials import NUM_SURFACES, draw_materials
from lorasub.scenes.ranges import PortraitRanges, Range, SceneRanges
from lorasub.scenes.streams import Array, BoolArray, Draws, IntArray


class Part(enum.IntEnum):
    """Surfaces of a portrait, from ``FIRST_OBJECT`` on; what stands around follows them."""

    SKIN = 0
    HAIR = 1
    EYEBALL = 2
    IRIS = 3
    LIPS = 4
    CLOTHES = 5
    CARD = 6
    STAND = 7


#: Surfaces of a portrait.
PORTRAIT_SURFACES = range(FIRST_OBJECT, FIRST_OBJECT + len(Part))
#: The largest number of objects around a portrait.
MAX_CLUTTER = NUM_SURFACES - PORTRAIT_SURFACES.stop

# Ellipsoids of a head whose height is 2: part, centre and half extents (forward, sideways, up). A piece with a sideways
# centre stands on both sides.
_HEAD: tuple[tuple[Part, tuple[float, float, float], tuple[float, float, float]], ...] = (
    (Part.SKIN, (0.0, 0.0, 0.05), (0.80, 0.68, 0.93)),  # skull
    (Part.SKIN, (0.17, 0.0, -0.5), (0.52, 0.47, 0.5)),  # jaw
    (Part.SKIN, (0.42, 0.0, -0.82), (0.24, 0.24, 0.17)),  # chin
    (Part.SKIN, (0.72, 0.0, -0.08), (0.13, 0.075, 0.27)),  # bridge of the nose
    (Part.SKIN, (0.82, 0.0, -0.24), (0.13, 0.12, 0.1)),  # tip of the nose
    (Part.SKIN, (0.46, 0.32, -0.22), (0.22, 0.22, 0.24)),  # cheeks
    (Part.SKIN, (0.0, 0.68, -0.05), (0.15, 0.09, 0.23)),  # ears
    (Part.SKIN, (-0.1, 0.0, -1.1), (0.36, 0.34, 0.55)),  # neck
    (Part.EYEBALL, (0.6, 0.27, 0.1), (0.13, 0.14, 0.085)),
    (Part.IRIS, (0.69, 0.27, 0.1), (0.055, 0.06, 0.062)),
    (Part.HAIR, (0.66, 0.27, 0.28), (0.08, 0.17, 0.045)),  # brows
    (Part.HAIR, (-0.16, 0.0, 0.24), (0.8, 0.75, 0.86)),
    (Part.LIPS, (0.65, 0.0, -0.5), (0.1, 0.2, 0.05)),
    (Part.LIPS, (0.64, 0.0, -0.575), (0.1, 0.16, 0.055)),
    (Part.CLOTHES, (-0.15, 0.0, -2.1), (0.65, 1.5, 0.75)),
)
_CARD_THICKNESS = 0.006


def draw_portraits(draws: Draws, ranges: SceneRanges, real: BoolArray) -> Geometry:
    """A head where ``real [B]`` is true, else a card of about its size; other things stand behind it.

    Raises:
        ConfigError: more things around than there are materials for.
    """
    if ranges.geometry.count[1] > MAX_CLUTTER:
        raise ConfigError(
            f"count is {ranges.geometry.count}; around a portrait there are at most {MAX_CLUTTER} objects"
        )
    around = draw_geometry(draws, ranges.geometry)
    head, card = _draw_heads(draws, ranges.portrait), _draw_cards(draws, ranges.portrait)
    is_real = torch.as_tensor(real)[:, None]
    behind = around.center[..., 0] < -ranges.portrait.head
    kinds = (
        torch.where(is_real, head["kind"], int(Primitive.NONE)),
        torch.where(is_real, int(Primitive.NONE), card["kind"]),
        torch.where(behind, around.kind, int(Primitive.NONE)),
    )
    rest = {"surface": (around.surface + len(Part)).clamp(max=NUM_SURFACES - 1)}
    joined = {
        name: torch.cat([head[name], card[name], rest.get(name, getattr(around, name))], dim=1)
        for name in ("center", "rotation", "size", "shape", "surface")
    }
    kind = torch.cat(kinds, dim=1)
    front = (kind == int(Primitive.NONE)).to(torch.int8).argsort(dim=1, stable=True)  # used places first

    def places(values: Tensor) -> Tensor:
        return values.gather(1, front.reshape(*front.shape, *[1] * (values.ndim - 2)).expand_as(values))

    fields = {name: places(values) for name, values in joined.items()}
    return dataclasses.replace(around, kind=places(kind), **fields)


def draw_portrait_materials(draws: Draws, ranges: SceneRanges) -> Materials:
    """Skin, hair, eyes, lips and clothes, a picture for the card, and materials for what stands around."""
    plain = draw_materials(draws, ranges.texture)
    many = len(plain.pattern)
    tone = draws.uniform((0.0, 1.0), 1)
    picture = draws.choice(ranges.portrait.photographs)
    jitter = draws.uniform((-1.0, 1.0), 3, 3)
    # three shades each of skin (from light to dark), hair and lips
    skin = _shades(tone, (0.07, 0.04), (0.28, 0.55), (0.95, 0.35), jitter[:, 0])
    hair = _shades(draws.uniform((0.0, 1.0), 1), (0.11, 0.06), (0.6, 0.3), (0.55, 0.06), jitter[:, 1])
    lips = _shades(tone, (0.01, -0.02), (0.45, 0.5), (0.8, 0.35), jitter[:, 2])
    colors, pattern, scale = plain.colors.clone(), plain.pattern.clone(), plain.scale.clone()
    image, phase, specular = plain.image.clone(), plain.phase.clone(), plain.specular.clone()

    def at(part: Part) -> int:
        return FIRST_OBJECT + int(part)

    for part, shades, look, size, shine in (
        (Part.SKIN, skin, Pattern.NOISE, 0.09, 0.06),
        (Part.HAIR, hair, Pattern.MARBLE, 0.05, 0.15),
        (Part.LIPS, lips, Pattern.NOISE, 0.04, 0.12),
    ):
        colors[:, at(part)], pattern[:, at(part)] = field_tensor("colors", shades), int(look)
        scale[:, at(part)], specular[:, at(part)] = size, shine
    for part, grey, shine in ((Part.EYEBALL, 0.75, 0.3), (Part.IRIS, None, 0.4), (Part.STAND, 0.1, 0.1)):
        pattern[:, at(part)], specular[:, at(part)] = int(Pattern.PLAIN), shine
        colors[:, at(part)] = 0.25 * colors[:, at(part)] if grey is None else grey
    pattern[:, at(Part.CARD)], image[:, at(Part.CARD)] = int(Pattern.IMAGE), torch.as_tensor(picture, dtype=torch.int32)
    scale[:, at(Part.CARD)], specular[:, at(Part.CARD)] = 2.0 * ranges.portrait.card, 0.08
    phase[:, at(Part.CARD)] = torch.tensor([0.0, 0.5, -0.5]).expand(many, 3)  # the picture's middle in the card's
    return dataclasses.replace(
        plain, colors=colors, pattern=pattern, scale=scale, image=image, phase=phase, specular=specular
    )


def _draw_heads(draws: Draws, ranges: PortraitRanges) -> dict[str, Tensor]:
    pieces = [(part, at, half, side) for part, at, half in _HEAD for side in ((1.0, -1.0) if at[1] else (1.0,))]
    partner = np.array([index for index, (_, at, _) in enumerate(_HEAD) for _ in range(2 if at[1] else 1)])
    parts, at, half, side = (np.array(column) for column in zip(*pieces, strict=True))
    stretch = draws.uniform(ranges.features, len(_HEAD), 3)[:, partner]
    shift = draws.uniform((-0.03, 0.03), len(_HEAD), 3)[:, partner]
    unit = ranges.head * draws.uniform(ranges.proportions, 3)[:, None]  # [B, 1, 3]
    rotation = _draw_rotation(draws, ranges.yaw, ranges.pitch, ranges.roll)[:, None]
    mirror = np.stack([np.ones_like(side), side, np.ones_like(side)], axis=-1)
    middle = (rotation @ (unit * mirror * (at + shift))[..., None])[..., 0]
    middle[..., 2] += draws.uniform(ranges.height, 1)
    return _solids(np.full(len(parts), int(Primitive.SPHERE)), parts, middle, rotation, unit * half * stretch)


def _draw_cards(draws: Draws, ranges: PortraitRanges) -> dict[str, Tensor]:
    rotation = _draw_rotation(draws, ranges.card_turn, ranges.card_turn, ranges.card_turn)
    height = draws.uniform(ranges.height)
    leg = np.maximum(0.5 * (height - ranges.card), 0.01)  # half the height of the stand
    zero, thin = np.zeros_like(leg), np.full_like(leg, 0.02)
    middle = np.stack([np.stack([zero, zero, height], -1), np.stack([zero - 0.05, zero, leg], -1)], axis=1)
    half = np.broadcast_to([_CARD_THICKNESS, ranges.card, ranges.card], (len(leg), 3))
    size = np.stack([half, np.stack([thin, thin, leg], -1)], axis=1)
    upright = np.broadcast_to(np.eye(3), rotation.shape)
    kinds = np.array([int(Primitive.BOX), int(Primitive.CYLINDER)])
    parts = np.array([int(Part.CARD), int(Part.STAND)])
    return _solids(kinds, parts, middle, np.stack([rotation, upright], axis=1), size)


def _solids(kind: IntArray, parts: IntArray, center: Array, rotation: Array, size: Array) -> dict[str, Tensor]:
    batch, many = center.shape[:2]
    fields = {
        "kind": np.broadcast_to(kind, (batch, many)),
        "center": center,
        "rotation": np.broadcast_to(rotation, (batch, many, 3, 3)),
        "size": size,
        "shape": np.zeros((batch, many, 4)),
        "surface": np.broadcast_to(FIRST_OBJECT + parts, (batch, many)),
    }
    return {name: field_tensor(name, values) for name, values in fields.items()}


def _draw_rotation(draws: Draws, yaw: Range, pitch: Range, roll: Range) -> Array:
    """World-from-object ``[B, 3, 3]``: roll about x (forward), then pitch about y, then yaw about z."""
    result = np.eye(3)
    for axis, limits in ((2, yaw), (1, pitch), (0, roll)):
        angle = draws.uniform(limits)
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn = np.zeros((len(angle), 3, 3))
        turn[:, axis, axis] = 1.0
        turn[:, one, one] = turn[:, two, two] = np.cos(angle)
        turn[:, two, one] = np.sin(angle)
        turn[:, one, two] = -turn[:, two, one]
        result = result @ turn
    return result


def _shades(place: Array, hue: Range, saturation: Range, value: Range, jitter: Array) -> Array:
    """``[B, 3, 3]`` linear RGB: a base colour at ``place [B, 1]`` of a scale, and two that differ a little."""
    step = 0.08 * np.array([0.0, -1.0, 1.0]) + 0.03 * jitter
    hues, saturations, values = (low + (high - low) * place for low, high in (hue, saturation, value))
    return hsv_to_linear_rgb(hues + 0.1 * step, np.clip(saturations + step, 0, 1), np.clip(values * (1 - step), 0, 1))

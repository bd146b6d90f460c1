"""Solid procedural textures, evaluated in the surface's own frame; filtered by the size of a pixel on the surface.

Noise comes from an integer hash of lattice points, not from tables: a table lookup per corner was a third of the cost
of a whole frame.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.scenes.description import Pattern

_OCTAVES = 3


def hash_lattice(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """A pseudo-random int32 for integer lattice points (int32, wraps around)."""
    # multiply and xor-shift, constants of xxHash32 and MurmurHash3 (as signed numbers)
    value = x * 0x27D4EB2F + y * -0x61C8864F + z * 0x165667B1
    value = (value ^ ((value >> 15) & 0x1FFFF)) * -0x7A143595
    mixed: Tensor = value ^ ((value >> 13) & 0x7FFFF)
    return mixed


def unit(value: Tensor, shift: int = 0) -> Tensor:
    """The hash's bits from ``shift`` on as a number in [0, 1): 8 to 24 bits, as many as there are."""
    bits = min(24, 32 - shift)
    low: Tensor = (value >> shift) & ((1 << bits) - 1)
    return low.to(torch.float32) * (1.0 / (1 << bits))


def _corners(device: torch.device) -> Tensor:
    """``[3, 8, 1, ..]``-ready offsets of a cell's corners, int32."""
    number = torch.arange(8, dtype=torch.int32, device=device)
    return torch.stack([number & 1, (number >> 1) & 1, (number >> 2) & 1])


def fractal_noise(point: Tensor, footprint: Tensor) -> Tensor:
    """Octaves of value noise around 0, about in [-1, 1]; octaves finer than a pixel fade out.

    Value noise interpolates random values at lattice points with quintic weights (Perlin, "Improving noise", 2002).

    Args:
        point: ``[3, G, N]`` in features of the coarsest octave.
        footprint: ``[G, N]`` size of a pixel in features.
    """
    octave = torch.arange(_OCTAVES, dtype=torch.float32, device=point.device)[:, None, None]
    frequency = torch.exp2(octave)
    fine = point[:, None] * frequency + 17.3 * octave  # [3, O, G, N]
    cell = fine.floor()
    part = fine - cell
    ease = part * part * part * (part * (part * 6.0 - 15.0) + 10.0)
    corner = _corners(point.device)[..., None, None]  # [3, 8, 1, 1]
    near, lattice = ease[:, :, None], cell[:, :, None].to(torch.int32) + corner[:, None]  # [3, O, 8, G, N]
    share = torch.where(corner[:, None] == 1, near, 1.0 - near)
    value = unit(hash_lattice(lattice[0], lattice[1], lattice[2]))
    smooth = (value * (share[0] * share[1] * share[2])).sum(1)  # [O, G, N]
    keep = (1.5 - 2.0 * frequency * footprint).clamp(0.0, 1.0) * torch.exp2(-octave)
    return 0.8 * (keep * (2.0 * smooth - 1.0)).sum(0)


def cell_distance(point: Tensor, irregularity: Tensor) -> tuple[Tensor, Tensor]:
    """Distance ``[G, N]`` to the nearest of one random point per lattice cell, and that cell's random number.

    Worley noise ("A cellular texture basis function", 1996) over the eight cells nearest to ``point [3, G, N]``.
    With ``irregularity [G, N]`` 0 the random points are the cells' centres.
    """
    base = (point - 0.5).floor()
    lattice = base[:, None].to(torch.int32) + _corners(point.device)[..., None, None]  # [3, 8, G, N]
    value = hash_lattice(lattice[0], lattice[1], lattice[2])  # [8, G, N]
    square = torch.zeros_like(point[:1])
    for axis in range(3):
        jitter = ((value >> (8 * axis)) & 0xFF).to(torch.float32) / 256.0 - 0.5
        square = square + (lattice[axis] + 0.5 + irregularity * jitter - point[axis]).square()
    # the nearest and its number in one minimum: the number rides in the distance's last bits
    best = ((square.view(torch.int32) & ~0xFF) | ((value >> 24) & 0xFF)).amin(0)
    return (best & ~0xFF).view(torch.float32).sqrt(), (best & 0xFF).to(torch.float32) / 255.0


def step(value: Tensor, width: Tensor) -> Tensor:
    """A step from 0 to 1 at 0, as a box filter of the given width sees it."""
    return (0.5 + value / width.clamp(min=1e-3)).clamp(0.0, 1.0)


def square_wave(value: Tensor, width: Tensor) -> Tensor:
    """0 or 1 in turn, period 1, as a box filter of the given width sees it; 0.5 where it is finer than a pixel."""
    triangle = 2.0 * (value - value.floor() - 0.5).abs() - 0.5  # slope 2
    fade = (1.5 - 2.0 * width).clamp(0.0, 1.0)
    return 0.5 + fade * (step(triangle, 2.0 * width) - 0.5)


def pattern_weights(pattern: Tensor, point: Tensor, warp: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor]:
    """What the pattern mixes at a point: two weights in [0, 1].

    The colour is ``lerp(lerp(first, second, main), third, accent)``. All patterns are built from one fractal noise and
    one cell distance, so that a pixel costs the same whatever it shows.

    Args:
        pattern: ``[...]`` int32, a :class:`Pattern`.
        point: ``[3, ...]`` in features of the pattern.
        warp: ``[...]`` how far noise bends the pattern.
        footprint: ``[...]`` size of a pixel in features.
    """
    noise = fractal_noise(point, footprint)
    bent = point + 0.5 * warp * noise
    is_dots = pattern == int(Pattern.DOTS)
    distance, owner = cell_distance(point, 1.0 - is_dots.to(torch.float32))
    x, y, z = bent[0], bent[1], bent[2]

    def odd(value: Tensor) -> Tensor:
        return 2.0 * square_wave(0.5 * value, 0.5 * footprint) - 1.0

    rings = (x.square() + y.square() + 1e-6).sqrt() * 2.0 + 0.4 * noise * warp
    rings = rings - rings.floor()
    veins = torch.sin(3.1416 * (x + 1.7 * warp * noise)).abs()
    main = {
        int(Pattern.NOISE): 0.5 + 0.5 * noise,
        int(Pattern.CELLS): (1.2 * distance).clamp(0.0, 1.0),
        int(Pattern.CHECKER): 0.5 + 0.5 * odd(x) * odd(y) * odd(z),
        int(Pattern.STRIPES): square_wave(x, footprint),
        int(Pattern.DOTS): step(0.32 - distance, footprint),
        int(Pattern.WOOD): rings * rings,
        int(Pattern.MARBLE): 1.0 - veins.sqrt(),
        int(Pattern.GRADIENT): 0.5 + 0.5 * torch.sin(1.2 * z + 0.4 * x),
    }
    result = torch.zeros_like(footprint)
    for name, value in main.items():
        result = torch.where(pattern == name, value, result)
    accent = torch.where(pattern == int(Pattern.CELLS), owner, (0.35 + 0.5 * noise).clamp(0.0, 1.0))
    accent = torch.where(pattern == int(Pattern.PLAIN), 0.0, 0.6 * accent)
    return result.clamp(0.0, 1.0), accent

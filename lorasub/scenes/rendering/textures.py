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


def value_noise(point: Tensor) -> Tensor:
    """Smooth noise in [0, 1] at ``[3, ...]``: random values at lattice points, quintic interpolation (Perlin 2002)."""
    cell = point.floor()
    part = point - cell
    x, y, z = cell[0].to(torch.int32), cell[1].to(torch.int32), cell[2].to(torch.int32)
    u, v, w = (part * part * part * (part * (part * 6.0 - 15.0) + 10.0)).unbind(0)

    def edge(dy: int, dz: int) -> Tensor:
        left = unit(hash_lattice(x, y + dy, z + dz))
        right = unit(hash_lattice(x + 1, y + dy, z + dz))
        return torch.lerp(left, right, u)

    front, back = torch.lerp(edge(0, 0), edge(1, 0), v), torch.lerp(edge(0, 1), edge(1, 1), v)
    return torch.lerp(front, back, w)


def fractal_noise(point: Tensor, footprint: Tensor) -> Tensor:
    """Octaves of :func:`value_noise` around 0, about [-1, 1]; octaves finer than a pixel fade out."""
    total = torch.zeros_like(footprint)
    for octave in range(_OCTAVES):
        frequency = 2.0**octave
        keep = (1.5 - 2.0 * frequency * footprint).clamp(0.0, 1.0)
        total = total + keep * 0.5**octave * (2.0 * value_noise(point * frequency + 17.3 * octave) - 1.0)
    return total * 0.8


def cell_distance(point: Tensor, irregularity: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the nearest of one random point per lattice cell, and that cell's random number.

    Worley noise (Worley 1996) over the eight cells nearest to the point. With irregularity 0 the points are the cells'
    centres.
    """
    base = (point - 0.5).floor()
    best = torch.full_like(point[0], 9.0)
    owner = torch.zeros_like(best)
    for corner in range(8):
        cell = [base[axis] + float(corner >> axis & 1) for axis in range(3)]
        value = hash_lattice(cell[0].to(torch.int32), cell[1].to(torch.int32), cell[2].to(torch.int32))
        square = torch.zeros_like(best)
        for axis in range(3):
            place = cell[axis] + 0.5 + irregularity * (unit((value >> (8 * axis)) & 0xFF, 0) * 65536.0 - 0.5)
            square = square + (place - point[axis]).square()
        nearer = square < best
        best = torch.where(nearer, square, best)
        owner = torch.where(nearer, unit(value, 8), owner)
    return best.sqrt(), owner


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
    is_dots = pattern == Pattern.DOTS
    distance, owner = cell_distance(point, torch.where(is_dots, 0.0, 1.0) * torch.ones_like(warp))
    x, y, z = bent[0], bent[1], bent[2]

    def odd(value: Tensor) -> Tensor:
        return 2.0 * square_wave(0.5 * value, 0.5 * footprint) - 1.0

    rings = (x.square() + y.square() + 1e-6).sqrt() * 2.0 + 0.4 * noise * warp
    rings = rings - rings.floor()
    veins = torch.sin(3.1416 * (x + 1.7 * warp * noise)).abs()
    main = {
        Pattern.NOISE: 0.5 + 0.5 * noise,
        Pattern.CELLS: (1.2 * distance).clamp(0.0, 1.0),
        Pattern.CHECKER: 0.5 + 0.5 * odd(x) * odd(y) * odd(z),
        Pattern.STRIPES: square_wave(x, footprint),
        Pattern.DOTS: step(0.32 - distance, footprint),
        Pattern.WOOD: rings * rings,
        Pattern.MARBLE: 1.0 - veins.sqrt(),
        Pattern.GRADIENT: 0.5 + 0.5 * torch.sin(1.2 * z + 0.4 * x),
    }
    result = torch.zeros_like(footprint)
    for name, value in main.items():
        result = torch.where(pattern == name, value, result)
    accent = torch.where(pattern == Pattern.CELLS, owner, (0.35 + 0.5 * noise).clamp(0.0, 1.0))
    accent = torch.where(pattern == Pattern.PLAIN, 0.0, 0.6 * accent)
    return result.clamp(0.0, 1.0), accent

"""Textures, evaluated in the surface's own frame and filtered by the size of a pixel on the surface.

Procedural ones look nothing up in tables: random cells come from an integer hash, and smooth noise from waves. Pictures
come from an atlas.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lorasub.scenes.description import Pattern
from lorasub.scenes.images import ATLAS_SIZE

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


def fractal_noise(x: Tensor, y: Tensor, z: Tensor, footprint: Tensor) -> Tensor:
    """Smooth noise around 0, about in [-1, 1], with features of size 1; what is finer than a pixel fades out.

    Octaves of a gyroid, each turned against and bent by the ones before. Waves cost a tenth of the lattice lookups of
    Perlin's noise, and bending hides that they are waves.

    Args:
        x: ``[G, N]`` first coordinate in features.
        y: the second.
        z: the third.
        footprint: ``[G, N]`` size of a pixel in features.
    """
    total = torch.zeros_like(footprint)
    frequency = 2.2
    for octave in range(_OCTAVES):
        u, v, w = frequency * x + 1.9 * total, frequency * y - 1.3 * total, frequency * z + 0.7 * total + octave
        wave = u.sin() * v.cos() + v.sin() * w.cos() + w.sin() * u.cos()
        total = total + (1.2 - 0.6 * frequency * footprint).clamp(0.0, 1.0) * (0.62 * 0.55**octave) * wave
        # a turn by a fixed rotation between octaves, so that their axes do not line up
        x, y, z = 0.36 * x + 0.48 * y - 0.8 * z, -0.8 * x + 0.6 * y, 0.48 * x + 0.64 * y + 0.6 * z
        frequency *= 1.93
    return (0.9 * total).clamp(-1.0, 1.0)


def cell_distance(x: Tensor, y: Tensor, z: Tensor, irregularity: Tensor) -> tuple[Tensor, Tensor]:
    """Distance ``[G, N]`` to the nearest of one random point per lattice cell, and that cell's random number.

    Worley noise ("A cellular texture basis function", 1996) over the eight cells nearest to the point. With
    ``irregularity [G, N]`` 0 the random points are the cells' centres.
    """
    corner = torch.arange(8, dtype=torch.int32, device=x.device)[:, None, None]
    cell = [
        (value - 0.5).floor().to(torch.int32) + ((corner >> axis) & 1) for axis, value in enumerate((x, y, z))
    ]  # [8, G, N] each
    number = hash_lattice(*cell)
    square = torch.zeros_like(x)
    for axis, value in enumerate((x, y, z)):
        jitter = ((number >> (8 * axis)) & 0xFF).to(torch.float32) / 256.0 - 0.5
        square = square + (cell[axis] + 0.5 + irregularity * jitter - value).square()
    # the nearest and its number in one minimum: the number rides in the distance's last bits
    best = ((square.view(torch.int32) & ~0xFF) | ((number >> 24) & 0xFF)).amin(0)
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
    x, y, z = point.unbind(0)
    noise = fractal_noise(x, y, z, footprint)
    distance, owner = cell_distance(x, y, z, 1.0 - (pattern == int(Pattern.DOTS)).to(torch.float32))
    bend = 0.5 * warp * noise
    x, y, z = x + bend, y + bend, z + bend

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


def picture_color(texels: Tensor, image: Tensor, point: Tensor, face: Tensor, footprint: Tensor) -> Tensor:
    """Linear RGB ``[3, ...]`` of pictures that lie across a surface: one a feature, mirrored at their borders.

    Their right is +x (+y on faces across x), their top is +z (+y on faces across z). Bilinear, in the smaller
    copy whose texels are about as large as a pixel.

    Args:
        texels: ``[3, I, N]``, see :class:`~lorasub.scenes.images.ImageAtlas`.
        image: ``[...]`` int32, which picture.
        point: ``[3, ...]`` in features, which are pictures here.
        face: ``[...]`` int32, the axis that the surface lies across.
        footprint: ``[...]`` size of a pixel in features.
    """
    across = torch.where(face == 0, point[1], point[0])
    down = -torch.where(face == 2, point[1], point[2])
    finest = ATLAS_SIZE.bit_length() - 1
    level = (ATLAS_SIZE * footprint).clamp(1.0, ATLAS_SIZE).log2().round().to(torch.int64)
    side = 1 << (finest - level)
    first = image.long() * texels.shape[2] + 4 * (ATLAS_SIZE * ATLAS_SIZE - side * side) // 3

    def texel(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The two nearest texels' numbers and the share of the second."""
        mirrored = 1.0 - (value - 2.0 * (0.5 * value).floor() - 1.0).abs()
        place = mirrored * side - 0.5
        low = place.floor()
        one, two = low.long().clamp(min=0), torch.minimum(low.long() + 1, side - 1)
        return one, two, place - low

    left, right, x = texel(across)
    top, bottom, y = texel(down)
    flat = texels.flatten(1)

    def row(number: Tensor) -> Tensor:
        start = first + number * side
        return torch.lerp(flat[:, start + left], flat[:, start + right], x)

    return torch.lerp(row(top), row(bottom), y)

"""Textures, evaluated in the surface's own frame and filtered by the size of a pixel on the surface.

Procedural ones look nothing up in tables: random cells come from an integer hash, and smooth noise from waves. Pictures
come from an atlas.
"""

import warp as wp

from lorasub.scenes import images
from lorasub.scenes.description import Pattern
from lorasub.scenes.rendering.kernels.fastmath import fast_sin, fast_sin_turns

PLAIN = wp.constant(int(Pattern.PLAIN))
NOISE = wp.constant(int(Pattern.NOISE))
CELLS = wp.constant(int(Pattern.CELLS))
CHECKER = wp.constant(int(Pattern.CHECKER))
STRIPES = wp.constant(int(Pattern.STRIPES))
DOTS = wp.constant(int(Pattern.DOTS))
WOOD = wp.constant(int(Pattern.WOOD))
MARBLE = wp.constant(int(Pattern.MARBLE))
IMAGE = wp.constant(int(Pattern.IMAGE))
FRACTAL = wp.constant(int(Pattern.FRACTAL))
LEAVES = wp.constant(int(Pattern.LEAVES))
BRICKS = wp.constant(int(Pattern.BRICKS))
GLOW = wp.constant(int(Pattern.GLOW))
ATLAS_SIZE = wp.constant(images.ATLAS_SIZE)
_FINEST = wp.constant(images.ATLAS_SIZE.bit_length() - 1)
_OCTAVES = wp.constant(3)
_MANY_OCTAVES = wp.constant(6)
_LEAF_SIZES = wp.constant(5)
_TURN = wp.constant(0.15915494)  # 1 / 2 pi
_PER_255 = wp.constant(1.0 / 255.0)
# multiply and xor-shift, constants of xxHash32 and MurmurHash3
_PRIMES = [wp.constant(wp.uint32(prime)) for prime in (0x27D4EB2F, 0x9E3779B1, 0x165667B1, 0x85EBCA6B)]
_PRIME_X, _PRIME_Y, _PRIME_Z, _PRIME_MIX = _PRIMES


@wp.func
def hash_lattice(x: int, y: int, z: int):
    """A pseudo-random number for a lattice point: 32 bits."""
    value = wp.uint32(x) * _PRIME_X + wp.uint32(y) * _PRIME_Y + wp.uint32(z) * _PRIME_Z
    value = (value ^ (value >> wp.uint32(15))) * _PRIME_MIX
    return value ^ (value >> wp.uint32(13))


@wp.func
def hash_to_unit(value: wp.uint32):
    """The hash's lowest 24 bits as a number in [0, 1)."""
    return float(value & wp.uint32(0xFFFFFF)) * (1.0 / 16777216.0)


@wp.func
def fractal_noise(p: wp.vec3, footprint: float, octaves: int, first: float, falloff: float):
    """Smooth noise around 0, about in [-1, 1]; what is finer than a pixel fades out.

    Octaves of a gyroid, each turned against and bent by the ones before. Waves cost a tenth of the lattice lookups of
    Perlin's noise, and bending hides that they are waves. ``first`` is the amplitude of the first octave, ``falloff``
    that of each octave over the one before: near 1 there is as much contrast at every scale, as in photographs.
    """
    x = float(p[0])
    y = float(p[1])
    z = float(p[2])
    total = float(0.0)
    frequency = float(2.2)
    amplitude = float(first)
    for octave in range(octaves):
        fade = wp.clamp(1.2 - 0.6 * frequency * footprint, 0.0, 1.0)
        if fade > 0.0:
            u = _TURN * (frequency * x + 1.9 * total)
            v = _TURN * (frequency * y - 1.3 * total)
            w = _TURN * (frequency * z + 0.7 * total + float(octave))
            gyroid = (
                fast_sin_turns(u) * fast_sin_turns(v + 0.25)
                + fast_sin_turns(v) * fast_sin_turns(w + 0.25)
                + fast_sin_turns(w) * fast_sin_turns(u + 0.25)
            )
            total += fade * amplitude * gyroid
        turned_x = 0.36 * x + 0.48 * y - 0.8 * z
        turned_y = -0.8 * x + 0.6 * y
        z = 0.48 * x + 0.64 * y + 0.6 * z
        x = turned_x
        y = turned_y
        frequency *= 1.93
        amplitude *= falloff
    return wp.clamp(0.9 * total, -1.0, 1.0)


@wp.func
def cell_distance(p: wp.vec3, irregularity: float):
    """Distance to the nearest of one random point per lattice cell, and that cell's random number in [0, 1].

    Worley noise ("A cellular texture basis function", 1996) over the eight cells nearest to the point. With
    ``irregularity`` 0 the random points are the cells' centres.
    """
    cx = int(wp.floor(p[0] - 0.5))
    cy = int(wp.floor(p[1] - 0.5))
    cz = int(wp.floor(p[2] - 0.5))
    best = float(1e6)
    owner = float(0.0)
    for corner in range(8):
        ix = cx + (corner & 1)
        iy = cy + ((corner >> 1) & 1)
        iz = cz + ((corner >> 2) & 1)
        number = hash_lattice(ix, iy, iz)
        mask = wp.uint32(0xFF)
        jitter = wp.vec3(
            float(number & mask), float((number >> wp.uint32(8)) & mask), float((number >> wp.uint32(16)) & mask)
        ) / 256.0 - wp.vec3(0.5, 0.5, 0.5)
        gap = wp.vec3(float(ix) + 0.5, float(iy) + 0.5, float(iz) + 0.5) + irregularity * jitter - p
        square = wp.dot(gap, gap)
        if square < best:
            best = square
            owner = float((number >> wp.uint32(24)) & mask) * _PER_255
    return wp.sqrt(best), owner


@wp.func
def filtered_step(value: float, width: float):
    """A step from 0 to 1 at 0, as a box filter of the given width sees it."""
    return wp.clamp(0.5 + value / wp.max(width, 1e-3), 0.0, 1.0)


@wp.func
def square_wave(value: float, width: float):
    """0 or 1 in turn, period 1, as a box filter of the given width sees it."""
    triangle = 2.0 * wp.abs(value - wp.floor(value) - 0.5) - 0.5
    return 0.5 + wp.clamp(1.5 - 2.0 * width, 0.0, 1.0) * (filtered_step(triangle, 2.0 * width) - 0.5)


@wp.func
def sign_wave(value: float, footprint: float):
    """-1 or 1 in turn, period 2."""
    return 2.0 * square_wave(0.5 * value, 0.5 * footprint) - 1.0


@wp.func
def across_face(point: wp.vec3, face: int):
    """The two coordinates along a surface that lies across an axis: right and up."""
    if face == 0:
        return wp.vec2(point[1], point[2])
    if face == 1:
        return wp.vec2(point[0], point[2])
    return wp.vec2(point[0], point[1])


@wp.func
def leaves(p: wp.vec2, footprint: float):
    """Two random numbers in [0, 1] of the leaf on top; the ground has 0 and 0.

    Small leaves lie on larger ones. A cell of each size has one leaf, a disc or a rectangle, which reaches no farther
    than half a cell from the cell's middle: the four nearest cells are all that can cover a point.
    """
    main = float(0.0)
    accent = float(0.0)
    size = float(2.0)
    for level in range(_LEAF_SIZES):
        if footprint < 0.6 * size:
            x = p[0] / size
            y = p[1] / size
            cx = int(wp.floor(x - 0.5))
            cy = int(wp.floor(y - 0.5))
            for corner in range(4):
                ix = cx + (corner & 1)
                iy = cy + (corner >> 1)
                number = hash_lattice(ix, iy, 131 * level + 7)
                mask = wp.uint32(0xFF)
                jx = float(number & mask) * _PER_255 - 0.5
                jy = float((number >> wp.uint32(8)) & mask) * _PER_255 - 0.5
                share = float((number >> wp.uint32(16)) & mask) * _PER_255
                dx = wp.abs(x - float(ix) - 0.5 - 0.4 * jx)
                dy = wp.abs(y - float(iy) - 0.5 - 0.4 * jy)
                reach = 0.16 + 0.14 * share
                away = wp.sqrt(dx * dx + dy * dy)
                if (number >> wp.uint32(24)) % wp.uint32(2) == wp.uint32(0):
                    away = wp.max(dx, (1.0 + share) * dy)
                cover = filtered_step(reach - away, footprint / size)
                if cover > 0.0:
                    tones = hash_lattice(ix, iy, 131 * level + 64)
                    main += (float(tones & mask) * _PER_255 - main) * cover
                    accent += (float((tones >> wp.uint32(8)) & mask) * _PER_255 - accent) * cover
        size *= 0.55
    return main, accent


@wp.func
def bricks(p: wp.vec2, longer: float, footprint: float):
    """A random number of the brick, and how much of the pixel shows joints."""
    row = wp.floor(p[1])
    x = p[0] / (1.0 + 4.0 * longer) + 0.5 * (row - 2.0 * wp.floor(0.5 * row))
    column = wp.floor(x)
    u = wp.min(x - column, 1.0 - x + column) * (1.0 + 4.0 * longer)
    v = wp.min(p[1] - row, 1.0 - p[1] + row)
    joint = filtered_step(0.05 - wp.min(u, v), footprint)
    return hash_to_unit(hash_lattice(int(column), int(row), 5)), joint * wp.clamp(1.4 - 1.2 * footprint, 0.0, 1.0)


@wp.func
def pattern_weights(pattern: int, point: wp.vec3, face: int, warp: float, footprint: float):
    """Two weights in [0, 1]: the colour is ``lerp(lerp(first, second, main), third, accent)``.

    ``point`` and ``footprint`` (the size of a pixel) are in features of the pattern, as ``warp``: how far noise bends
    it. ``face`` is the axis that the surface lies across.
    """
    if pattern == PLAIN:
        return float(0.0), float(0.0)
    noise = float(0.0)
    if pattern == FRACTAL:
        noise = fractal_noise(point, footprint, _MANY_OCTAVES, 0.36, 0.9)
    else:
        noise = fractal_noise(point, footprint, _OCTAVES, 0.62, 0.55)
    accent = wp.clamp(0.35 + 0.5 * noise, 0.0, 1.0)
    main = float(0.0)
    bend = 0.5 * warp * noise
    x = point[0] + bend
    y = point[1] + bend
    z = point[2] + bend
    if pattern == NOISE or pattern == FRACTAL:  # noqa: SIM109 (a kernel has no tuples)
        main = 0.5 + 0.5 * noise
    elif pattern == LEAVES:
        main, accent = leaves(across_face(point, face), footprint)
        main += 0.15 * noise
    elif pattern == BRICKS:
        main, accent = bricks(across_face(point, face), warp, footprint)
        main = 0.7 * main + 0.3 * (0.5 + 0.5 * noise)
        accent = accent / 0.6
    elif pattern == GLOW:  # a bright sky above what stands outside
        main = 0.5 - 2.0 * point[2] + 0.5 * warp * noise
    elif pattern == CELLS:
        distance, owner = cell_distance(point, 1.0)
        main = wp.clamp(1.2 * distance, 0.0, 1.0)
        accent = owner
    elif pattern == CHECKER:
        main = 0.5 + 0.5 * sign_wave(x, footprint) * sign_wave(y, footprint) * sign_wave(z, footprint)
    elif pattern == STRIPES:
        main = square_wave(x, footprint)
    elif pattern == DOTS:
        distance, owner = cell_distance(point, 0.0)
        main = filtered_step(0.32 - distance, footprint)
    elif pattern == WOOD:
        rings = wp.sqrt(x * x + y * y + 1e-6) * 2.0 + 0.4 * noise * warp
        rings -= wp.floor(rings)
        main = rings * rings
    elif pattern == MARBLE:
        main = 1.0 - wp.sqrt(wp.abs(fast_sin(3.1416 * (x + 1.7 * warp * noise))))
    else:
        main = 0.5 + 0.5 * fast_sin(1.2 * z + 0.4 * x)
    return wp.clamp(main, 0.0, 1.0), 0.6 * accent


@wp.func
def texel_pair(value: float, side: int):
    """The two texels nearest to a coordinate in pictures, mirrored at borders, and the share of the second."""
    mirrored = 1.0 - wp.abs(value - 2.0 * wp.floor(0.5 * value) - 1.0)
    place = mirrored * float(side) - 0.5
    low = wp.floor(place)
    return wp.max(int(low), 0), wp.min(int(low) + 1, side - 1), place - low


@wp.func
def image_color(texels: wp.array3d(dtype=wp.float32), image: int, point: wp.vec3, face: int, footprint: float):
    """Linear RGB of a picture that lies across a surface; ``face`` is the axis that the surface lies across.

    One picture a feature, mirrored at its borders. Its right is +x (+y on faces across x), its top is +z (+y on faces
    across z). Bilinear, in the smaller copy whose texels are about as large as a pixel.
    """
    across = point[0]
    down = -point[2]
    if face == 0:
        across = point[1]
    if face == 2:
        down = -point[1]
    wide = wp.clamp(float(ATLAS_SIZE) * footprint, 1.0, float(ATLAS_SIZE))
    side = 1 << (_FINEST - int(wp.round(wp.log2(wide))))
    first = 4 * (ATLAS_SIZE * ATLAS_SIZE - side * side) / 3
    left, right, x = texel_pair(across, side)
    top, bottom, y = texel_pair(down, side)
    color = wp.vec3(0.0, 0.0, 0.0)
    for channel in range(3):
        above = wp.lerp(
            texels[channel, image, first + top * side + left], texels[channel, image, first + top * side + right], x
        )
        below = wp.lerp(
            texels[channel, image, first + bottom * side + left],
            texels[channel, image, first + bottom * side + right],
            x,
        )
        color[channel] = wp.lerp(above, below, y)
    return color

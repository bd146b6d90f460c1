"""Bodies without a closed-form intersection: tori, superquadrics, bumpy spheres and height fields.

Each is the part of the cube [-1, 1]^3 where a field is negative. A ray walks through the cube toward the first zero
(sphere tracing, Hart 1996; Newton's steps where the field is convex), and Newton's method does the rest.
"""

import warp as wp

from lorasub.scenes.description import Primitive
from lorasub.scenes.rendering.kernels.fastmath import fast_cos, fast_pow, fast_sin

TORUS = wp.constant(int(Primitive.TORUS))
SUPERQUADRIC = wp.constant(int(Primitive.SUPERQUADRIC))
BLOB = wp.constant(int(Primitive.BLOB))
_STEPS = wp.constant(128)
_POLISH = wp.constant(3)
_CLOSE = wp.constant(1e-3)
_EXACT = wp.constant(1e-5)
_OCTAHEDRON = wp.constant(3.0**0.5)


@wp.func
def torus(shape: wp.vec4, p: wp.vec3):
    """Distance to the tube, and its gradient; the frame is scaled so that the tube's top is z = 1, which is undone."""
    tube = shape[0]
    z = p[2] * tube
    around = wp.sqrt(p[0] * p[0] + p[1] * p[1] + 1e-12)
    out = around - (1.0 - tube)
    distance = wp.sqrt(out * out + z * z + 1e-12)
    return distance - tube, wp.vec3(out * p[0] / around, out * p[1] / around, z * tube) / distance


@wp.func
def superquadric(shape: wp.vec4, p: wp.vec3):
    """The body's gauge less 1 (Barr 1981), and its gradient: convex, because the exponents are at least 1."""
    east = 2.0 / shape[1]
    north = 2.0 / shape[0]
    x = wp.max(wp.abs(p[0]), 1e-6)
    y = wp.max(wp.abs(p[1]), 1e-6)
    z = wp.max(wp.abs(p[2]), 1e-6)
    scale = wp.max(x, wp.max(y, z))  # keeps the powers in range
    # x^(east - 1) first: the others follow by products
    x1 = fast_pow(x / scale, east - 1.0)
    y1 = fast_pow(y / scale, east - 1.0)
    z1 = fast_pow(z / scale, north - 1.0)
    ring = x1 * x / scale + y1 * y / scale
    ring1 = fast_pow(ring, north / east - 1.0)
    total = ring1 * ring + z1 * z / scale
    common = fast_pow(total, 1.0 / north - 1.0)
    side = common * ring1
    gradient = wp.vec3(side * x1 * wp.sign(p[0]), side * y1 * wp.sign(p[1]), common * z1 * wp.sign(p[2]))
    return common * total * scale - 1.0, gradient


@wp.func
def blob(shape: wp.vec4, p: wp.vec3):
    """Height above the bumpy sphere, and its gradient."""
    length = wp.sqrt(wp.max(wp.dot(p, p), 1e-12))
    unit = p / length
    a = shape[1] * unit[0] + shape[2]
    b = shape[1] * unit[1] + 2.3 * shape[2]
    c = shape[1] * unit[2] + 3.7 * shape[2]
    value = length - 1.0 + shape[0] - shape[0] / 3.0 * (fast_sin(a) + fast_sin(b) + fast_sin(c))
    slope = shape[0] * shape[1] / 3.0 * wp.vec3(fast_cos(a), fast_cos(b), fast_cos(c))
    return value, unit - (slope - wp.dot(slope, unit) * unit) / length


@wp.func
def terrain(shape: wp.vec4, p: wp.vec3):
    """Height above the waves, and its gradient."""
    x = shape[1] * p[0] + shape[2]
    y = shape[1] * p[1] + 2.3 * shape[2]
    steep = shape[0] * shape[1]
    value = p[2] - 1.0 + shape[0] * (2.0 - fast_sin(x) - fast_cos(y))
    return value, wp.vec3(-steep * fast_cos(x), steep * fast_sin(y), 1.0)


@wp.func
def field(kind: int, shape: wp.vec4, p: wp.vec3):
    """The field that is negative inside of the body, and its gradient."""
    value = float(0.0)
    gradient = wp.vec3(0.0, 0.0, 0.0)
    if kind == TORUS:
        value, gradient = torus(shape, p)
    elif kind == SUPERQUADRIC:
        value, gradient = superquadric(shape, p)
    elif kind == BLOB:
        value, gradient = blob(shape, p)
    else:
        value, gradient = terrain(shape, p)
    return value, gradient


@wp.func
def lipschitz_bound(kind: int, shape: wp.vec4):
    """A bound on the gradient's length along any ray that has not yet hit."""
    if kind == TORUS:
        return float(1.0)
    if kind == SUPERQUADRIC:
        return float(_OCTAHEDRON)
    if kind == BLOB:
        # the bumps' part is at right angles to the radial one, whose length is 1
        bumps = shape[0] * shape[1] / (_OCTAHEDRON * wp.max(1.0 - 2.0 * shape[0], 0.3))
        return wp.sqrt(1.0 + bumps * bumps)
    return wp.sqrt(1.0 + 2.0 * shape[0] * shape[1] * shape[0] * shape[1])


@wp.func
def march(kind: int, shape: wp.vec4, start: wp.vec3, along: wp.vec3, near: float, far: float):
    """Where a ray first meets the body between ``near`` and ``far``: -1 if nowhere. From inside it is ``near``."""
    value, gradient = field(kind, shape, start + near * along)
    if value <= 0.0:
        return near
    reach = lipschitz_bound(kind, shape) * wp.length(along)
    here = float(near)
    arrived = int(0)
    for _step in range(_STEPS):
        if value < _CLOSE:
            arrived = 1
            break
        if kind == SUPERQUADRIC:  # convex: Newton's step never passes the zero
            slope = wp.dot(gradient, along)
            if slope >= 0.0:
                break
            here -= value / slope
        else:
            here += value / reach
        if here >= far:
            break
        value, gradient = field(kind, shape, start + here * along)
    if arrived == 0:
        return -1.0
    for step in range(_POLISH):
        if step > 0:
            value, gradient = field(kind, shape, start + here * along)
        slope = wp.dot(gradient, along)
        if slope < -1e-6:
            here = wp.clamp(here - value / slope, near, far)
        if wp.abs(value) < _EXACT:  # Newton's step doubles the digits: the next one would change nothing
            break
    return here

"""Intersection of a ray with bodies and with the room.

All simple bodies are one: a quadric ``a (x^2 + y^2) + c z^2 + e z + f <= 0`` clipped by the cube [-1, 1]^3, in the
body's own frame. A ray's interval inside is the overlap of four intervals; a box is the cube alone.

Tori, superquadrics, bumpy spheres and height fields have no closed form. Each is the part of the cube where a field is
negative. A ray walks through the cube toward the first zero (sphere tracing, Hart 1996; Newton's steps where the field
is convex), and Newton's method does the rest.
"""

import warp as wp

from lorasub.scenes.description import Primitive
from lorasub.scenes.rendering.kernels.fastmath import fast_cos, fast_pow, fast_sin
from lorasub.scenes.rendering.kernels.structs import FAR, HORIZON, Body, BodyList, Environment, Scene

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


#: Primitives from this number on are marched, those before have a closed form.
FIRST_MARCHED = wp.constant(int(Primitive.TORUS))
_TINY = wp.constant(1e-12)
_ROUNDING = wp.constant(2e-6)


@wp.func
def nonzero(value: float):
    """The value, or a tiny one where it would be divided by zero."""
    return wp.where(wp.abs(value) < _TINY, float(_TINY), value)


@wp.func
def slab_intervals(start: wp.vec3, along: wp.vec3):
    """Entry into and exit from the three slabs from -1 to 1."""
    inverse = wp.vec3(1.0 / nonzero(along[0]), 1.0 / nonzero(along[1]), 1.0 / nonzero(along[2]))
    middle = -wp.cw_mul(start, inverse)
    half = wp.vec3(wp.abs(inverse[0]), wp.abs(inverse[1]), wp.abs(inverse[2]))
    return middle - half, middle + half


@wp.func
def quadric_interval(quadric: wp.vec4, o: wp.vec3, d: wp.vec3, near: float):
    """Entry and exit of the quadric, given where the cube is entered; empty where entry > exit."""
    second = nonzero(quadric[0] * (d[0] * d[0] + d[1] * d[1]) + quadric[1] * d[2] * d[2])
    first = quadric[0] * (o[0] * d[0] + o[1] * d[1]) + quadric[1] * o[2] * d[2] + 0.5 * quadric[2] * d[2]
    zeroth = quadric[0] * (o[0] * o[0] + o[1] * o[1]) + quadric[1] * o[2] * o[2] + quadric[2] * o[2] + quadric[3]
    discriminant = first * first - second * zeroth
    if discriminant <= 0.0:  # no roots: all inside if inverted, else nothing
        none = wp.where(second < 0.0, -float(FAR), float(FAR))
        return none, -none
    root = wp.sqrt(discriminant)
    larger = -(first + wp.where(first < 0.0, -root, root))
    one = larger / second
    two = wp.where(larger == 0.0, one, zeroth / larger)
    low = wp.min(one, two)
    high = wp.max(one, two)
    if second < 0.0:
        if near < low:
            return -float(FAR), low
        return high, float(FAR)
    return low, high


@wp.func
def may_hit_ball(ball: wp.vec4, origin: wp.vec3, way: wp.vec3, limit: float):
    """Whether a ray with unit direction passes through a ball before ``limit``."""
    to = wp.vec3(ball[0], ball[1], ball[2]) - origin
    ahead = wp.dot(to, way)
    if ahead > limit + ball[3]:
        return False
    behind = wp.max(ahead, 0.0)
    return behind * behind >= wp.dot(to, to) - ball[3] * ball[3]


@wp.func
def body_interval(body: Body, origin: wp.vec3, direction: wp.vec3, limit: float):
    """Where a ray enters and leaves one body; empty where entry > exit. A marched body's exit is its cube's."""
    start = body.to_local * (origin - body.center)
    along = body.to_local * direction
    near, far = slab_intervals(start, along)
    entered = wp.max(near)
    left = wp.min(far)
    if entered > left or left <= 0.0:
        return float(FAR), -float(FAR)
    if body.kind < FIRST_MARCHED:
        entry, leave = quadric_interval(body.quadric, start, along, entered)
        return wp.max(entry, entered), wp.min(leave, left)
    begin = wp.max(entered, 0.0)
    end = wp.min(left, limit)
    if begin >= end:
        return float(FAR), -float(FAR)
    distance = march(body.kind, body.shape, start, along, begin, end)
    if distance <= 0.0:
        return float(FAR), -float(FAR)
    return distance, left


@wp.func
def nearest_body(scene: Scene, b: int, bodies: BodyList, origin: wp.vec3, direction: wp.vec3):
    """Distance to the first body that the ray enters, and its number; ``FAR`` and -1 if there is none."""
    length = wp.length(direction)
    way = direction / length
    best = float(FAR)
    number = int(-1)
    for entry_number in range(bodies.count):
        k = int(bodies.numbers[bodies.row, entry_number])
        if may_hit_ball(scene.balls[b, k], origin, way, best * length):
            entry, leave = body_interval(scene.bodies[b, k], origin, direction, best)
            if entry <= leave and entry > 0.0 and entry < best:
                best = entry
                number = k
    return best, number


@wp.func
def occluded(scene: Scene, b: int, bodies: BodyList, origin: wp.vec3, direction: wp.vec3):
    """Whether a body lies between ``origin`` and ``origin + direction``."""
    length = wp.length(direction)
    way = direction / length
    for number in range(bodies.count):
        k = int(bodies.numbers[bodies.row, number])
        if may_hit_ball(scene.balls[b, k], origin, way, length):
            entry, leave = body_interval(scene.bodies[b, k], origin, direction, 1.0)
            if entry <= leave and leave > 0.0 and entry < 1.0:
                return True
    return False


@wp.func
def normal_at(body: Body, origin: wp.vec3, direction: wp.vec3, distance: float, leaving: bool):
    """Unit outward normal in the world where the ray enters a body, or leaves it."""
    start = body.to_local * (origin - body.center)
    along = body.to_local * direction
    near, far = slab_intervals(start, along)
    point = start + distance * along
    gradient = wp.vec3(0.0, 0.0, 0.0)
    # the faces' distances were computed before, elsewhere, and so perhaps rounded otherwise
    slack = _ROUNDING * distance
    by_face = wp.max(near) >= distance - slack
    if leaving:
        by_face = wp.min(far) <= distance + slack
    if by_face:
        for axis in range(3):
            if leaving:
                if far[axis] <= distance + slack:
                    gradient[axis] = wp.sign(along[axis])
            elif near[axis] >= distance - slack:
                gradient[axis] = -wp.sign(along[axis])
    elif body.kind < FIRST_MARCHED:
        gradient = wp.vec3(
            body.quadric[0] * point[0],
            body.quadric[0] * point[1],
            body.quadric[1] * point[2] + 0.5 * body.quadric[2],
        )
    else:
        _value, gradient = field(body.kind, body.shape, point)
    # normals transform with the transposed inverse; to_local is the inverse already
    return wp.normalize(wp.transpose(body.to_local) * gradient)


@wp.func
def intersect_room(environment: Environment, origin: wp.vec3, d: wp.vec3):
    """Distance to the room as seen from inside, and which side: axis 0, 1 or 2."""
    room = environment.room
    u = nonzero(d[0])
    v = nonzero(d[1])
    w = nonzero(d[2])
    x = (wp.where(u > 0.0, room[0], -room[0]) - origin[0]) / u
    y = (wp.where(v > 0.0, room[1], -room[1]) - origin[1]) / v
    z = (wp.where(w > 0.0, room[2], 0.0) - origin[2]) / w
    if environment.open != 0:
        x = float(FAR)
        y = float(FAR)
        if w > 0.0:
            z = float(FAR)
    distance = wp.min(wp.min(x, y), z)
    side = int(0)
    if distance == z:
        side = 2
    elif distance == y:
        side = 1
    if distance > HORIZON:
        distance = float(FAR)
    return distance, side

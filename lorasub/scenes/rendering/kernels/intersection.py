"""Intersection of a ray with bodies and with the room.

All simple bodies are one: a quadric ``a (x^2 + y^2) + c z^2 + e z + f <= 0`` clipped by the cube [-1, 1]^3, in the
body's own frame. A ray's interval inside is the overlap of four intervals; a box is the cube alone. The other bodies
are marched, see :mod:`lorasub.scenes.rendering.kernels.implicit`.
"""

import warp as wp

from lorasub.scenes.description import Primitive
from lorasub.scenes.rendering.kernels.implicit import field, march
from lorasub.scenes.rendering.kernels.structs import FAR, HORIZON, Body, BodyList, Environment, Scene

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

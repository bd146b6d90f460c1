"""What one ray sees, see :mod:`lorasub.scenes.rendering.tracing`."""

import math
from typing import Any

import warp as wp

from lorasub.scenes.description import CEILING as _CEILING
from lorasub.scenes.description import FLOOR as _FLOOR
from lorasub.scenes.description import WALLS as _WALLS
from lorasub.scenes.rendering.fused.elementary import exp2, power
from lorasub.scenes.rendering.fused.light import add_lamp, albedo_at, ambient, sky
from lorasub.scenes.rendering.fused.scene import BIAS, FAR, HORIZON, Among, Body, Scene
from lorasub.scenes.rendering.fused.solids import nearest, normal_at, room_exit, stretch

FLOOR, WALLS, CEILING = wp.constant(_FLOOR), wp.constant(_WALLS), wp.constant(_CEILING)
_BOUNCES = wp.constant(3)
_LOG2E = wp.constant(math.log2(math.e))
_GAMMA = wp.constant(1.0 / 2.4)
# A ray splits in two at most _BOUNCES times, and one half is followed at a time.
_Waiting: Any = wp.types.matrix(shape=(5, 10), dtype=wp.float32)


@wp.struct
class Surface:
    """What a ray has met; ``solid`` is -1 for the room, ``depth`` is ``FAR`` if nothing was met."""

    depth: wp.float32
    point: wp.vec3
    normal: wp.vec3
    index: wp.int32
    solid: wp.int32


@wp.struct
class Color:
    """Linear RGB of a surface, of the diffuse light on it, and of its highlights."""

    albedo: wp.vec3
    shading: wp.vec3
    gloss: wp.vec3


@wp.func
def meet(scene: Scene, b: int, among: Among, origin: wp.vec3, direction: wp.vec3):
    """The first surface that a ray meets."""
    met = Surface()
    depth, number = nearest(scene, b, among, origin, direction)
    wall, side = room_exit(scene.places[b], origin, direction)
    if number >= 0 and depth < wall:
        body = scene.bodies[b, number]
        met.depth = depth
        met.normal = normal_at(body, origin, direction, depth, False)
        met.point = origin + depth * direction
        met.index = body.surface
        met.solid = number
    else:
        met.depth = wall
        met.solid = -1
        met.point = origin + wp.min(wall, float(HORIZON)) * direction
        normal = wp.vec3(0.0, 0.0, 0.0)
        normal[side] = -wp.sign(direction[side])
        met.normal = normal
        if side < 2:
            met.index = WALLS
        elif direction[2] < 0.0:
            met.index = FLOOR
        else:
            met.index = CEILING
    return met


@wp.func
def paint(scene: Scene, b: int, met: Surface, direction: wp.vec3, pixel: float):
    """Linear RGB of the surface that a ray has met."""
    place = met.point
    across = met.normal  # its longest component is the axis that the surface lies across
    if met.solid >= 0:  # textures hang on the object's own axes
        body = scene.bodies[b, met.solid]
        across = body.to_local * (met.point - body.center)
        place = wp.cw_mul(across, body.size)
    face = int(0)
    for axis in range(1, 3):
        if wp.abs(across[axis]) > wp.abs(across[face]):
            face = axis
    return albedo_at(scene.texels, scene.materials[b, met.index], direction, pixel, met.depth, met.normal, place, face)


@wp.func
def color_by(scene: Scene, b: int, among: Among, met: Surface, direction: wp.vec3, pixel: float):
    """A surface's colour where all lamps have the same possible occluders, one shadow ray each."""
    color = Color()
    material = scene.materials[b, met.index]
    color.albedo = paint(scene, b, met, direction, pixel)
    color.shading = ambient(scene.places[b], met.normal)
    color.gloss = wp.vec3(0.0, 0.0, 0.0)
    for number in range(scene.lamps.shape[1]):
        diffuse, gloss = add_lamp(
            scene, b, number, among, 1, direction, met.point, met.normal, material.roughness, material.specular
        )
        color.shading += diffuse
        color.gloss += gloss
    return color


@wp.func
def fresnel(cosine: float, ratio: float):
    """Share of unpolarised light that a clear surface reflects, and the cosine inside; all where there is none."""
    square = 1.0 - ratio * ratio * (1.0 - cosine * cosine)
    if square <= 0.0:
        return float(1.0), float(0.0)
    inner = wp.sqrt(square)
    across = (ratio * cosine - inner) / (ratio * cosine + inner)
    along = (cosine - ratio * inner) / (cosine + ratio * inner)
    return 0.5 * (across * across + along * along), inner


@wp.func
def cross_solid(body: Body, start: wp.vec3, inside: wp.vec3, index: float):
    """Where a ray that has entered a clear solid leaves it, and in which direction.

    Total reflection inside is followed a few times; light that is still caught then leaves as it is.
    """
    origin = wp.vec3(start[0], start[1], start[2])
    way = wp.vec3(inside[0], inside[1], inside[2])
    point = origin
    normal = wp.vec3(0.0, 0.0, 1.0)
    for _bounce in range(_BOUNCES):
        _entry, leave = stretch(body, origin, way, float(FAR))
        normal = normal_at(body, origin, way, leave, True)
        point = origin + leave * way
        cosine = wp.dot(way, normal)
        square = 1.0 - index * index * (1.0 - cosine * cosine)
        if square > 0.0:
            return point + BIAS * normal, index * way - (index * cosine - wp.sqrt(square)) * normal
        origin = point - BIAS * normal
        way = way - 2.0 * cosine * normal
    return point + BIAS * normal, way


@wp.func
def push(waiting: _Waiting, row: int, start: wp.vec3, ray: wp.vec3, weight: wp.vec3, bounces: int):
    """The waiting rays with one more."""
    for axis in range(3):
        waiting[row, axis] = start[axis]
        waiting[row, 3 + axis] = ray[axis]
        waiting[row, 6 + axis] = weight[axis]
    waiting[row, 9] = float(bounces)
    return waiting


@wp.func
def follow(
    scene: Scene, b: int, all: Among, casters: Among, first: Surface, color: Color, direction: wp.vec3, pixel: float
):
    """Linear RGB of a ray whose first surface is known, with what clear solids reflect and let through."""
    total = wp.vec3(0.0, 0.0, 0.0)
    weight = wp.vec3(1.0, 1.0, 1.0)
    ray = wp.vec3(direction[0], direction[1], direction[2])
    here = first
    paint_here = color
    bounces = int(0)
    waiting = _Waiting()
    many = int(1)
    while many > 0:
        clear = float(0.0)
        if here.depth < HORIZON and here.solid >= 0 and bounces < _BOUNCES:
            clear = scene.materials[b, here.index].refraction
        if here.depth >= HORIZON:
            total += wp.cw_mul(weight, sky(scene.places[b], ray))
        elif clear == 0.0:
            total += wp.cw_mul(weight, wp.cw_mul(paint_here.albedo, paint_here.shading) + paint_here.gloss)
        else:
            total += wp.cw_mul(weight, paint_here.gloss)
            toward = wp.normalize(ray)
            index = wp.max(clear, 1.0)
            cosine = -wp.dot(toward, here.normal)
            share, inner = fresnel(cosine, 1.0 / index)
            mirrored = toward + 2.0 * cosine * here.normal
            waiting = push(waiting, many, here.point + BIAS * here.normal, mirrored, share * weight, bounces + 1)
            many += 1
            if share < 1.0:
                bent = toward / index + (cosine / index - inner) * here.normal
                beyond, out = cross_solid(scene.bodies[b, here.solid], here.point - BIAS * here.normal, bent, index)
                rest = (1.0 - share) * wp.cw_mul(weight, paint_here.albedo)
                waiting = push(waiting, many, beyond, out, rest, bounces + 1)
                many += 1
        many -= 1
        if many > 0:
            start = wp.vec3(waiting[many, 0], waiting[many, 1], waiting[many, 2])
            ray = wp.vec3(waiting[many, 3], waiting[many, 4], waiting[many, 5])
            weight = wp.vec3(waiting[many, 6], waiting[many, 7], waiting[many, 8])
            bounces = int(waiting[many, 9])
            here = meet(scene, b, all, start, ray)
            if here.depth < HORIZON:
                paint_here = color_by(scene, b, casters, here, ray, pixel)
    return total


@wp.func
def tone(linear: float):
    """Linear light to sRGB in [0, 1]."""
    soft = 1.0 - exp2(-_LOG2E * linear)
    if soft <= 0.0031308:
        return 12.92 * soft
    return 1.055 * power(soft, _GAMMA) - 0.055


@wp.func
def tone_curve(linear: wp.vec3):
    """The tone curve of each colour."""
    return wp.vec3(tone(linear[0]), tone(linear[1]), tone(linear[2]))

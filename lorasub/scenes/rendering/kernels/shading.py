"""Colour of one ray: its first hit, the light that reaches that surface, and what is seen through clear bodies."""

import math
from typing import Any

import warp as wp

from lorasub.scenes.description import CEILING as _CEILING
from lorasub.scenes.description import FLOOR as _FLOOR
from lorasub.scenes.description import WALLS as _WALLS
from lorasub.scenes.rendering.kernels.fastmath import fast_exp2, fast_pow
from lorasub.scenes.rendering.kernels.intersection import (
    body_interval,
    intersect_room,
    nearest_body,
    normal_at,
    occluded,
)
from lorasub.scenes.rendering.kernels.structs import (
    BIAS,
    DIRECTIONAL,
    FAR,
    HORIZON,
    SUN_DISTANCE,
    Body,
    BodyList,
    Environment,
    Light,
    Material,
    Scene,
)
from lorasub.scenes.rendering.kernels.textures import (
    GLOW,
    IMAGE,
    hash_lattice,
    hash_to_unit,
    image_color,
    pattern_weights,
)

_TAU = wp.constant(2.0 * math.pi)
_PER_PI = wp.constant(1.0 / math.pi)
# Highlights are less than exp(-exponent (1 - cosine)); below exp(-25) nobody sees them, whatever stands before.
_FAINT = wp.constant(25.0)


@wp.func
def material_albedo(
    texels: wp.array3d(dtype=wp.float32),
    material: Material,
    direction: wp.vec3,
    pixel: float,
    depth: float,
    normal: wp.vec3,
    place: wp.vec3,
    face: int,
):
    """Linear RGB of a surface; ``place`` is the point in the object's own axes, ``face`` the axis it lies across."""
    cosine = wp.max(wp.abs(wp.dot(normal, direction)) / wp.length(direction), 0.1)
    footprint = depth * pixel / (cosine * material.scale)
    point = place / material.scale + material.phase
    if material.pattern == IMAGE:
        return image_color(texels, material.image, point, face, footprint)
    main, accent = pattern_weights(material.pattern, point, face, material.warp, footprint)
    first = wp.vec3(material.colors[0, 0], material.colors[0, 1], material.colors[0, 2])
    second = wp.vec3(material.colors[1, 0], material.colors[1, 1], material.colors[1, 2])
    third = wp.vec3(material.colors[2, 0], material.colors[2, 1], material.colors[2, 2])
    albedo = first + (second - first) * main
    return albedo + (third - albedo) * accent


@wp.func
def shadow_ray(light: Light, samples: int, sample: int, turn: float, start: wp.vec3):
    """From where a shadow ray starts to one place on a light's disc, which faces the point.

    The samples are turned by an angle of the point's own, so that neighbouring pixels see different places: what would
    be steps in the shadow becomes fine grain.
    """
    toward = light.position
    if light.kind != DIRECTIONAL:
        toward = light.position - start
    if samples > 1:
        # Vogel's spiral fills the disc evenly
        reach = light.radius * wp.sqrt((float(sample) + 0.5) / float(samples))
        angle = turn + 2.39996 * float(sample)
        along = wp.normalize(toward)
        side = wp.normalize(wp.vec3(-along[1] - 1e-4, along[0], 0.0))
        toward += reach * (wp.cos(angle) * side + wp.sin(angle) * wp.cross(along, side))
    if light.kind == DIRECTIONAL:
        return float(SUN_DISTANCE) * toward
    return toward


@wp.func
def light_visibility(
    scene: Scene, b: int, light: Light, occluders: BodyList, shadow_samples: int, point: wp.vec3, normal: wp.vec3
):
    """Share of a light that a point sees; 1 where the point faces away and it does not matter."""
    start = point + BIAS * normal
    if wp.dot(normal, shadow_ray(light, 1, 0, 0.0, start)) <= 0.0:
        return float(1.0)
    samples = int(1)
    turn = float(0.0)
    if light.radius > 0.0 and shadow_samples > 1:
        samples = shadow_samples
        cell = 512.0 * point + wp.vec3(0.5, 0.5, 0.5)  # the floor's height, 0, is in the middle of a cell
        turn = _TAU * hash_to_unit(hash_lattice(int(wp.floor(cell[0])), int(wp.floor(cell[1])), int(wp.floor(cell[2]))))
    dark = float(0.0)
    for sample in range(samples):
        if occluded(scene, b, occluders, start, shadow_ray(light, samples, sample, turn, start)):
            dark += 1.0
    return 1.0 - dark / float(samples)


@wp.func
def direct_light(
    scene: Scene,
    b: int,
    number: int,
    occluders: BodyList,
    shadow_samples: int,
    direction: wp.vec3,
    point: wp.vec3,
    normal: wp.vec3,
    roughness: float,
    specular: float,
):
    """Diffuse light and highlight that one light adds, linear RGB."""
    light = scene.lights[b, number]
    way = light.position
    if light.kind != DIRECTIONAL:
        way = light.position - point
    facing = wp.dot(normal, way)
    if light.kind == 0 or facing <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0)
    reach = wp.length(way)
    strength = facing / reach
    if light.kind != DIRECTIONAL:
        strength /= reach * reach
    strength *= light_visibility(scene, b, light, occluders, shadow_samples, point, normal)
    if strength == 0.0:
        return wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0)
    irradiance = strength * light.color
    square = roughness * roughness
    # Blinn-Phong, normalised; the exponent has the width of a Beckmann lobe of this roughness (Walter et al. 2007)
    exponent = wp.clamp(2.0 / (square * square) - 2.0, 1.0, 400.0)
    half = wp.normalize(way / reach - wp.normalize(direction))
    cosine = wp.dot(normal, half)
    if exponent * (1.0 - cosine) > _FAINT:
        return _PER_PI * irradiance, wp.vec3(0.0, 0.0, 0.0)
    lobe = fast_pow(wp.max(cosine, 1e-6), exponent)
    return _PER_PI * irradiance, irradiance * (_PER_PI * 0.125 * specular * lobe * (exponent + 8.0))


@wp.func
def ambient(environment: Environment, normal: wp.vec3):
    """Diffuse light of the sky."""
    up = 0.5 + 0.5 * normal[2]
    return environment.horizon * (1.0 - up) + environment.zenith * up


@wp.func
def sky_color(environment: Environment, direction: wp.vec3):
    """Linear RGB of what lies behind everything."""
    upward = wp.sqrt(wp.max(wp.normalize(direction)[2], 0.0))
    return 2.0 * (environment.horizon + (environment.zenith - environment.horizon) * upward)


FLOOR, WALLS, CEILING = wp.constant(_FLOOR), wp.constant(_WALLS), wp.constant(_CEILING)
_BOUNCES = wp.constant(3)
_LOG2E = wp.constant(math.log2(math.e))
_GAMMA = wp.constant(1.0 / 2.4)
# A ray splits in two at most _BOUNCES times, and one half is followed at a time.
_RayStack: Any = wp.types.matrix(shape=(5, 10), dtype=wp.float32)


@wp.struct
class RayHit:
    """The first hit of a ray; ``body`` is -1 for the room, ``depth`` is ``FAR`` if nothing was hit."""

    depth: wp.float32
    point: wp.vec3
    normal: wp.vec3
    surface: wp.int32
    body: wp.int32


@wp.struct
class SurfaceColor:
    """Linear RGB of a surface, of the diffuse light on it, and of its highlights."""

    albedo: wp.vec3
    shading: wp.vec3
    highlight: wp.vec3


@wp.func
def intersect(scene: Scene, b: int, bodies: BodyList, origin: wp.vec3, direction: wp.vec3):
    """The first surface that a ray hits."""
    hit = RayHit()
    depth, number = nearest_body(scene, b, bodies, origin, direction)
    wall, side = intersect_room(scene.environments[b], origin, direction)
    if number >= 0 and depth < wall:
        body = scene.bodies[b, number]
        hit.depth = depth
        hit.normal = normal_at(body, origin, direction, depth, False)
        hit.point = origin + depth * direction
        hit.surface = body.surface
        hit.body = number
    else:
        hit.depth = wall
        hit.body = -1
        hit.point = origin + wp.min(wall, float(HORIZON)) * direction
        normal = wp.vec3(0.0, 0.0, 0.0)
        normal[side] = -wp.sign(direction[side])
        hit.normal = normal
        if side < 2:
            hit.surface = WALLS
        elif direction[2] < 0.0:
            hit.surface = FLOOR
        else:
            hit.surface = CEILING
    return hit


@wp.func
def hit_albedo(scene: Scene, b: int, hit: RayHit, direction: wp.vec3, pixel: float):
    """Linear RGB of the surface that a ray has hit."""
    place = hit.point
    across = hit.normal  # its longest component is the axis that the surface lies across
    if hit.body >= 0:  # textures hang on the object's own axes
        body = scene.bodies[b, hit.body]
        across = body.to_local * (hit.point - body.center)
        place = wp.cw_mul(across, body.size)
    face = int(0)
    for axis in range(1, 3):
        if wp.abs(across[axis]) > wp.abs(across[face]):
            face = axis
    return material_albedo(
        scene.texels, scene.materials[b, hit.surface], direction, pixel, hit.depth, hit.normal, place, face
    )


@wp.func
def shade_hit(scene: Scene, b: int, bodies: BodyList, hit: RayHit, direction: wp.vec3, pixel: float):
    """A surface's colour where all lights have the same possible occluders, one shadow ray each."""
    color = SurfaceColor()
    material = scene.materials[b, hit.surface]
    color.albedo = hit_albedo(scene, b, hit, direction, pixel)
    color.shading = ambient(scene.environments[b], hit.normal)
    color.highlight = wp.vec3(0.0, 0.0, 0.0)
    if material.pattern == GLOW:
        color.shading = wp.vec3(1.0, 1.0, 1.0)
        return color
    for number in range(scene.lights.shape[1]):
        diffuse, highlight = direct_light(
            scene, b, number, bodies, 1, direction, hit.point, hit.normal, material.roughness, material.specular
        )
        color.shading += diffuse
        color.highlight += highlight
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
def refract_through(body: Body, start: wp.vec3, inside: wp.vec3, index: float):
    """Where a ray that has entered a clear body leaves it, and in which direction.

    Total reflection inside is followed a few times; light that is still caught then leaves as it is.
    """
    origin = wp.vec3(start[0], start[1], start[2])
    way = wp.vec3(inside[0], inside[1], inside[2])
    point = origin
    normal = wp.vec3(0.0, 0.0, 1.0)
    for _bounce in range(_BOUNCES):
        _entry, leave = body_interval(body, origin, way, float(FAR))
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
def push_ray(stack: _RayStack, row: int, start: wp.vec3, ray: wp.vec3, weight: wp.vec3, bounces: int):
    """The stack of rays with one more."""
    for axis in range(3):
        stack[row, axis] = start[axis]
        stack[row, 3 + axis] = ray[axis]
        stack[row, 6 + axis] = weight[axis]
    stack[row, 9] = float(bounces)
    return stack


@wp.func
def trace_refraction(
    scene: Scene,
    b: int,
    all_bodies: BodyList,
    shadow_casters: BodyList,
    first: RayHit,
    color: SurfaceColor,
    direction: wp.vec3,
    pixel: float,
):
    """Linear RGB of a ray whose first surface is known, with what clear bodies reflect and let through."""
    total = wp.vec3(0.0, 0.0, 0.0)
    weight = wp.vec3(1.0, 1.0, 1.0)
    ray = wp.vec3(direction[0], direction[1], direction[2])
    hit = first
    color_here = color
    bounces = int(0)
    stack = _RayStack()
    count = int(1)
    while count > 0:
        clear = float(0.0)
        if hit.depth < HORIZON and hit.body >= 0 and bounces < _BOUNCES:
            clear = scene.materials[b, hit.surface].refraction
        if hit.depth >= HORIZON:
            total += wp.cw_mul(weight, sky_color(scene.environments[b], ray))
        elif clear == 0.0:
            total += wp.cw_mul(weight, wp.cw_mul(color_here.albedo, color_here.shading) + color_here.highlight)
        else:
            total += wp.cw_mul(weight, color_here.highlight)
            toward = wp.normalize(ray)
            index = wp.max(clear, 1.0)
            cosine = -wp.dot(toward, hit.normal)
            share, inner = fresnel(cosine, 1.0 / index)
            mirrored = toward + 2.0 * cosine * hit.normal
            stack = push_ray(stack, count, hit.point + BIAS * hit.normal, mirrored, share * weight, bounces + 1)
            count += 1
            if share < 1.0:
                bent = toward / index + (cosine / index - inner) * hit.normal
                beyond, out = refract_through(scene.bodies[b, hit.body], hit.point - BIAS * hit.normal, bent, index)
                rest = (1.0 - share) * wp.cw_mul(weight, color_here.albedo)
                stack = push_ray(stack, count, beyond, out, rest, bounces + 1)
                count += 1
        count -= 1
        if count > 0:
            start = wp.vec3(stack[count, 0], stack[count, 1], stack[count, 2])
            ray = wp.vec3(stack[count, 3], stack[count, 4], stack[count, 5])
            weight = wp.vec3(stack[count, 6], stack[count, 7], stack[count, 8])
            bounces = int(stack[count, 9])
            hit = intersect(scene, b, all_bodies, start, ray)
            if hit.depth < HORIZON:
                color_here = shade_hit(scene, b, shadow_casters, hit, ray, pixel)
    return total


@wp.func
def tone(linear: float):
    """Linear light to sRGB in [0, 1]."""
    soft = 1.0 - fast_exp2(-_LOG2E * linear)
    if soft <= 0.0031308:
        return 12.92 * soft
    return 1.055 * fast_pow(soft, _GAMMA) - 0.055


@wp.func
def tone_curve(linear: wp.vec3):
    """The tone curve of each colour."""
    return wp.vec3(tone(linear[0]), tone(linear[1]), tone(linear[2]))

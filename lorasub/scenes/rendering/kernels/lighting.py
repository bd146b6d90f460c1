"""Colour of a point on a surface, and the light that reaches it."""

import math

import warp as wp

from lorasub.scenes.rendering.kernels.fastmath import fast_pow
from lorasub.scenes.rendering.kernels.intersection import occluded
from lorasub.scenes.rendering.kernels.structs import (
    BIAS,
    DIRECTIONAL,
    SUN_DISTANCE,
    BodyList,
    Environment,
    Light,
    Material,
    Scene,
)
from lorasub.scenes.rendering.kernels.textures import IMAGE, hash_lattice, hash_to_unit, image_color, pattern_weights

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

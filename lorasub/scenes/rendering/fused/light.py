"""What a point on a surface is made of and how it is lit, see :mod:`lorasub.scenes.rendering.kernels`."""

import math

import warp as wp

from lorasub.scenes.rendering.fused.elementary import power
from lorasub.scenes.rendering.fused.scene import BIAS, DIRECTIONAL, SUN_DISTANCE, Among, Lamp, Material, Place, Scene
from lorasub.scenes.rendering.fused.solids import blocked
from lorasub.scenes.rendering.fused.textures import IMAGE, hash_lattice, pattern_weights, picture_color, unit

_TAU = wp.constant(2.0 * math.pi)
_PER_PI = wp.constant(1.0 / math.pi)
# Highlights are less than exp(-exponent (1 - cosine)); below exp(-25) nobody sees them, whatever stands before.
_FAINT = wp.constant(25.0)


@wp.func
def albedo_at(
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
        return picture_color(texels, material.image, point, face, footprint)
    main, accent = pattern_weights(material.pattern, point, material.warp, footprint)
    first = wp.vec3(material.colors[0, 0], material.colors[0, 1], material.colors[0, 2])
    second = wp.vec3(material.colors[1, 0], material.colors[1, 1], material.colors[1, 2])
    third = wp.vec3(material.colors[2, 0], material.colors[2, 1], material.colors[2, 2])
    albedo = first + (second - first) * main
    return albedo + (third - albedo) * accent


@wp.func
def light_way(lamp: Lamp, samples: int, sample: int, turn: float, start: wp.vec3):
    """From where a shadow ray starts to one place on a light's disc."""
    toward = lamp.position
    if lamp.kind != DIRECTIONAL:
        toward = lamp.position - start
    if samples > 1:
        # Vogel's spiral fills the disc evenly
        reach = lamp.radius * wp.sqrt((float(sample) + 0.5) / float(samples))
        angle = turn + 2.39996 * float(sample)
        along = wp.normalize(toward)
        side = wp.normalize(wp.vec3(-along[1] - 1e-4, along[0], 0.0))
        toward += reach * (wp.cos(angle) * side + wp.sin(angle) * wp.cross(along, side))
    if lamp.kind == DIRECTIONAL:
        return float(SUN_DISTANCE) * toward
    return toward


@wp.func
def visible_share(scene: Scene, b: int, lamp: Lamp, among: Among, shadow_samples: int, point: wp.vec3, normal: wp.vec3):
    """Share of a light that a point sees; 1 where the point faces away and it does not matter."""
    start = point + BIAS * normal
    if wp.dot(normal, light_way(lamp, 1, 0, 0.0, start)) <= 0.0:
        return float(1.0)
    samples = int(1)
    turn = float(0.0)
    if lamp.radius > 0.0 and shadow_samples > 1:
        samples = shadow_samples
        cell = 512.0 * point + wp.vec3(0.5, 0.5, 0.5)  # the floor's height, 0, is in the middle of a cell
        turn = _TAU * unit(hash_lattice(int(wp.floor(cell[0])), int(wp.floor(cell[1])), int(wp.floor(cell[2]))))
    dark = float(0.0)
    for sample in range(samples):
        if blocked(scene, b, among, start, light_way(lamp, samples, sample, turn, start)):
            dark += 1.0
    return 1.0 - dark / float(samples)


@wp.func
def add_lamp(
    scene: Scene,
    b: int,
    number: int,
    among: Among,
    shadow_samples: int,
    direction: wp.vec3,
    point: wp.vec3,
    normal: wp.vec3,
    roughness: float,
    specular: float,
):
    """Diffuse light and highlight that one lamp adds, linear RGB."""
    lamp = scene.lamps[b, number]
    way = lamp.position
    if lamp.kind != DIRECTIONAL:
        way = lamp.position - point
    facing = wp.dot(normal, way)
    if lamp.kind == 0 or facing <= 0.0:
        return wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0)
    reach = wp.length(way)
    strength = facing / reach
    if lamp.kind != DIRECTIONAL:
        strength /= reach * reach
    strength *= visible_share(scene, b, lamp, among, shadow_samples, point, normal)
    if strength == 0.0:
        return wp.vec3(0.0, 0.0, 0.0), wp.vec3(0.0, 0.0, 0.0)
    light = strength * lamp.color
    square = roughness * roughness
    # Blinn-Phong, normalised; the exponent has the width of a Beckmann lobe of this roughness (Walter et al. 2007)
    exponent = wp.clamp(2.0 / (square * square) - 2.0, 1.0, 400.0)
    half = wp.normalize(way / reach - wp.normalize(direction))
    cosine = wp.dot(normal, half)
    if exponent * (1.0 - cosine) > _FAINT:
        return _PER_PI * light, wp.vec3(0.0, 0.0, 0.0)
    lobe = power(wp.max(cosine, 1e-6), exponent)
    return _PER_PI * light, light * (_PER_PI * 0.125 * specular * lobe * (exponent + 8.0))


@wp.func
def ambient(place: Place, normal: wp.vec3):
    """Diffuse light of the sky."""
    up = 0.5 + 0.5 * normal[2]
    return place.horizon * (1.0 - up) + place.zenith * up


@wp.func
def sky(place: Place, direction: wp.vec3):
    """Linear RGB of what lies behind everything."""
    upward = wp.sqrt(wp.max(wp.normalize(direction)[2], 0.0))
    return 2.0 * (place.horizon + (place.zenith - place.horizon) * upward)

"""Single functions of the renderer's kernels, called for many rays or points at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import warp as wp

from lorasub.scenes.description import Pattern, SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.rendering.kernels.shading import direct_light, fresnel, intersect, refract_through
from lorasub.scenes.rendering.kernels.structs import BodyList, Scene
from lorasub.scenes.rendering.kernels.textures import image_color, pattern_weights
from lorasub.scenes.rendering.renderer import start_warp
from lorasub.scenes.rendering.upload import upload

wp.set_module_options({"enable_backward": False})


@wp.func
def _bodies(numbers: wp.array2d(dtype=wp.uint8), count: int):
    bodies = BodyList()
    bodies.numbers = numbers
    bodies.row = 0
    bodies.count = count
    return bodies


@wp.kernel
def _cast(
    scene: Scene,
    numbers: wp.array2d(dtype=wp.uint8),
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=wp.float32),
    normal: wp.array(dtype=wp.vec3),
    body: wp.array(dtype=wp.int32),
    surface: wp.array(dtype=wp.int32),
):
    i = wp.tid()
    bodies = _bodies(numbers, scene.environments[0].body_count)
    hit = intersect(scene, 0, bodies, origins[i], directions[i])
    depth[i] = hit.depth
    normal[i] = hit.normal
    body[i] = hit.body
    surface[i] = hit.surface


@wp.kernel
def _pattern(
    pattern: int,
    points: wp.array(dtype=wp.vec3),
    face: int,
    warp: float,
    footprint: wp.array(dtype=wp.float32),
    weights: wp.array(dtype=wp.vec2),
):
    i = wp.tid()
    main, accent = pattern_weights(pattern, points[i], face, warp, footprint[i])
    weights[i] = wp.vec2(main, accent)


@wp.kernel
def _picture(
    texels: wp.array3d(dtype=wp.float32),
    image: int,
    points: wp.array(dtype=wp.vec3),
    face: int,
    footprint: float,
    color: wp.array(dtype=wp.vec3),
):
    i = wp.tid()
    color[i] = image_color(texels, image, points[i], face, footprint)


@wp.kernel
def _light(
    scene: Scene,
    numbers: wp.array2d(dtype=wp.uint8),
    samples: int,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    roughness: float,
    specular: float,
    diffuse: wp.array(dtype=wp.vec3),
    highlight: wp.array(dtype=wp.vec3),
):
    i = wp.tid()
    bodies = _bodies(numbers, scene.environments[0].shadow_caster_count)
    one, two = direct_light(scene, 0, 0, bodies, samples, directions[i], points[i], normals[i], roughness, specular)
    diffuse[i] = one
    highlight[i] = two


@wp.kernel
def _through(
    scene: Scene,
    points: wp.array(dtype=wp.vec3),
    inside: wp.array(dtype=wp.vec3),
    index: float,
    leaves: wp.array(dtype=wp.vec3),
    toward: wp.array(dtype=wp.vec3),
):
    i = wp.tid()
    point, way = refract_through(scene.bodies[0, 0], points[i], inside[i], index)
    leaves[i] = point
    toward[i] = way


@wp.kernel
def _fresnel(cosine: wp.array(dtype=wp.float32), ratio: float, share: wp.array(dtype=wp.float32)):
    i = wp.tid()
    value, _inner = fresnel(cosine[i], ratio)
    share[i] = value


@dataclass(frozen=True)
class Hits:
    """What N rays hit: distance, unit normal ``[3, N]``, body (-1: the room) and surface."""

    depth: np.ndarray
    normal: np.ndarray
    body: np.ndarray
    surface: np.ndarray


def _vectors(values: np.ndarray) -> wp.array:
    return wp.array(np.ascontiguousarray(np.asarray(values, dtype=np.float32).T), dtype=wp.vec3, device="cpu")


def _empty(many: int, dtype: object) -> wp.array:
    return wp.zeros(many, dtype=dtype, device="cpu")


def cast(scenes: SceneDescription, origins: np.ndarray, directions: np.ndarray) -> Hits:
    """Follow rays ``[3, N]`` in the first scene."""
    start_warp()
    many = origins.shape[1]
    ready = upload(scenes, (8, 8), None)
    found = [_empty(many, wp.float32), _empty(many, wp.vec3), _empty(many, wp.int32), _empty(many, wp.int32)]
    inputs = [ready.scene, wp.from_torch(ready.bodies), _vectors(origins), _vectors(directions), *found]
    wp.launch(_cast, dim=many, inputs=inputs, device="cpu")
    depth, normal, body, surface = (values.numpy() for values in found)
    return Hits(depth.astype(np.float64), normal.T.astype(np.float64), body, surface)


def weights(pattern: Pattern, points: np.ndarray, warp: float, footprint: np.ndarray, face: int = 0) -> np.ndarray:
    """``[2, N]`` mixing weights of a pattern at points ``[3, N]`` of surfaces that lie across an axis."""
    start_warp()
    many = points.shape[1]
    found = _empty(many, wp.vec2)
    widths = wp.array(footprint.astype(np.float32), device="cpu")
    wp.launch(_pattern, dim=many, inputs=[int(pattern), _vectors(points), face, warp, widths, found], device="cpu")
    return found.numpy().T.astype(np.float64)


def look_up(atlas: ImageAtlas, points: np.ndarray, face: int, footprint: float = 1e-4, image: int = 0) -> torch.Tensor:
    """``[N, 3]`` linear RGB of a picture at points ``[3, N]`` of surfaces that lie across an axis."""
    start_warp()
    many = points.shape[1]
    found = _empty(many, wp.vec3)
    inputs = [wp.from_torch(atlas.texels), image, _vectors(points), face, footprint, found]
    wp.launch(_picture, dim=many, inputs=inputs, device="cpu")
    return torch.from_numpy(found.numpy())


def lit(
    scenes: SceneDescription,
    points: np.ndarray,
    normals: np.ndarray,
    directions: np.ndarray,
    *,
    samples: int = 1,
    roughness: float = 0.5,
    specular: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse light and highlight ``[3, N]`` from the first light of the first scene, seen along ``directions``."""
    start_warp()
    many = points.shape[1]
    ready = upload(scenes, (8, 8), None)
    found = [_empty(many, wp.vec3), _empty(many, wp.vec3)]
    rays = [_vectors(points), _vectors(normals), _vectors(directions)]
    inputs = [ready.scene, wp.from_torch(ready.shadow_casters), samples, *rays, roughness, specular, *found]
    wp.launch(_light, dim=many, inputs=inputs, device="cpu")
    diffuse, highlight = (values.numpy().T.astype(np.float64) for values in found)
    return diffuse, highlight


def through(
    scenes: SceneDescription, points: np.ndarray, inside: np.ndarray, index: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays that have entered the first body leave it, and in which direction: ``[3, N]`` each."""
    start_warp()
    many = points.shape[1]
    ready = upload(scenes, (8, 8), None)
    found = [_empty(many, wp.vec3), _empty(many, wp.vec3)]
    wp.launch(_through, dim=many, inputs=[ready.scene, _vectors(points), _vectors(inside), index, *found], device="cpu")
    leaves, toward = (values.numpy().T.astype(np.float64) for values in found)
    return leaves, toward


def reflected(cosine: np.ndarray, ratio: float) -> np.ndarray:
    """``[N]`` share of the light that a clear surface reflects."""
    start_warp()
    found = _empty(len(cosine), wp.float32)
    wp.launch(
        _fresnel, dim=len(cosine), inputs=[wp.array(cosine, dtype=wp.float32, device="cpu"), ratio, found], device="cpu"
    )
    return found.numpy().astype(np.float64)

"""The passes over all pixels.

Few rays come near few bodies. So square tiles of pixels first collect the bodies that any of their rays may hit
(:func:`cull_bodies`), then every pixel finds its surface (:func:`trace_primary`). Tiles collect again what may stand
between their surfaces and each light (:func:`cull_shadow_casters`), and pixels take their colour (:func:`shade`). In
the end pixels at edges get more colour samples (:func:`antialias_edges`).
"""

import warp as wp

from lorasub.scenes.rendering.kernels.shading import (
    RayHit,
    SurfaceColor,
    ambient,
    direct_light,
    hit_albedo,
    intersect,
    shade_hit,
    sky_color,
    tone_curve,
    trace_refraction,
)
from lorasub.scenes.rendering.kernels.structs import DIRECTIONAL, HORIZON, SUN_DISTANCE, BodyList, Scene
from lorasub.scenes.rendering.kernels.textures import GLOW

# Clang joins no product and sum without being told, and shuffles more than it saves where it joins neighbours (SLP).
# No result here is, or depends on, infinity or NaN; Warp's own headers mention both, which Clang would warn of.
_CPU_FLAGS = (
    "-ffp-contract=fast -fno-signed-zeros -menable-no-nans -menable-no-infs -fno-slp-vectorize"
    " -Wno-nan-infinity-disabled"
)
wp.set_module_options(
    {"enable_backward": False, "cpu_compiler_flags": f"{wp.config.cpu_compiler_flags or '-march=native'} {_CPU_FLAGS}"}
)
#: Pixels along the side of a tile.
TILE = 8
_TILE = wp.constant(TILE)


@wp.struct
class Framebuffer:
    """Layers of all pixels of all views, as flat lists; pixel p of view g is at ``g * height * width + p``."""

    height: wp.int32
    width: wp.int32
    views: wp.int32
    rgb: wp.array(dtype=wp.float32)  # [G, 3, pixels], as albedo and shading; linear until edges are smoothed
    albedo: wp.array(dtype=wp.float32)
    shading: wp.array(dtype=wp.float32)
    depth: wp.array(dtype=wp.float32)
    normal: wp.array(dtype=wp.vec3)
    point: wp.array(dtype=wp.vec3)
    surface: wp.array(dtype=wp.int32)
    body: wp.array(dtype=wp.int32)


@wp.struct
class CullLists:
    """Which bodies matter where: numbers, and how many of them."""

    all_bodies: wp.array2d(dtype=wp.uint8)  # [B, K]
    shadow_casters: wp.array2d(dtype=wp.uint8)  # [B, K]
    tile_bodies: wp.array2d(dtype=wp.uint8)  # [tiles, K]
    tile_body_counts: wp.array(dtype=wp.int32)
    tile_occluders: wp.array2d(dtype=wp.uint8)  # [tiles * L, K]
    tile_occluder_counts: wp.array(dtype=wp.int32)


@wp.struct
class PixelCoord:
    """Where a pixel is."""

    b: wp.int32
    s: wp.int32
    view: wp.int32
    x: wp.int32
    y: wp.int32
    tile: wp.int32


@wp.func
def segment_at(frame: Framebuffer, segment: int):
    """The first pixel of a row of a tile. Working on rows saves most of the divisions that finding a pixel takes."""
    p = PixelCoord()
    columns = (frame.width + _TILE - 1) // _TILE
    p.view = segment // (frame.height * columns)
    p.b = p.view // frame.views
    p.s = p.view - p.b * frame.views
    rest = segment - p.view * frame.height * columns
    p.y = rest // columns
    column = rest - p.y * columns
    p.x = column * _TILE
    p.tile = (p.view * ((frame.height + _TILE - 1) // _TILE) + p.y // _TILE) * columns + column
    return p


@wp.func
def pixel_index(frame: Framebuffer, p: PixelCoord):
    """Where a pixel is in the flat lists."""
    return (p.view * frame.height + p.y) * frame.width + p.x


@wp.func
def tile_origin(frame: Framebuffer, tile: int):
    """The first pixel of a tile."""
    p = PixelCoord()
    rows = (frame.height + _TILE - 1) // _TILE
    columns = (frame.width + _TILE - 1) // _TILE
    p.view = tile // (rows * columns)
    p.b = p.view // frame.views
    p.s = p.view - p.b * frame.views
    rest = tile - p.view * rows * columns
    p.y = rest // columns * _TILE
    p.x = rest % columns * _TILE
    p.tile = tile
    return p


@wp.func
def ray_direction(scene: Scene, frame: Framebuffer, p: PixelCoord, x: float, y: float):
    """World direction through a point of the image; its z-depth is 1."""
    camera = scene.cameras[p.b, p.s]
    return camera.world_from_cam * wp.vec3(
        (x - 0.5 * float(frame.width)) * camera.pixel, (y - 0.5 * float(frame.height)) * camera.pixel, 1.0
    )


@wp.func
def body_list(numbers: wp.array2d(dtype=wp.uint8), row: int, count: int):
    """The bodies of a row."""
    bodies = BodyList()
    bodies.numbers = numbers
    bodies.row = row
    bodies.count = count
    return bodies


@wp.kernel
def cull_bodies(scene: Scene, frame: Framebuffer, lists: CullLists, first: int):
    """The bodies whose balls meet the cone around a tile, in order of distance."""
    tile = wp.tid() + first
    p = tile_origin(frame, tile)
    camera = scene.cameras[p.b, p.s]
    half = 0.5 * float(_TILE)
    axis = wp.normalize(ray_direction(scene, frame, p, float(p.x) + half, float(p.y) + half))
    # the corner farthest from the image's middle would be nearest to the axis; take the widest of the four
    cosine = float(1.0)
    for corner in range(4):
        x = float(p.x + _TILE * (corner & 1))
        y = float(p.y + _TILE * (corner >> 1))
        cosine = wp.min(cosine, wp.dot(axis, wp.normalize(ray_direction(scene, frame, p, x, y))))
    sine = wp.sqrt(wp.max(1.0 - cosine * cosine, 0.0))
    count = int(0)
    for number in range(scene.environments[p.b].body_count):
        k = int(lists.all_bodies[p.b, number])
        ball = scene.balls[p.b, k]
        to = wp.vec3(ball[0], ball[1], ball[2]) - camera.center
        ahead = wp.dot(to, axis)
        aside = wp.sqrt(wp.max(wp.dot(to, to) - ahead * ahead, 0.0))
        # distance to the cone's surface; behind the apex this is no more than the true one, so nothing is lost
        if aside * cosine - ahead * sine <= ball[3] and ahead > -ball[3]:
            # insertion by the distance of the ball's near side, which ends the search for most rays early
            key = wp.length(to) - ball[3]
            slot = int(count)
            while slot > 0:
                other = scene.balls[p.b, int(lists.tile_bodies[tile, slot - 1])]
                if wp.length(wp.vec3(other[0], other[1], other[2]) - camera.center) - other[3] <= key:
                    break
                lists.tile_bodies[tile, slot] = lists.tile_bodies[tile, slot - 1]
                slot -= 1
            lists.tile_bodies[tile, slot] = wp.uint8(k)
            count += 1
    lists.tile_body_counts[tile] = count


@wp.kernel
def trace_primary(scene: Scene, frame: Framebuffer, lists: CullLists, first: int):
    """The first hit of the ray through the middle of each pixel."""
    p = segment_at(frame, wp.tid() + first)
    bodies = body_list(lists.tile_bodies, p.tile, lists.tile_body_counts[p.tile])
    center = scene.cameras[p.b, p.s].center
    for _step in range(wp.min(_TILE, frame.width - p.x)):
        index = pixel_index(frame, p)
        direction = ray_direction(scene, frame, p, float(p.x) + 0.5, float(p.y) + 0.5)
        hit = intersect(scene, p.b, bodies, center, direction)
        if hit.depth >= HORIZON:
            hit = RayHit()
            hit.surface = -1
            hit.body = -1
        frame.depth[index] = hit.depth
        frame.normal[index] = hit.normal
        frame.point[index] = hit.point
        frame.surface[index] = hit.surface
        frame.body[index] = hit.body
        p.x += 1


@wp.kernel
def cull_shadow_casters(scene: Scene, frame: Framebuffer, lists: CullLists, first: int):
    """For a tile and a light, the bodies whose balls meet the hull of the tile's surfaces and the light."""
    row = wp.tid() + first
    lights = scene.lights.shape[1]
    tile = row // lights
    p = tile_origin(frame, tile)
    low = wp.vec3(1e6, 1e6, 1e6)
    high = wp.vec3(-1e6, -1e6, -1e6)
    for y in range(p.y, wp.min(p.y + _TILE, frame.height)):
        for x in range(p.x, wp.min(p.x + _TILE, frame.width)):
            index = p.view * frame.height * frame.width + y * frame.width + x
            if frame.surface[index] >= 0:
                low = wp.min(low, frame.point[index])
                high = wp.max(high, frame.point[index])
    lists.tile_occluder_counts[row] = 0
    light = scene.lights[p.b, row - tile * lights]
    if low[0] > high[0] or light.kind == 0:
        return
    middle = 0.5 * (low + high)
    way = light.position - middle
    spread = light.radius
    if light.kind == DIRECTIONAL:
        way = float(SUN_DISTANCE) * light.position
        spread = float(SUN_DISTANCE) * light.radius + 0.5 * wp.length(high - low)
    start_radius = 0.5 * wp.length(high - low) + 0.01
    square = wp.max(wp.dot(way, way), 1e-12)
    count = int(0)
    for number in range(scene.environments[p.b].shadow_caster_count):
        k = int(lists.shadow_casters[p.b, number])
        ball = scene.balls[p.b, k]
        to = wp.vec3(ball[0], ball[1], ball[2]) - middle
        # the hull of two balls lies within the capsule of the larger radius up to a place, and of the mixed one there:
        # the mixed radius at the point nearest to the ball, enlarged by the taper over the ball's own radius
        along = wp.clamp(wp.dot(to, way) / square, 0.0, 1.0)
        reach = wp.clamp(along + (ball[3] + wp.max(start_radius, spread)) / wp.sqrt(square), 0.0, 1.0)
        wide = wp.max(start_radius + (spread - start_radius) * along, start_radius + (spread - start_radius) * reach)
        back = wp.clamp(along - (ball[3] + wp.max(start_radius, spread)) / wp.sqrt(square), 0.0, 1.0)
        wide = wp.max(wide, start_radius + (spread - start_radius) * back)
        if wp.length(to - along * way) <= ball[3] + wide:
            lists.tile_occluders[row, count] = wp.uint8(k)
            count += 1
    lists.tile_occluder_counts[row] = count


@wp.func
def write_rgb(values: wp.array(dtype=wp.float32), frame: Framebuffer, p: PixelCoord, color: wp.vec3):
    """Write a colour into a planar image."""
    pixels = frame.height * frame.width
    for channel in range(3):
        values[(p.view * 3 + channel) * pixels + p.y * frame.width + p.x] = color[channel]


@wp.func
def shade_pixel(scene: Scene, frame: Framebuffer, lists: CullLists, p: PixelCoord, shadow_samples: int):
    """The colour of a pixel."""
    index = pixel_index(frame, p)
    direction = ray_direction(scene, frame, p, float(p.x) + 0.5, float(p.y) + 0.5)
    environment = scene.environments[p.b]
    linear = wp.vec3(0.0, 0.0, 0.0)
    color = SurfaceColor()
    if frame.surface[index] < 0:
        linear = sky_color(environment, direction)
    else:
        hit = RayHit()
        hit.depth = frame.depth[index]
        hit.point = frame.point[index]
        hit.normal = frame.normal[index]
        hit.surface = frame.surface[index]
        hit.body = frame.body[index]
        pixel = scene.cameras[p.b, p.s].pixel
        material = scene.materials[p.b, hit.surface]
        color.albedo = hit_albedo(scene, p.b, hit, direction, pixel)
        color.shading = ambient(environment, hit.normal)
        lights = scene.lights.shape[1]
        if material.pattern == GLOW:
            color.shading = wp.vec3(1.0, 1.0, 1.0)
            lights = 0
        for number in range(lights):
            row = p.tile * scene.lights.shape[1] + number
            diffuse, highlight = direct_light(
                scene,
                p.b,
                number,
                body_list(lists.tile_occluders, row, lists.tile_occluder_counts[row]),
                shadow_samples,
                direction,
                hit.point,
                hit.normal,
                material.roughness,
                material.specular,
            )
            color.shading += diffuse
            color.highlight += highlight
        if environment.clear == 0:
            linear = wp.cw_mul(color.albedo, color.shading) + color.highlight
        else:
            linear = trace_refraction(
                scene,
                p.b,
                body_list(lists.all_bodies, p.b, environment.body_count),
                body_list(lists.shadow_casters, p.b, environment.shadow_caster_count),
                hit,
                color,
                direction,
                pixel,
            )
    write_rgb(frame.albedo, frame, p, color.albedo)
    write_rgb(frame.shading, frame, p, color.shading)
    write_rgb(frame.rgb, frame, p, environment.exposure * linear)


@wp.kernel
def shade(scene: Scene, frame: Framebuffer, lists: CullLists, first: int, shadow_samples: int):
    """The colour of each pixel, linear: the tone curve of a whole image is quicker vectorised, in torch."""
    p = segment_at(frame, wp.tid() + first)
    for _step in range(wp.min(_TILE, frame.width - p.x)):
        shade_pixel(scene, frame, lists, p, shadow_samples)
        p.x += 1


@wp.func
def surfaces_differ(frame: Framebuffer, one: int, two: int):
    """Whether two pixels show different surfaces, or the same one at a clearly different angle."""
    if frame.surface[one] != frame.surface[two] or frame.body[one] != frame.body[two]:
        return True
    return frame.surface[one] >= 0 and wp.dot(frame.normal[one], frame.normal[two]) < 0.6


@wp.func
def antialias_pixel(
    scene: Scene, frame: Framebuffer, lists: CullLists, p: PixelCoord, offsets: wp.array(dtype=wp.vec2)
):
    """Average more colour samples into a pixel, if it lies at an edge."""
    index = pixel_index(frame, p)
    edge = bool(False)
    if p.x > 0:
        edge = edge or surfaces_differ(frame, index, index - 1)
    if p.x < frame.width - 1:
        edge = edge or surfaces_differ(frame, index, index + 1)
    if p.y > 0:
        edge = edge or surfaces_differ(frame, index, index - frame.width)
    if p.y < frame.height - 1:
        edge = edge or surfaces_differ(frame, index, index + frame.width)
    if not edge:
        return
    environment = scene.environments[p.b]
    camera = scene.cameras[p.b, p.s]
    shadow_casters = body_list(lists.shadow_casters, p.b, environment.shadow_caster_count)
    total = wp.vec3(0.0, 0.0, 0.0)
    for sample in range(offsets.shape[0]):
        x = float(p.x) + 0.5 + offsets[sample][0]
        y = float(p.y) + 0.5 + offsets[sample][1]
        direction = ray_direction(scene, frame, p, x, y)
        hit = intersect(
            scene, p.b, body_list(lists.tile_bodies, p.tile, lists.tile_body_counts[p.tile]), camera.center, direction
        )
        linear = wp.vec3(0.0, 0.0, 0.0)
        if hit.depth >= HORIZON:
            linear = sky_color(environment, direction)
        else:
            color = shade_hit(scene, p.b, shadow_casters, hit, direction, camera.pixel)
            if environment.clear == 0:
                linear = wp.cw_mul(color.albedo, color.shading) + color.highlight
            else:
                all_bodies = body_list(lists.all_bodies, p.b, environment.body_count)
                linear = trace_refraction(scene, p.b, all_bodies, shadow_casters, hit, color, direction, camera.pixel)
        total += tone_curve(environment.exposure * linear)
    pixels = frame.height * frame.width
    for channel in range(3):
        here = (p.view * 3 + channel) * pixels + p.y * frame.width + p.x
        frame.rgb[here] = (frame.rgb[here] + total[channel]) / float(offsets.shape[0] + 1)


@wp.kernel
def antialias_edges(scene: Scene, frame: Framebuffer, lists: CullLists, first: int, offsets: wp.array(dtype=wp.vec2)):
    """Average more colour samples into the pixels at edges."""
    p = segment_at(frame, wp.tid() + first)
    for _step in range(wp.min(_TILE, frame.width - p.x)):
        antialias_pixel(scene, frame, lists, p, offsets)
        p.x += 1

"""The passes over all pixels.

Few rays come near few bodies. So square tiles of pixels first gather the bodies that any of their rays may meet
(:func:`gather_bodies`), then every pixel finds its surface (:func:`look`); tiles gather again what may stand between
their surfaces and each lamp (:func:`gather_casters`), and pixels take their colour (:func:`light`). Pixels at edges get
more samples in the end (:func:`smooth_edges`).
"""

import warp as wp

from lorasub.scenes.rendering.fused.light import add_lamp, ambient, sky
from lorasub.scenes.rendering.fused.scene import DIRECTIONAL, HORIZON, SUN_DISTANCE, Among, Scene
from lorasub.scenes.rendering.fused.tracing import Color, Surface, color_by, follow, meet, paint, tone_curve

# Clang joins no product and sum without being told, and shuffles more than it saves where it joins neighbours (SLP).
# No result here is, or depends on, infinity or NaN.
_CPU_FLAGS = "-ffp-contract=fast -fno-signed-zeros -menable-no-nans -menable-no-infs -fno-slp-vectorize"
wp.set_module_options(
    {"enable_backward": False, "cpu_compiler_flags": f"{wp.config.cpu_compiler_flags or '-march=native'} {_CPU_FLAGS}"}
)
#: Pixels along the side of a tile.
TILE = 8
_TILE = wp.constant(TILE)


@wp.struct
class Image:
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
    index: wp.array(dtype=wp.int32)
    solid: wp.array(dtype=wp.int32)


@wp.struct
class Lists:
    """Which bodies matter where: numbers, and how many of them."""

    all: wp.array2d(dtype=wp.uint8)  # [B, K]
    casters: wp.array2d(dtype=wp.uint8)  # [B, K]
    seen: wp.array2d(dtype=wp.uint8)  # [tiles, K]
    seen_many: wp.array(dtype=wp.int32)
    between: wp.array2d(dtype=wp.uint8)  # [tiles * L, K]
    between_many: wp.array(dtype=wp.int32)


@wp.struct
class Pixel:
    """Where a pixel is."""

    b: wp.int32
    s: wp.int32
    view: wp.int32
    x: wp.int32
    y: wp.int32
    tile: wp.int32


@wp.func
def segment_at(image: Image, segment: int):
    """The first pixel of a row of a tile. Working on rows saves most of the divisions that finding a pixel takes."""
    p = Pixel()
    columns = (image.width + _TILE - 1) // _TILE
    p.view = segment // (image.height * columns)
    p.b = p.view // image.views
    p.s = p.view - p.b * image.views
    rest = segment - p.view * image.height * columns
    p.y = rest // columns
    column = rest - p.y * columns
    p.x = column * _TILE
    p.tile = (p.view * ((image.height + _TILE - 1) // _TILE) + p.y // _TILE) * columns + column
    return p


@wp.func
def place_of(image: Image, p: Pixel):
    """Where a pixel is in the flat lists."""
    return (p.view * image.height + p.y) * image.width + p.x


@wp.func
def tile_at(image: Image, tile: int):
    """The first pixel of a tile."""
    p = Pixel()
    rows = (image.height + _TILE - 1) // _TILE
    columns = (image.width + _TILE - 1) // _TILE
    p.view = tile // (rows * columns)
    p.b = p.view // image.views
    p.s = p.view - p.b * image.views
    rest = tile - p.view * rows * columns
    p.y = rest // columns * _TILE
    p.x = rest % columns * _TILE
    p.tile = tile
    return p


@wp.func
def ray_through(scene: Scene, image: Image, p: Pixel, x: float, y: float):
    """World direction through a place in the image; its z-depth is 1."""
    view = scene.views[p.b, p.s]
    return view.turn * wp.vec3(
        (x - 0.5 * float(image.width)) * view.pixel, (y - 0.5 * float(image.height)) * view.pixel, 1.0
    )


@wp.func
def row_of(lists: wp.array2d(dtype=wp.uint8), row: int, many: int):
    """The bodies of a row."""
    among = Among()
    among.lists = lists
    among.row = row
    among.many = many
    return among


@wp.kernel
def gather_bodies(scene: Scene, image: Image, lists: Lists, first: int):
    """The bodies whose balls meet the cone around a tile, in order of distance."""
    tile = wp.tid() + first
    p = tile_at(image, tile)
    view = scene.views[p.b, p.s]
    half = 0.5 * float(_TILE)
    axis = wp.normalize(ray_through(scene, image, p, float(p.x) + half, float(p.y) + half))
    # the corner farthest from the image's middle would be nearest to the axis; take the widest of the four
    cosine = float(1.0)
    for corner in range(4):
        x = float(p.x + _TILE * (corner & 1))
        y = float(p.y + _TILE * (corner >> 1))
        cosine = wp.min(cosine, wp.dot(axis, wp.normalize(ray_through(scene, image, p, x, y))))
    sine = wp.sqrt(wp.max(1.0 - cosine * cosine, 0.0))
    many = int(0)
    for number in range(scene.places[p.b].bodies):
        k = int(lists.all[p.b, number])
        ball = scene.balls[p.b, k]
        to = wp.vec3(ball[0], ball[1], ball[2]) - view.eye
        ahead = wp.dot(to, axis)
        aside = wp.sqrt(wp.max(wp.dot(to, to) - ahead * ahead, 0.0))
        # distance to the cone's surface; behind the apex this is no more than the true one, so nothing is lost
        if aside * cosine - ahead * sine <= ball[3] and ahead > -ball[3]:
            # insertion by the distance of the ball's near side, which ends the search for most rays early
            key = wp.length(to) - ball[3]
            slot = int(many)
            while slot > 0:
                other = scene.balls[p.b, int(lists.seen[tile, slot - 1])]
                if wp.length(wp.vec3(other[0], other[1], other[2]) - view.eye) - other[3] <= key:
                    break
                lists.seen[tile, slot] = lists.seen[tile, slot - 1]
                slot -= 1
            lists.seen[tile, slot] = wp.uint8(k)
            many += 1
    lists.seen_many[tile] = many


@wp.kernel
def look(scene: Scene, image: Image, lists: Lists, first: int):
    """The surface in the middle of each pixel."""
    p = segment_at(image, wp.tid() + first)
    among = row_of(lists.seen, p.tile, lists.seen_many[p.tile])
    eye = scene.views[p.b, p.s].eye
    for _step in range(wp.min(_TILE, image.width - p.x)):
        place = place_of(image, p)
        direction = ray_through(scene, image, p, float(p.x) + 0.5, float(p.y) + 0.5)
        surface = meet(scene, p.b, among, eye, direction)
        if surface.depth >= HORIZON:
            surface = Surface()
            surface.index = -1
            surface.solid = -1
        image.depth[place] = surface.depth
        image.normal[place] = surface.normal
        image.point[place] = surface.point
        image.index[place] = surface.index
        image.solid[place] = surface.solid
        p.x += 1


@wp.kernel
def gather_casters(scene: Scene, image: Image, lists: Lists, first: int):
    """For a tile and a lamp, the bodies whose balls meet the hull of the tile's surfaces and the lamp."""
    row = wp.tid() + first
    lamps = scene.lamps.shape[1]
    tile = row // lamps
    p = tile_at(image, tile)
    low = wp.vec3(1e6, 1e6, 1e6)
    high = wp.vec3(-1e6, -1e6, -1e6)
    for y in range(p.y, wp.min(p.y + _TILE, image.height)):
        for x in range(p.x, wp.min(p.x + _TILE, image.width)):
            place = p.view * image.height * image.width + y * image.width + x
            if image.index[place] >= 0:
                low = wp.min(low, image.point[place])
                high = wp.max(high, image.point[place])
    lists.between_many[row] = 0
    lamp = scene.lamps[p.b, row - tile * lamps]
    if low[0] > high[0] or lamp.kind == 0:
        return
    middle = 0.5 * (low + high)
    way = lamp.position - middle
    spread = lamp.radius
    if lamp.kind == DIRECTIONAL:
        way = float(SUN_DISTANCE) * lamp.position
        spread = float(SUN_DISTANCE) * lamp.radius + 0.5 * wp.length(high - low)
    start_radius = 0.5 * wp.length(high - low) + 0.01
    square = wp.max(wp.dot(way, way), 1e-12)
    many = int(0)
    for number in range(scene.places[p.b].casters):
        k = int(lists.casters[p.b, number])
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
            lists.between[row, many] = wp.uint8(k)
            many += 1
    lists.between_many[row] = many


@wp.func
def put(values: wp.array(dtype=wp.float32), image: Image, p: Pixel, color: wp.vec3):
    """Write a colour into a planar image."""
    pixels = image.height * image.width
    for channel in range(3):
        values[(p.view * 3 + channel) * pixels + p.y * image.width + p.x] = color[channel]


@wp.func
def light_pixel(scene: Scene, image: Image, lists: Lists, p: Pixel, shadow_samples: int):
    """The colour of a pixel."""
    place = place_of(image, p)
    direction = ray_through(scene, image, p, float(p.x) + 0.5, float(p.y) + 0.5)
    where = scene.places[p.b]
    linear = wp.vec3(0.0, 0.0, 0.0)
    color = Color()
    if image.index[place] < 0:
        linear = sky(where, direction)
    else:
        surface = Surface()
        surface.depth = image.depth[place]
        surface.point = image.point[place]
        surface.normal = image.normal[place]
        surface.index = image.index[place]
        surface.solid = image.solid[place]
        pixel = scene.views[p.b, p.s].pixel
        material = scene.materials[p.b, surface.index]
        color.albedo = paint(scene, p.b, surface, direction, pixel)
        color.shading = ambient(where, surface.normal)
        lamps = scene.lamps.shape[1]
        for number in range(lamps):
            row = p.tile * lamps + number
            diffuse, gloss = add_lamp(
                scene,
                p.b,
                number,
                row_of(lists.between, row, lists.between_many[row]),
                shadow_samples,
                direction,
                surface.point,
                surface.normal,
                material.roughness,
                material.specular,
            )
            color.shading += diffuse
            color.gloss += gloss
        if where.clear == 0:
            linear = wp.cw_mul(color.albedo, color.shading) + color.gloss
        else:
            linear = follow(
                scene,
                p.b,
                row_of(lists.all, p.b, where.bodies),
                row_of(lists.casters, p.b, where.casters),
                surface,
                color,
                direction,
                pixel,
            )
    put(image.albedo, image, p, color.albedo)
    put(image.shading, image, p, color.shading)
    put(image.rgb, image, p, where.exposure * linear)


@wp.kernel
def light(scene: Scene, image: Image, lists: Lists, first: int, shadow_samples: int):
    """The colour of each pixel, linear: the tone curve of a whole image is quicker vectorised, in torch."""
    p = segment_at(image, wp.tid() + first)
    for _step in range(wp.min(_TILE, image.width - p.x)):
        light_pixel(scene, image, lists, p, shadow_samples)
        p.x += 1


@wp.func
def another_surface(image: Image, one: int, two: int):
    """Whether two pixels show different surfaces, or the same one at a clearly different angle."""
    if image.index[one] != image.index[two] or image.solid[one] != image.solid[two]:
        return True
    return image.index[one] >= 0 and wp.dot(image.normal[one], image.normal[two]) < 0.6


@wp.func
def smooth_pixel(scene: Scene, image: Image, lists: Lists, p: Pixel, offsets: wp.array(dtype=wp.vec2)):
    """Average more colour samples into a pixel, if it lies at an edge."""
    place = place_of(image, p)
    edge = bool(False)
    if p.x > 0:
        edge = edge or another_surface(image, place, place - 1)
    if p.x < image.width - 1:
        edge = edge or another_surface(image, place, place + 1)
    if p.y > 0:
        edge = edge or another_surface(image, place, place - image.width)
    if p.y < image.height - 1:
        edge = edge or another_surface(image, place, place + image.width)
    if not edge:
        return
    where = scene.places[p.b]
    view = scene.views[p.b, p.s]
    casters = row_of(lists.casters, p.b, where.casters)
    total = wp.vec3(0.0, 0.0, 0.0)
    for sample in range(offsets.shape[0]):
        x = float(p.x) + 0.5 + offsets[sample][0]
        y = float(p.y) + 0.5 + offsets[sample][1]
        direction = ray_through(scene, image, p, x, y)
        surface = meet(scene, p.b, row_of(lists.seen, p.tile, lists.seen_many[p.tile]), view.eye, direction)
        linear = wp.vec3(0.0, 0.0, 0.0)
        if surface.depth >= HORIZON:
            linear = sky(where, direction)
        else:
            color = color_by(scene, p.b, casters, surface, direction, view.pixel)
            if where.clear == 0:
                linear = wp.cw_mul(color.albedo, color.shading) + color.gloss
            else:
                all = row_of(lists.all, p.b, where.bodies)
                linear = follow(scene, p.b, all, casters, surface, color, direction, view.pixel)
        total += tone_curve(where.exposure * linear)
    pixels = image.height * image.width
    for channel in range(3):
        here = (p.view * 3 + channel) * pixels + p.y * image.width + p.x
        image.rgb[here] = (image.rgb[here] + total[channel]) / float(offsets.shape[0] + 1)


@wp.kernel
def smooth_edges(scene: Scene, image: Image, lists: Lists, first: int, offsets: wp.array(dtype=wp.vec2)):
    """Average more colour samples into the pixels at edges."""
    p = segment_at(image, wp.tid() + first)
    for _step in range(wp.min(_TILE, image.width - p.x)):
        smooth_pixel(scene, image, lists, p, offsets)
        p.x += 1

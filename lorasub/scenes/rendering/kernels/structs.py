"""Records that the kernels read, and the constants that they share with the code around them.

There are few arrays of wide records instead of many arrays of numbers, because a kernel hands the scene from function
to function by value.
"""

import warp as wp

from lorasub.scenes.description import LightKind

#: Longer than any distance in a scene; the depth of a ray that hits nothing.
FAR = wp.constant(1e4)
#: Open ground ends here, in world units.
HORIZON = wp.constant(60.0)
#: Rays that leave a surface start this far from it.
BIAS = wp.constant(2e-3)
#: Shadow rays toward a directional light end here.
SUN_DISTANCE = wp.constant(20.0)
DIRECTIONAL = wp.constant(int(LightKind.DIRECTIONAL))


@wp.struct
class Body:
    """A solid in the cube [-1, 1]^3 of its own frame, see :class:`lorasub.scenes.description.Primitive`.

    ``to_local`` takes world directions into that frame, ``size`` holds its half extents in the world. ``quadric`` is
    (a, c, e, f) of ``a (x^2 + y^2) + c z^2 + e z + f <= 0``; it is not used for bodies that are marched.
    """

    to_local: wp.mat33
    center: wp.vec3
    size: wp.vec3
    quadric: wp.vec4
    shape: wp.vec4
    kind: wp.int32
    surface: wp.int32


@wp.struct
class Material:
    """A surface's material: see :class:`lorasub.scenes.description.Materials`."""

    colors: wp.mat33
    phase: wp.vec3
    pattern: wp.int32
    image: wp.int32
    scale: wp.float32
    warp: wp.float32
    roughness: wp.float32
    specular: wp.float32
    refraction: wp.float32


@wp.struct
class Light:
    """A light: see :class:`lorasub.scenes.description.Lights`."""

    position: wp.vec3
    color: wp.vec3
    radius: wp.float32
    kind: wp.int32


@wp.struct
class Environment:
    """The room, the sky and the exposure of a scene, and how many of its bodies matter."""

    room: wp.vec3
    zenith: wp.vec3
    horizon: wp.vec3
    exposure: wp.float32
    open: wp.int32
    body_count: wp.int32
    shadow_caster_count: wp.int32
    clear: wp.int32  # whether any material is transparent


@wp.struct
class Camera:
    """A camera: world from camera, its centre, and the size of a pixel at depth 1."""

    world_from_cam: wp.mat33
    center: wp.vec3
    pixel: wp.float32


@wp.struct
class Scene:
    """B scenes with at most K bodies, M materials, L lights and S cameras each."""

    environments: wp.array(dtype=Environment)  # [B]
    balls: wp.array2d(dtype=wp.vec4)  # [B, K] centre and radius of a ball around each body
    bodies: wp.array2d(dtype=Body)  # [B, K]
    materials: wp.array2d(dtype=Material)  # [B, M]
    lights: wp.array2d(dtype=Light)  # [B, L]
    cameras: wp.array2d(dtype=Camera)  # [B, S]
    texels: wp.array3d(dtype=wp.float32)  # [3, I, N], see lorasub.scenes.images.ImageAtlas


@wp.struct
class BodyList:
    """The bodies that a ray may hit: the first ``count`` numbers in a row of a table."""

    numbers: wp.array2d(dtype=wp.uint8)
    row: wp.int32
    count: wp.int32

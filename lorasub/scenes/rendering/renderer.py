"""Renders described scenes: colour, and everything that is known exactly about each pixel.

Warp runs the kernels over all pixels, on all of torch's threads or on a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from torch import Tensor

from lorasub.scenes.color import tone_curve_
from lorasub.scenes.description import SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.rendering.kernels import passes
from lorasub.scenes.rendering.upload import UploadedScenes, upload
from lorasub.structures import SceneBatch

_logger = logging.getLogger(__name__)
#: Where in the pixel the further colour samples of edge pixels lie, (x, y) from its centre, which is a sample too.
_EDGE_SAMPLES = ((-0.3, -0.15), (0.3, 0.15))
# Pieces that the work is cut into on the CPU, for each thread: so one with many objects holds nobody up.
_PIECES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Rendered layers of B scenes, S views, H x W pixels.

    All but the colour is that of the pixel's centre.

    Attributes:
        rgb: ``[B, S, 3, H, W]`` sRGB in [0, 1], in the 256 steps of an 8-bit image.
        depth: ``[B, S, H, W]`` z-depth, 0 where nothing is hit.
        valid: ``[B, S, H, W]`` bool, whether a surface is hit.
        normals: ``[B, S, H, W, 3]`` unit, in the world, toward the camera; 0 where nothing is hit.
        world_points: ``[B, S, H, W, 3]``, 0 where nothing is hit.
        object_id: ``[B, S, H, W]`` int32: -1 sky, 0 floor, 1 walls, 2 ceiling, 3 and up the objects.
        albedo: ``[B, S, 3, H, W]`` linear RGB.
        shading: ``[B, S, 3, H, W]`` linear RGB of the diffuse light. The colour is ``albedo * shading`` plus
            highlights, then exposure and tone curve.
        intrinsics: ``[B, S, 3, 3]`` in pixels.
        cam_from_world: ``[B, S, 3, 4]``.
    """

    rgb: Tensor
    depth: Tensor
    valid: Tensor
    normals: Tensor
    world_points: Tensor
    object_id: Tensor
    albedo: Tensor
    shading: Tensor
    intrinsics: Tensor
    cam_from_world: Tensor

    def to_batch(self, scene_ids: tuple[str, ...]) -> SceneBatch:
        """Returns a batch of scenes in world units; views are named by their number."""
        scenes, views = self.depth.shape[:2]
        device = self.depth.device
        return SceneBatch(
            images=self.rgb,
            intrinsics=self.intrinsics,
            cam_from_world=self.cam_from_world,
            pose_valid=torch.ones(scenes, views, dtype=torch.bool, device=device),
            depth=self.depth,
            valid=self.valid,
            world_points=self.world_points,
            scale=torch.ones(scenes, device=device),
            metric=torch.zeros(scenes, dtype=torch.bool, device=device),
            scene_ids=scene_ids,
            frame_ids=tuple(tuple(f"{view:02d}" for view in range(views)) for _ in range(scenes)),
        )


class Renderer:
    """Renders scene descriptions on the device where they are.

    A ray caster: one program per pixel, compiled by NVIDIA Warp for the CPU or a GPU. The first use on a machine
    compiles for some twenty seconds and is remembered; it needs no network.

    Args:
        image_size: (H, W) in pixels.
        antialias: take more colour samples where two surfaces meet within a pixel.
        shadow_samples: shadow rays toward each soft light.
        images: the pictures that surfaces may show, see :func:`~lorasub.scenes.pictures.scene_images`.

    Examples:
        >>> from lorasub.scenes.presets import SceneSampler
        >>> scenes = SceneSampler(attribute="all", num_views=2).sample([0])
        >>> Renderer((28, 42)).render(scenes).depth.shape
        torch.Size([1, 2, 28, 42])
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        antialias: bool = True,
        shadow_samples: int = 4,
        images: ImageAtlas | None = None,
    ) -> None:
        self.image_size = image_size
        self.antialias = antialias
        self.shadow_samples = shadow_samples
        self.images = images

    @torch.no_grad()
    def render(self, scenes: SceneDescription) -> Layers:
        """Render every view of every scene.

        Raises:
            ConfigError: a surface shows a picture that ``images`` does not have, or a scene has too many bodies.
        """
        if self.images is not None:
            self.images = self.images.to(scenes.cameras.fov.device)
        found = _trace(
            scenes, self.image_size, self.images, self.shadow_samples, _EDGE_SAMPLES if self.antialias else ()
        )
        return Layers(
            rgb=found["rgb"].mul_(255.0).round_().div_(255.0),
            depth=found["depth"],
            valid=found["surface"] >= 0,
            normals=found["normal"],
            world_points=found["point"],
            object_id=found["surface"],
            albedo=found["albedo"],
            shading=found["shading"],
            intrinsics=scenes.cameras.intrinsics(self.image_size),
            cam_from_world=scenes.cameras.cam_from_world,
        )


def _trace(
    scenes: SceneDescription,
    image_size: tuple[int, int],
    images: ImageAtlas | None,
    shadow_samples: int,
    edge_samples: tuple[tuple[float, float], ...],
) -> dict[str, Tensor]:
    """Trace the rays through all pixels of all views; the result's names are those of ``passes.Framebuffer``.

    Every tensor is ``[B, S, ...]`` with the axes of an image behind: ``rgb``, ``albedo`` and ``shading`` have the
    channels first, ``normal`` and ``point`` have x, y, z last. Surface and body are -1 where nothing is hit, which the
    room is not: it has the body -1 as well.
    """
    start_warp()
    height, width = image_size
    front, device = (len(scenes), scenes.num_views), scenes.cameras.fov.device
    shapes = {
        **dict.fromkeys(("rgb", "albedo", "shading"), (3, height, width)),
        **dict.fromkeys(("normal", "point"), (height, width, 3)),
        **dict.fromkeys(("depth", "surface", "body"), (height, width)),
    }
    buffers = {
        name: torch.empty(
            *front, *shape, dtype=torch.int32 if name in ("surface", "body") else torch.float32, device=device
        )
        for name, shape in shapes.items()
    }
    _Launch(upload(scenes, image_size, images), buffers).run(shadow_samples, edge_samples)
    return buffers


def _framebuffer(buffers: Mapping[str, Tensor]) -> Any:
    """Returns the buffers' memory as the kernels see it."""
    frame: Any = passes.Framebuffer()  # mypy takes its fields for Warp's own number types
    frame.views, frame.height, frame.width = buffers["depth"].shape[1:]
    for name, values in buffers.items():
        vectors = name in ("normal", "point")
        flat = wp.from_torch(values.view(-1, 3), dtype=wp.vec3) if vectors else wp.from_torch(values.view(-1))
        setattr(frame, name, flat)
    return frame


class _Launch:
    """The kernels over one batch of scenes; work is counted in rows of tiles, over all views."""

    def __init__(self, uploaded: UploadedScenes, buffers: Mapping[str, Tensor]) -> None:
        self.uploaded = uploaded
        self.rgb, self.device = buffers["rgb"], buffers["rgb"].device
        self.frame = _framebuffer(buffers)
        scenes, views, self.height, width = buffers["depth"].shape
        self.columns, self.rows_per_view = -(-width // passes.TILE), -(-self.height // passes.TILE)
        self.rows = scenes * views * self.rows_per_view
        self.lights = uploaded.scene.lights.shape[1]
        self.lists = passes.CullLists()
        tiles, most = self.rows * self.columns, uploaded.bodies.shape[1]
        self._lists_memory = {
            "all_bodies": uploaded.bodies,
            "shadow_casters": uploaded.shadow_casters,
            "tile_bodies": torch.empty(tiles, most, dtype=torch.uint8, device=self.device),
            "tile_body_counts": torch.empty(tiles, dtype=torch.int32, device=self.device),
            "tile_occluders": torch.empty(tiles * self.lights, most, dtype=torch.uint8, device=self.device),
            "tile_occluder_counts": torch.empty(tiles * self.lights, dtype=torch.int32, device=self.device),
        }
        for name, values in self._lists_memory.items():
            setattr(self.lists, name, wp.from_torch(values))

    def run(self, shadow_samples: int, edge_samples: tuple[tuple[float, float], ...]) -> None:
        """Fill the buffers."""

        def shade(first: int, last: int) -> None:
            self._launch(passes.cull_bodies, first * self.columns, last * self.columns)
            self._launch(passes.trace_primary, self._segment(first), self._segment(last))
            each = self.columns * self.lights
            self._launch(passes.cull_shadow_casters, first * each, last * each)
            self._launch(passes.shade, self._segment(first), self._segment(last), shadow_samples)

        _spread(shade, self.rows, self.device)
        tone_curve_(self.rgb)
        if not edge_samples:
            return
        places = torch.tensor(edge_samples, device=self.device)
        offsets = wp.from_torch(places, dtype=wp.vec2)

        def antialias(first: int, last: int) -> None:
            self._launch(passes.antialias_edges, self._segment(first), self._segment(last), offsets)

        _spread(antialias, self.rows, self.device)

    def _launch(self, kernel: Any, first: int, last: int, *more: Any) -> None:
        inputs = [self.uploaded.scene, self.frame, self.lists, first, *more]
        device = wp.device_from_torch(self.device)
        wp.launch(kernel, dim=last - first, inputs=inputs, device=device, record_tape=False)

    def _segment(self, row: int) -> int:
        """The first row of pixels, within one tile, of a row of tiles."""
        view, below = divmod(row, self.rows_per_view)
        return (view * self.height + below * passes.TILE) * self.columns


def _spread(work: Callable[[int, int], None], rows: int, device: torch.device) -> None:
    """Work through all rows of tiles: in pieces, from a first row up to a last one, on all of torch's threads."""
    if device.type == "cuda":
        with wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(device))):  # type: ignore[no-untyped-call]
            work(0, rows)
        return
    wp.load_module(passes, device=wp.device_from_torch(device))  # once, and not in every thread
    threads = torch.get_num_threads()
    if threads == 1:
        work(0, rows)
        return
    size = max(1, -(-rows // (_PIECES * threads)))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first: work(first, min(first + size, rows)), range(0, rows, size)))


@functools.cache
def start_warp() -> None:
    """Start Warp without its banner, and say what takes so long the first time."""
    wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
    with contextlib.nullcontext() if torch.cuda.is_available() else _without_driver_warning():
        wp.init()  # type: ignore[no-untyped-call]
    _logger.info("scenes are rendered by Warp %s; the first use on a machine compiles for some seconds", wp.__version__)


@contextlib.contextmanager
def _without_driver_warning() -> Iterator[None]:
    """Leave out Warp's line about a missing CUDA driver, which its C library prints past every setting.

    Whatever else goes to the standard error of the process meanwhile is printed afterwards.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            others = [line for line in said.readlines() if b"NVIDIA CUDA driver" not in line]
            os.write(2, b"".join(others))

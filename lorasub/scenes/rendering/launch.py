"""Starts Warp and runs the kernels over all pixels, on all of torch's threads or on a GPU."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
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

_logger = logging.getLogger(__name__)
# Pieces that the work is cut into on the CPU, for each thread: so one with many objects holds nobody up.
_PIECES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RayHits:
    """The first hits of the rays through all pixel centres, and their colour.

    Attributes:
        rgb: ``[B, S, 3, H, W]`` sRGB in [0, 1]; the other fields are those of the pixel's centre.
        albedo: ``[B, S, 3, H, W]`` linear RGB.
        shading: ``[B, S, 3, H, W]`` linear RGB of the diffuse light.
        depth: ``[B, S, H, W]`` z-depth, 0 where nothing is hit.
        normal: ``[B, S, H, W, 3]`` unit, in the world; 0 where nothing is hit.
        point: ``[B, S, H, W, 3]`` in the world; 0 where nothing is hit.
        surface: ``[B, S, H, W]`` int32 material, -1 where nothing is hit.
        body: ``[B, S, H, W]`` int32 number of the body, -1 for the room and where nothing is hit.
    """

    rgb: Tensor
    albedo: Tensor
    shading: Tensor
    depth: Tensor
    normal: Tensor
    point: Tensor
    surface: Tensor
    body: Tensor

    @classmethod
    def empty(cls, scenes: int, views: int, image_size: tuple[int, int], device: torch.device) -> RayHits:
        """Memory for the hits, not yet written."""

        def floats(*front: int, back: tuple[int, ...] = ()) -> Tensor:
            return torch.empty(scenes, views, *front, *image_size, *back, device=device)

        def integers() -> Tensor:
            return torch.empty(scenes, views, *image_size, dtype=torch.int32, device=device)

        return cls(
            rgb=floats(3),
            albedo=floats(3),
            shading=floats(3),
            depth=floats(),
            normal=floats(back=(3,)),
            point=floats(back=(3,)),
            surface=integers(),
            body=integers(),
        )

    def framebuffer(self) -> Any:
        """The same memory as the kernels see it."""
        frame: Any = passes.Framebuffer()  # mypy takes its fields for Warp's own number types
        frame.views, frame.height, frame.width = self.depth.shape[1:]
        for name in ("rgb", "albedo", "shading", "depth", "surface", "body"):
            setattr(frame, name, wp.from_torch(getattr(self, name).view(-1)))
        for name in ("normal", "point"):
            setattr(frame, name, wp.from_torch(getattr(self, name).view(-1, 3), dtype=wp.vec3))
        return frame


def trace(
    scenes: SceneDescription,
    image_size: tuple[int, int],
    *,
    shadow_samples: int,
    edge_samples: tuple[tuple[float, float], ...] = (),
    images: ImageAtlas | None = None,
) -> RayHits:
    """Trace the rays through all pixels of all views.

    Args:
        scenes: B scenes with S views, all on one device.
        image_size: (H, W).
        shadow_samples: shadow rays toward each soft light.
        edge_samples: further places in edge pixels where the colour is sampled, (x, y) from the centre in pixels.
        images: the pictures that surfaces may show.

    Raises:
        ConfigError: too many bodies in a scene, or a picture that ``images`` does not have.
    """
    start_warp()
    device = scenes.cameras.fov.device
    uploaded = upload(scenes, image_size, images)
    hits = RayHits.empty(len(scenes), scenes.num_views, image_size, device)
    _Launch(uploaded, hits, device).run(shadow_samples, edge_samples)
    return hits


class _Launch:
    """The kernels over one batch of scenes; work is counted in rows of tiles, over all views."""

    def __init__(self, uploaded: UploadedScenes, hits: RayHits, device: torch.device) -> None:
        self.uploaded = uploaded
        self.hits = hits
        self.device = device
        self.frame = hits.framebuffer()
        scenes, views, self.height, width = hits.depth.shape
        self.columns, self.rows_per_view = -(-width // passes.TILE), -(-self.height // passes.TILE)
        self.rows = scenes * views * self.rows_per_view
        self.lights = uploaded.scene.lights.shape[1]
        self.lists = passes.CullLists()
        tiles, most = self.rows * self.columns, uploaded.bodies.shape[1]
        self._lists_memory = {
            "all_bodies": uploaded.bodies,
            "shadow_casters": uploaded.shadow_casters,
            "tile_bodies": torch.empty(tiles, most, dtype=torch.uint8, device=device),
            "tile_body_counts": torch.empty(tiles, dtype=torch.int32, device=device),
            "tile_occluders": torch.empty(tiles * self.lights, most, dtype=torch.uint8, device=device),
            "tile_occluder_counts": torch.empty(tiles * self.lights, dtype=torch.int32, device=device),
        }
        for name, values in self._lists_memory.items():
            setattr(self.lists, name, wp.from_torch(values))

    def run(self, shadow_samples: int, edge_samples: tuple[tuple[float, float], ...]) -> None:
        """Fill the hits in."""

        def shade(first: int, last: int) -> None:
            self._launch(passes.cull_bodies, first * self.columns, last * self.columns)
            self._launch(passes.trace_primary, self._segment(first), self._segment(last))
            each = self.columns * self.lights
            self._launch(passes.cull_shadow_casters, first * each, last * each)
            self._launch(passes.shade, self._segment(first), self._segment(last), shadow_samples)

        _spread(shade, self.rows, self.device)
        tone_curve_(self.hits.rgb)
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

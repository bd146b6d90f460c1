"""Runs the fused program over all pixels, on all of torch's threads or on a GPU."""

import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import warp as wp
from torch import Tensor

from lorasub.scenes.description import SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.rendering.fused.pixels import (
    TILE,
    Image,
    Lists,
    gather_bodies,
    gather_casters,
    light,
    look,
    smooth_edges,
)
from lorasub.scenes.rendering.fused.scene import prepare
from lorasub.scenes.rendering.kernels import tone_curve_

_logger = logging.getLogger(__name__)
# Pieces that the work is cut into on the CPU, for each thread: so one with many objects holds nobody up.
_PIECES = 8


def render(
    scenes: SceneDescription,
    image_size: tuple[int, int],
    shadow_samples: int,
    edge_samples: tuple[tuple[float, float], ...],
    images: ImageAtlas | None,
) -> dict[str, Tensor]:
    """The layers of every view as tensors ``[B, S, ...]``, by name.

    Args:
        scenes: B scenes with S views on one device.
        image_size: (H, W).
        shadow_samples: shadow rays toward each soft light.
        edge_samples: further places in edge pixels, (x, y) from the centre; none for no smoothing.
        images: the pictures that surfaces may show.
    """
    _start()
    device = scenes.cameras.fov.device
    scene, every, casters, kept = prepare(scenes, image_size, images)
    height, width = image_size
    columns, rows = -(-width // TILE), -(-height // TILE)
    lamps = scene.lamps.shape[1]
    views = len(scenes) * scenes.num_views
    tiles = views * rows * columns
    image, layers = _image((len(scenes), scenes.num_views), image_size, device)
    lists = Lists()
    for name, values in (
        ("all", every),
        ("casters", casters),
        ("seen", torch.empty(tiles, every.shape[1], dtype=torch.uint8, device=device)),
        ("between", torch.empty(tiles * lamps, every.shape[1], dtype=torch.uint8, device=device)),
        ("seen_many", torch.empty(tiles, dtype=torch.int32, device=device)),
        ("between_many", torch.empty(tiles * lamps, dtype=torch.int32, device=device)),
    ):
        kept.append(values)
        setattr(lists, name, wp.from_torch(values))
    where = wp.device_from_torch(device)

    def launch(program: Any, first: int, last: int, *more: Any) -> None:
        inputs = [scene, image, lists, first, *more]
        wp.launch(program, dim=last - first, inputs=inputs, device=where, record_tape=False)

    def segment(row: int) -> int:
        """The first segment of a row of tiles, counted over all views."""
        view, below = divmod(row, rows)
        return (view * height + below * TILE) * columns

    def trace(first: int, last: int) -> None:
        launch(gather_bodies, first * columns, last * columns)
        launch(look, segment(first), segment(last))
        launch(gather_casters, first * columns * lamps, last * columns * lamps)
        launch(light, segment(first), segment(last), shadow_samples)

    _spread(trace, views * rows, device)
    tone_curve_(layers["rgb"])
    if edge_samples:
        kept.append(torch.tensor(edge_samples, device=device))
        offsets = wp.from_torch(kept[-1], dtype=wp.vec2)
        _spread(lambda first, last: launch(smooth_edges, segment(first), segment(last), offsets), views * rows, device)
    return layers


@functools.cache
def _start() -> None:
    """Start Warp without its banner, and say what takes so long the first time."""
    wp.config.quiet = True
    wp.config.log_level = max(wp.config.log_level, logging.WARNING)
    wp.init()
    _logger.info("scenes are rendered by Warp %s; the first use on a machine compiles for some seconds", wp.__version__)


def _image(
    front: tuple[int, int], image_size: tuple[int, int], device: torch.device
) -> tuple[Image, dict[str, Tensor]]:
    image, layers = Image(), {}
    image.height, image.width = image_size
    image.views = front[1]
    for name, shape, dtype in (
        ("rgb", (3, *image_size), wp.float32),
        ("albedo", (3, *image_size), wp.float32),
        ("shading", (3, *image_size), wp.float32),
        ("depth", image_size, wp.float32),
        ("normal", (*image_size, 3), wp.vec3),
        ("point", (*image_size, 3), wp.vec3),
        ("index", image_size, wp.int32),
        ("solid", image_size, wp.int32),
    ):
        kind = torch.int32 if dtype is wp.int32 else torch.float32
        layers[name] = torch.empty(*front, *shape, dtype=kind, device=device)
        flat = layers[name].view(-1, 3) if dtype is wp.vec3 else layers[name].view(-1)
        setattr(image, name, wp.from_torch(flat, dtype=dtype))
    return image, layers


def _spread(work: Callable[[int, int], None], rows: int, device: torch.device) -> None:
    """Work through all rows of tiles: in pieces, from a first row up to a last one, on all of torch's threads."""
    if device.type == "cuda":
        with wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(device))):
            work(0, rows)
        return
    wp.load_module("lorasub.scenes.rendering.fused.pixels", device=wp.device_from_torch(device))  # not by every thread
    threads = torch.get_num_threads()
    if threads == 1:
        work(0, rows)
        return
    size = max(1, -(-rows // (_PIECES * threads)))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first: work(first, min(first + size, rows)), range(0, rows, size)))

"""``view``: images, cameras and points of captures and predictions, in a browser (viser)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorasub.cli.arguments import show, verb_parser
from lorasub.data.decoding import View, frame_size, load_view
from lorasub.data.frames import Capture, Frame
from lorasub.data.readers.discovery import find_captures
from lorasub.data.real_scenes import scene_from_views
from lorasub.errors import ConfigError
from lorasub.exports import PointCloud, point_cloud_from_depth, read_ply
from lorasub.exports.point_cloud import frustum_size
from lorasub.files import atomic_path
from lorasub.geometry import invert_pose, matrix_to_quaternion

#: Points that ``predict`` writes beside its cameras; shown where the views have no depth of their own.
POINTS_FILE = "points.ply"
#: Size of a drawn point, relative to that of a drawn camera.
POINT_SIZE = 0.04


def run(arguments: Sequence[str]) -> None:
    """Run ``view``."""
    does = "Show images, cameras and points of captures, or of what predict wrote, in a browser."
    parser = verb_parser("view", does, "lorasub view path/to/capture")
    parser.add_argument("path", type=str, help="folder of captures, or of predictions")
    parser.add_argument("--format", type=str, default="auto", help="name of a format, or auto")
    parser.add_argument("--max_views", type=int, default=40, help="so many frames of each capture, evenly spaced")
    parser.add_argument("--max_points", type=int, default=300_000, help="so many points of each capture")
    parser.add_argument("--size", type=int, default=224, help="longer side of the images that are shown")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="0.0.0.0 lets other machines look, too")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--save", type=str, default=None, help="write a recording to this .viser file, and end")
    parsed = parser.parse_args(list(arguments))
    for name in ("max_views", "max_points", "size"):
        if parsed[name] < 1:
            raise ConfigError(f"--{name} must be at least 1, got {parsed[name]}")
    captures = find_captures(parsed.path, parsed.format)
    server = _start(parsed.host, parsed.port)
    try:
        shown = [
            add_capture(server, capture, parsed.max_views, parsed.max_points, parsed.size, visible=index == 0)
            for index, capture in enumerate(captures)
        ]
        if parsed.save:
            recording: bytes = server.get_scene_serializer().serialize()
            with atomic_path(parsed.save) as temporary:
                temporary.write_bytes(recording)
        where = parsed.save or f"http://{parsed.host}:{server.get_port()}"
        text = "\n".join(f"{row['capture']}: {row['views']} views, {row['points']} points" for row in shown)
        if len(captures) > 1 and not parsed.save:
            text += "\nthe first is visible; the others are switched on in the list of nodes"
        show({"captures": shown, "shown": where}, f"{text}\n{where}", as_json=parsed.json)
        if not parsed.save:
            server.sleep_forever()
    finally:
        server.stop()


def add_capture(
    server: Any, capture: Capture, max_views: int, max_points: int, size: int, *, visible: bool = True
) -> dict[str, Any]:
    """Add a capture to a viser server: a frustum with its image for each posed view, and the points.

    Args:
        server: a ``viser.ViserServer``.
        capture: what to show.
        max_views: at most so many frames, evenly spaced.
        max_points: at most so many points.
        size: longer side of the images.
        visible: whether it is switched on.

    Returns:
        Its name, and how many views and points were added.
    """
    chosen = [capture.frames[i * len(capture) // max_views] for i in range(max_views)]
    views = [_load(frame, size) for frame in (chosen if len(capture) > max_views else capture.frames)]
    posed = [(view, view.cam_from_world) for view in views if view.cam_from_world is not None]
    node = "/" + capture.name.strip("/")
    server.scene.add_frame(node, show_axes=False, visible=visible)
    cloud = _points(capture, [view for view, _ in posed], max_points)
    scale = 0.1
    if posed:
        poses = np.stack([pose.numpy() for _, pose in posed])
        server.scene.set_up_direction(-poses[:, 1, :3].mean(0))
        scale = _camera_scale(cloud, poses)
    for view, pose in posed:
        _add_camera(server, f"{node}/cameras/{view.name}", view, pose, scale)
    for view in views:
        if view.cam_from_world is None:  # it has no place in the world
            server.gui.add_image(view.image.permute(1, 2, 0).numpy(), label=view.name)
    if cloud is not None:
        server.scene.add_point_cloud(
            f"{node}/points",
            cloud.points.numpy(),
            cloud.colors.numpy(),
            point_size=POINT_SIZE * scale,
            precision="float32",  # worlds can be far from their origin
        )
    return {"capture": capture.name, "views": len(views), "points": 0 if cloud is None else len(cloud)}


def _start(host: str, port: int) -> Any:
    try:
        import viser
    except ModuleNotFoundError as error:
        raise ConfigError("`lorasub view` needs the package viser: pip install 'lorasub[view]'") from error
    return viser.ViserServer(host=host, port=port, label="lorasub", verbose=False)


def _load(frame: Frame, longer_side: int) -> View:
    width, height = frame_size(frame)
    factor = min(longer_side / max(width, height), 1.0)
    return load_view(frame, (max(round(height * factor), 1), max(round(width * factor), 1)), crop="center")


def _points(capture: Capture, posed: Sequence[View], max_points: int) -> PointCloud | None:
    seen = [view for view in posed if bool((view.depth > 0).any())]
    if not seen:
        path = capture.root / POINTS_FILE
        return _thinned(read_ply(path), max_points) if path.is_file() else None
    clouds = []
    for view in seen:  # one by one, since their sizes may differ
        batch = scene_from_views([view], scene_id=view.name, metric=capture.metric)
        clouds.append(
            point_cloud_from_depth(
                batch.images[0],
                batch.depth[0],
                batch.intrinsics[0],
                batch.cam_from_world[0],
                max_points=max(max_points // len(seen), 1),
            )
        )
    return PointCloud(torch.cat([cloud.points for cloud in clouds]), torch.cat([cloud.colors for cloud in clouds]))


def _thinned(cloud: PointCloud, max_points: int) -> PointCloud:
    step = -(-len(cloud) // max_points)
    return PointCloud(cloud.points[::step], cloud.colors[::step])


def _camera_scale(cloud: PointCloud | None, poses: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Length of a drawn camera: by the distance of what it looks at, or else by how far cameras are apart."""
    if cloud is not None and len(cloud):
        return frustum_size(cloud.points, torch.from_numpy(poses))
    centers = invert_pose(torch.from_numpy(poses))[:, :, 3]
    return 0.1 * float((centers - centers.mean(0)).norm(dim=-1).median()) or 0.1


def _add_camera(server: Any, name: str, view: View, cam_from_world: Tensor, scale: float) -> None:
    world_from_cam = invert_pose(cam_from_world)
    height, width = view.image.shape[-2:]
    server.scene.add_camera_frustum(
        name,
        fov=2 * math.atan(height / 2 / float(view.intrinsics[1, 1])),
        aspect=width / height,
        scale=scale,
        thickness=0.02 * scale,
        image=view.image.permute(1, 2, 0).numpy(),
        wxyz=matrix_to_quaternion(world_from_cam[:, :3]).roll(1, dims=-1).numpy(),
        position=world_from_cam[:, 3].numpy(),
    )

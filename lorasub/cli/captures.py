"""``data check``: was this capture read right?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lorasub.cli.arguments import progress, show, verb_parser
from lorasub.data.check import CaptureReport, Interpretation, check_capture
from lorasub.data.check.capture import steps
from lorasub.data.check.hypotheses import AS_READ
from lorasub.data.check.observations import Observations
from lorasub.data.check.residuals import DepthPairs, MatchedPairs, cameras_of
from lorasub.data.decoding import View
from lorasub.data.readers.base import Reader
from lorasub.data.readers.discovery import find_captures
from lorasub.data.real_scenes import scene_from_views
from lorasub.errors import ConfigError, DataError
from lorasub.exports import point_cloud_from_depth
from lorasub.figures.captures import Agreement, ShownView, capture_figure
from lorasub.figures.point_clouds import CloudView, point_cloud_panels
from lorasub.figures.style import save_figure

#: Views and pairs in the picture.
SHOWN = 4
SHOWN_PIXELS = 3000
#: Top of the scale of errors: relative depth, and pixels.
LARGEST_DEPTH, LARGEST_PIXELS = 0.25, 10.0


def run(arguments: Sequence[str]) -> None:
    """Run ``data check``."""
    if not arguments or arguments[0] not in ("check", "-h", "--help"):
        raise ConfigError(f"there is 'lorasub data check PATH', not 'lorasub data {' '.join(arguments[:1])}'")
    does = (
        "Read a capture and judge what it claims: poses, axes, focal length, principal point, unit, that images belong "
        "to their poses, that depth is registered to colour. Each claim comes out as proved, contradicted (exit code "
        "1) or not provable from these frames."
    )
    parser = verb_parser("data check", does, "lorasub data check path/to/capture --out check")
    parser.add_argument("path", type=str, help="folder of the capture, or of several")
    parser.add_argument(
        "--format",
        type=Reader | str,
        default="auto",
        help="name of a format, or auto; or a reader with options: --format.class_path my_module.MyReader "
        "--format.init_args.OPTION VALUE",
    )
    parser.add_argument("--out", type=str, default=None, help="folder for pictures of each capture")
    parsed = parser.instantiate(parser.parse_args(list(arguments[arguments[0] == "check" :])))
    reports: list[CaptureReport] = []
    unreadable: list[str] = []
    for capture in find_captures(parsed.path, parsed.format, lambda _, error: unreadable.append(str(error))):
        with progress(unit="step", total=steps(capture), desc=capture.name[-30:]) as bar:
            reports.append(check_capture(capture, on_step=bar.update))
        if parsed.out:
            draw(reports[-1], Path(parsed.out))
    if unreadable and not reports:
        raise DataError("\n".join(unreadable))
    text = "\n\n".join([*(report.words() for report in reports), *(f"CANNOT BE READ: {why}" for why in unreadable)])
    result = {"captures": [report.to_dict() for report in reports], "unreadable": unreadable}
    show(result, text, as_json=parsed.json)
    if bad := [report.name for report in reports if not report.ok]:
        raise DataError(f"{len(bad)} of {len(reports)} captures have problems: {', '.join(bad)}")
    if unreadable:
        raise DataError(f"{len(unreadable)} captures cannot be read")


def draw(report: CaptureReport, folder: Path) -> list[Path]:
    """Draw the evidence of a report.

    Args:
        report: of one capture.
        folder: where the pictures go.

    Returns:
        The files: ``NAME.png`` with images, depth and how views agree, as read and (if another interpretation fits
        better) under that; ``NAME_cameras.png`` with cameras and points from above and from the side.
    """
    seen = report.observations
    if seen is None or not seen.views:
        return []
    name = re.sub(r"[^\w.-]+", "_", report.name)
    views = [seen.views[i * len(seen.views) // SHOWN] for i in range(min(SHOWN, len(seen.views)))]
    shown = [ShownView(name=view.name, image=view.image.float() / 255, depth=view.depth) for view in views]
    by_depth = len(seen.depth_pairs) > 0 and not seen.sparse
    # another depth camera moves no camera: there is no second row to draw
    moved = report.better is not None and report.better.depth_camera == AS_READ.depth_camera
    interpretations = [AS_READ, report.better] if report.better is not None and moved else [AS_READ]
    rows = [_agreements(seen, interpretation, by_depth=by_depth) for interpretation in interpretations]
    figure = capture_figure(
        f"{report.name}\n{report.summary()}",
        shown,
        [row for row in rows if row],
        error_label="relative difference in depth" if by_depth else "pixels off the epipolar line",
        largest_error=LARGEST_DEPTH if by_depth else LARGEST_PIXELS,
    )
    files = [folder / f"{name}.png"]
    save_figure(figure, files[0], dpi=130)
    if cloud := _cloud(report.name, seen.views):
        files.append(folder / f"{name}_cameras.png")
        save_figure(point_cloud_panels([cloud]), files[-1], dpi=130)
    return files


def _agreements(seen: Observations, interpretation: Interpretation, *, by_depth: bool) -> list[Agreement]:
    """Agreements of some pairs of views: by depth that is moved between them, or by matched points."""
    cameras = cameras_of(seen.views, seen.frames, seen.poses, interpretation)
    words = "" if interpretation is AS_READ else f"\nif {interpretation.words}"
    pairs: DepthPairs | MatchedPairs = seen.pairs
    if by_depth:
        shown = [(int(i), int(j)) for i, j in seen.depth_pairs.views.tolist()]
        pairs = DepthPairs.of(shown[:: max(len(shown) // SHOWN, 1)][:SHOWN], seen.views, SHOWN_PIXELS)
        places, errors = pairs.moved(cameras)
        lines = None
    else:
        places, errors, lines = seen.pairs.b, seen.pairs.epipolar(cameras), seen.pairs.epipolar_lines(cameras)[1]
    found = []
    for p in range(0, len(pairs), max(len(pairs) // SHOWN, 1)):
        a, b = (seen.views[i] for i in pairs.views[p].tolist())
        known = errors[p].isfinite()
        found.append(
            Agreement(
                title=f"{a.name[-12:]} in {b.name[-12:]}{words[:48]}",
                image=b.image.float() / 255,
                points=places[p][known],
                error=errors[p][known],
                lines=None if lines is None else lines[p][known],
            )
        )
    return found[:SHOWN]


def _cloud(name: str, views: Sequence[View]) -> CloudView | None:
    """Points and cameras of the views with poses; None where there is no depth or pose."""
    posed = [view for view in views if view.cam_from_world is not None and bool((view.depth > 0).any())]
    if not posed:
        return None
    size = posed[0].depth.shape
    batch = scene_from_views([view for view in posed if view.depth.shape == size], scene_id=name, metric=True)
    cloud = point_cloud_from_depth(batch.images[0], batch.depth[0], batch.intrinsics[0], batch.cam_from_world[0])
    return CloudView(
        title=name,
        points=cloud.points,
        colors=cloud.colors,
        cam_from_world=batch.cam_from_world[0],
        intrinsics=batch.intrinsics[0],
        image_size=(size[0], size[1]),
    )

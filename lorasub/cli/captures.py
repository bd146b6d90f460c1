"""``data check``: was this capture read right?"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lorasub.cli.arguments import show, verb_parser
from lorasub.data.check import CaptureReport, check_capture
from lorasub.data.decoding import View
from lorasub.data.epipolar import epipolar_distances, epipolar_lines
from lorasub.data.readers.discovery import find_captures
from lorasub.data.readings import Reading
from lorasub.data.real_scenes import scene_from_views
from lorasub.data.reprojection import move_depth
from lorasub.errors import ConfigError, DataError
from lorasub.exports import point_cloud_from_depth
from lorasub.figures.captures import Agreement, ShownView, capture_figure
from lorasub.figures.point_clouds import CloudView, point_cloud_panels
from lorasub.figures.saving import save_figure

#: Views and pairs in the picture.
SHOWN = 4
#: Top of the scale of errors.
LARGEST = {"reprojection": 0.25, "epipolar": 10.0, "none": 1.0}


def run(verb: str, arguments: Sequence[str]) -> None:
    """Run ``data check``."""
    if not arguments or arguments[0] not in ("check", "-h", "--help"):
        raise ConfigError(f"there is 'lorasub data check PATH', not 'lorasub data {' '.join(arguments[:1])}'")
    does = "Read a capture, and prove poses, depth unit and intrinsics by moving depth from view to view."
    parser = verb_parser("data check", does, "lorasub data check path/to/capture --out check")
    parser.add_argument("path", type=str, help="folder of the capture, or of several")
    parser.add_argument("--format", type=str, default="auto", help="name of a format, or auto")
    parser.add_argument("--out", type=str, default=None, help="folder for pictures of each capture")
    parsed = parser.parse_args(list(arguments[1:] if arguments[0] == "check" else arguments))
    reports = []
    for capture in find_captures(parsed.path, parsed.format):
        with tqdm(total=len(capture), unit="frame", leave=False, disable=not sys.stderr.isatty()) as bar:
            reports.append(check_capture(capture, on_frame=bar.update))
        if parsed.out:
            draw(reports[-1], Path(parsed.out))
    text = "\n\n".join(report.words() for report in reports)
    show({"captures": [report.as_dict() for report in reports]}, text, as_json=parsed.json)
    if bad := [report.name for report in reports if not report.ok]:
        raise DataError(f"{len(bad)} of {len(reports)} captures have problems: {', '.join(bad)}")


def draw(report: CaptureReport, folder: Path) -> list[Path]:
    """Draw the evidence of a report.

    Args:
        report: of one capture.
        folder: where the pictures go.

    Returns:
        The files: ``NAME.png`` with images, depth and how views agree, under the reading that was taken and (if another
        is better) under that; ``NAME_cameras.png`` with cameras and points from above and from the side.
    """
    evidence = report.evidence
    if not evidence.views:
        return []
    name = re.sub(r"[^\w.-]+", "_", report.name)
    views = [evidence.views[i * len(evidence.views) // SHOWN] for i in range(min(SHOWN, len(evidence.views)))]
    shown = [ShownView(name=view.name, image=view.image.float() / 255, depth=view.depth) for view in views]
    readings = [Reading()] if report.best == Reading() else [Reading(), report.best]
    rows = [_agreements(report, reading) for reading in readings] if evidence.pairs else []
    label = "relative difference in depth" if report.method == "reprojection" else "pixels from the epipolar line"
    title = f"{report.name}: {report.words().splitlines()[-1].strip()}"
    figure = capture_figure(title, shown, rows, error_label=label, largest_error=LARGEST[report.method])
    files = [folder / f"{name}.png"]
    save_figure(figure, files[0], dpi=130)
    if cloud := _cloud(report.name, evidence.views):
        files.append(folder / f"{name}_cameras.png")
        save_figure(point_cloud_panels([cloud]), files[-1], dpi=130)
    return files


def _agreements(report: CaptureReport, reading: Reading) -> list[Agreement]:
    evidence, found = report.evidence, []
    for i, j in evidence.pairs[:: max(len(evidence.pairs) // SHOWN, 1)][:SHOWN]:
        a, b = evidence.views[i], evidence.views[j]
        title = f"{a.name[-12:]} in {b.name[-12:]}"
        image = b.image.float() / 255
        if report.method == "reprojection":
            moved = move_depth(a, b, reading)
            if moved is not None:
                found.append(Agreement(title=title, image=image, points=moved.pixels, error=moved.error))
        else:
            matches = evidence.matches[i, j]
            lines, distances = epipolar_lines(a, b, matches, reading), epipolar_distances(a, b, matches, reading)
            if lines is not None and distances is not None:
                found.append(Agreement(title=title, image=image, points=matches.b, error=distances, lines=lines[1]))
    return found


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

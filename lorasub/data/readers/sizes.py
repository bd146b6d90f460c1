"""Compares the sizes of images with those of their cameras when a capture is read, on a few of its images."""

from __future__ import annotations

from collections import Counter

from lorasub.data.decoding import size_fault, stands_upright
from lorasub.data.frames import Capture, Frame
from lorasub.data.images import read_header
from lorasub.errors import DataError

#: Part of a side by which a principal point may be off the middle of an image whose camera's size is not stated.
OFF_CENTRE = 0.1
#: So many images of a capture are looked at, evenly spaced. Loading looks at each.
LOOKED_AT = 32


def notes_on_sizes(capture: Capture) -> tuple[str, ...]:
    """Notes about images whose size or orientation is not that of their camera: they say what loading will do.

    Raises:
        DataError: a camera was assumed, and an image has another size than it.
    """
    found: Counter[str] = Counter()
    with_camera = [frame for frame in capture.frames if frame.intrinsics is not None]
    step = max(len(with_camera) // LOOKED_AT, 1)
    for frame in with_camera[::step]:
        try:
            found.update([_note(frame)])
        except DataError:
            if frame.camera_assumed:
                raise
            # damage is told where the image is loaded
    return tuple(note for note in found if note)


def _note(frame: Frame) -> str:
    """The note about one image; empty if it needs none."""
    try:
        header, upright = read_header(frame.image), stands_upright(frame)
    except DataError:
        return ""
    size, stated = header.upright_size if upright else header.size, frame.camera_size
    if frame.camera_assumed and stated is not None and stated != size:
        raise DataError(f"{frame.image}: {size_fault(size, stated, assumed=True)}")
    notes = []
    if upright:
        notes.append("images are turned as their orientation tag (EXIF) says, which the camera's size asks for")
    elif header.orientation != 1:
        notes.append(
            f"images have the orientation tag {header.orientation} (EXIF) and are read as stored: the camera's size "
            + ("is that of the stored pixels" if stated is not None else "is not stated")
        )
    if stated is not None and stated != size:
        image, camera = f"{size[0]} x {size[1]}", f"{stated[0]} x {stated[1]}"
        notes.append(f"images are {image}, their cameras were calibrated at {camera}: intrinsics are scaled")
    elif stated is None and frame.intrinsics is not None:
        center = float(frame.intrinsics[0, 2]), float(frame.intrinsics[1, 2])
        if any(abs(c / side - 0.5) > OFF_CENTRE for c, side in zip(center, size, strict=True)):
            notes.append(
                f"the principal point ({center[0]:.0f}, {center[1]:.0f}) is far from the middle of images of "
                f"{size[0]} x {size[1]}: do the intrinsics belong to another resolution?"
            )
    return "; ".join(notes)

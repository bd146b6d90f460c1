"""Describes a folder that no reader recognises: files that look like geometry, and the nearest layout."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lorasub.data.depth import DEPTH_SUFFIXES
from lorasub.data.images import IMAGE_SUFFIXES
from lorasub.data.paths import files_in, is_hidden, natural_order
from lorasub.data.readers.base import Reader

#: Names of each kind are listed up to so many.
LISTED = 4
#: Files that are looked through at most; a folder of a million images must not hang.
MOST_FILES = 20_000

_TABLES = frozenset(
    {".txt", ".json", ".jsonl", ".csv", ".yaml", ".yml", ".xml", ".toml", ".ini", ".conf", ".log", ".traj", ".tum"}
    | {".npy", ".npz", ".bin", ".mat", ".h5", ".pkl", ".pt", ".jgz", ".gz", ".out", ".nvm", ".camera", ".kitti"}
)
#: A photograph is never depth; what is stored without loss may be.
_LOSSLESS = frozenset((*DEPTH_SUFFIXES, *IMAGE_SUFFIXES)) - {".jpg", ".jpeg", ".jpe", ".jfif", ".heic", ".heif", ".hif"}
_WORDS = {
    "poses": r"poses?|traj\w*|groundtruth|gt_?poses?|extrinsics?|odom\w*|cam2world|cam_to_world|c2w|w2c|rig2world|"
    r"transforms?|cameras?_(path|traj\w*)|images|slam|sfm|bundle|(?<=_)pv",
    "cameras": r"intrinsics?|calib\w*|cameras?|cams?|k|pinhole_projection|camera_params",
    "depth": r"depths?|depthmaps?|depth_?maps?|disp|disparity|disparities|zbuffer|gt_depth|lowres_depth|d(?=-\d)",
    "masks": r"masks?|segm?|segmentations?|labels?|semantics?|instances?|mattes?|normals",
}
_KINDS = {kind: re.compile(rf"(^|[^a-z])({words})([^a-z]|$)") for kind, words in _WORDS.items()}
_DATABASES = (".db", ".sqlite", ".sqlite3")
#: What people call folders of photos, too.
_OF_PHOTOS = {"images", "cameras", "camera", "cams", "cam"}

#: Layouts of other people that no reader reads: name -> patterns that give them away, and what to do.
FOREIGN: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("HoloLens (research mode recorder)", ("*_pv.txt", "*_rig2world.txt", "pinhole_projection/", "PV/"), ""),
    ("SfM benchmark (Strecha et al., fountain-P11)", ("gt_dense_cameras/", "*.camera", "*/*.camera"), ""),
    ("openMVG image data set (images and K.txt)", ("K.txt", "images/K.txt"), "reconstruct it with COLMAP"),
    ("MVSNet (DTU, BlendedMVS)", ("cams/*_cam.txt", "Cameras/*_cam.txt", "pair.txt", "cameras_sphere.npz"), ""),
    ("LLFF", ("poses_bounds.npy",), "nerfstudio and COLMAP models of it exist"),
    ("KITTI odometry", ("image_2/", "calib.txt"), ""),
    ("EuRoC", ("mav0/",), ""),
    ("Replica (iMAP, NICE-SLAM)", ("results/frame*.jpg", "traj.txt"), ""),
    ("ARKitScenes", ("lowres_wide/", "*.traj", "lowres_wide.traj"), ""),
    ("CO3D", ("frame_annotations.jgz", "*/frame_annotations.jgz"), ""),
    ("Bundler", ("bundle.out", "bundle/bundle.out", "*.nvm"), "COLMAP converts it (model_converter)"),
    ("Tanks and Temples", ("*_SfM.log",), "its images can be reconstructed with COLMAP"),
    ("NYU Depth v2, as it was recorded", ("r-*.ppm", "d-*.pgm"), ""),
    ("Record3D", ("EXR_RGBD/", "metadata.json"), "nerfstudio converts it (ns-process-data record3d)"),
    ("Polycam", ("keyframes/",), "nerfstudio converts it (ns-process-data polycam)"),
    ("Metashape or RealityCapture", ("cameras.xml", "Registration.csv"), "nerfstudio converts it (ns-process-data)"),
)


#: What to do with files of other kinds.
_OTHER_FILES = {
    "photos as a camera's sensor took them": (
        (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"),
        "develop them to JPEG or PNG",
    ),
    "videos": ((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".insv"), "take frames out: ffmpeg -i VIDEO %05d.png"),
    "images of a kind that is not read": (
        (".jxl", ".hdr", ".exr", ".jp2", ".svg", ".psd", ".xcf", ".raw"),
        "convert them to PNG",
    ),
    "archives": ((".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".zst"), "unpack them"),
    "recordings": (
        (".bag", ".db3", ".mcap", ".sens", ".klg", ".oni", ".h5", ".hdf5", ".tfrecord"),
        "extract the frames",
    ),
}


def other_files(folder: Path) -> str:
    """Say what a folder without images holds in their place; empty if it is nothing that holds images."""
    suffixes = [path.suffix.lower() for path, is_folder in _walk(folder) if not is_folder]
    for what, (kinds, advice) in _OTHER_FILES.items():
        if found := sorted({suffix for suffix in suffixes if suffix in kinds}):
            count = sum(suffix in kinds for suffix in suffixes)
            return f"It holds {what} ({count} files {', '.join(found)}): {advice}. "
    return ""


def notes_on_databases(folder: Path, root: Path) -> tuple[str, ...]:
    """Notes on databases, as COLMAP leaves them, beside photos or in a folder above; none if there are none.

    Args:
        folder: of the photos.
        root: the folder above beyond which nothing is looked for.
    """
    above = [place for place in folder.parents if place.is_relative_to(root)]
    return tuple(
        f"not read: {path.name}; COLMAP keeps features, matches and guessed cameras in such a file, but no poses: they "
        "are in the model (cameras, images) that `colmap mapper` makes of it"
        for place in (folder, *above)
        for path in files_in(place, _DATABASES)
    )


def signs_of_geometry(folder: Path) -> dict[str, list[str]]:
    """Files and folders that look like poses, cameras, depth or masks, by their names.

    Args:
        folder: looked through with what lies below.

    Returns:
        Kind -> relative names; a folder that looks like one kind stands for all that is in it. Empty for a folder of
        plain photos.
    """
    found: dict[str, list[str]] = {}
    for own in ("depth", "masks"):
        if re.fullmatch(_WORDS[own], folder.resolve().name.lower()):
            found[own] = [f"the folder's own name, {folder.resolve().name}"]
    for relative, is_folder in _walk(folder):
        kind = _kind(relative, is_folder)
        if kind is not None:
            found.setdefault(kind, []).append(relative.as_posix() + ("/" if is_folder else ""))
    return found


def describe_unrecognised(folder: Path, readers: Sequence[Reader]) -> str:
    """Name the files that look like geometry, the nearest layout, and what to do; one paragraph.

    Args:
        folder: which no reader recognises.
        readers: those that were tried.
    """
    words = []
    for kind, names in signs_of_geometry(folder).items():
        rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        words.append(f"{kind}: {', '.join(names[:LISTED])}{rest}")
    text = f"What looks like geometry in it: {'; '.join(words)}. " if words else ""
    if (foreign := _foreign(folder)) is not None:
        name, advice = foreign
        text += f"It looks like {name}, which is not read" + (f"; {advice}. " if advice else ". ")
    elif (nearest := _nearest(folder, readers)) is not None:
        name, lacks = nearest
        text += f"The nearest layout is '{name}', which also has {', '.join(lacks)}. "
    return text


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Relative paths of what is in a folder, folders first, and whether each is one; hidden ones are left out.

    A folder that has a kind of its own is not entered: its name says it all.
    """
    seen = 0
    for place, folders, files in os.walk(folder):
        at = Path(place).relative_to(folder)
        shown = sorted((name for name in folders if not is_hidden(name)), key=natural_order)
        folders[:] = [name for name in shown if _kind(at / name, True) is None and len(at.parts) < 5]
        yield from ((at / name, True) for name in shown)
        for name in sorted(files, key=natural_order):
            seen += 1
            if seen > MOST_FILES:
                return
            if not is_hidden(name):
                yield at / name, False


def _kind(relative: Path, is_folder: bool) -> str | None:
    name = relative.name.lower()
    if is_folder:
        kinds = () if name in _OF_PHOTOS else tuple(_KINDS)
        return next((kind for kind in kinds if _KINDS[kind].search(name)), None)
    suffix = relative.suffix.lower()
    if suffix in _TABLES:
        return next((kind for kind in ("poses", "cameras", "depth") if _KINDS[kind].search(name)), None)
    if suffix in _LOSSLESS:
        return next((kind for kind in ("depth", "masks") if _KINDS[kind].search(relative.stem.lower())), None)
    return None


def _foreign(folder: Path) -> tuple[str, str] | None:
    for name, patterns, advice in FOREIGN:
        present = sum(_present(folder, pattern) for pattern in patterns)
        if present and present >= min(len(patterns), 2) - (name.startswith(("HoloLens", "SfM", "MVSNet", "Bundler"))):
            return name, advice
    return None


def _nearest(folder: Path, readers: Iterable[Reader]) -> tuple[str, list[str]] | None:
    """The layout with the largest share of its parts in the folder, and the parts that are not there."""
    best: tuple[float, str, list[str]] | None = None
    for reader in readers:
        lacks = [pattern for pattern in reader.layout if not _present(folder, pattern)]
        share = 1 - len(lacks) / len(reader.layout) if reader.layout else 0.0
        if lacks and share > 0 and (best is None or share > best[0]):
            best = share, reader.format, lacks
    return None if best is None else best[1:]


def _present(folder: Path, pattern: str) -> bool:
    found = (path for path in folder.glob(pattern.rstrip("/")) if not is_hidden(path.name))
    return any(path.is_dir() == pattern.endswith("/") for path in found)

"""`data check`: a right capture is proved, each planted fault is named, what frames cannot show is said to be open."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from textured_world import SIZE, TexturedWorld

from lorasub.cli.main import main
from lorasub.data.check import CaptureReport, Claim, check_capture
from lorasub.data.check.capture import steps
from lorasub.data.check.hypotheses import POSE_MISTAKES
from lorasub.data.check.matching import Features
from lorasub.data.check.observations import features_of
from lorasub.data.decoding import View
from lorasub.data.depth import DepthFile
from lorasub.data.frames import Capture, Frame

INVERTED, OPENGL = list(POSE_MISTAKES)[:2]


class Remembered:
    """Features by image: most tests change everything but the images."""

    def __init__(self) -> None:
        self.known: dict[bytes, Features] = {}

    def __call__(self, frame: Frame, view: View) -> Features:
        key = view.image.numpy().tobytes()
        if key not in self.known:
            self.known[key] = features_of(frame, view)
        return self.known[key]


@pytest.fixture(scope="module")
def find() -> Remembered:
    return Remembered()


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return TexturedWorld().capture(tmp_path_factory.mktemp("world"))


def each(capture: Capture, change: Callable[[Frame], Frame]) -> Capture:
    return dataclasses.replace(capture, frames=tuple(map(change, capture.frames)))


def with_poses(capture: Capture, change: Callable[[torch.Tensor], torch.Tensor]) -> Capture:
    changed = change(torch.stack([frame.cam_from_world for frame in capture.frames]))
    frames = zip(capture.frames, changed, strict=True)
    return dataclasses.replace(
        capture, frames=tuple(dataclasses.replace(frame, cam_from_world=pose) for frame, pose in frames)
    )


def with_intrinsics(capture: Capture, change: Callable[[torch.Tensor], torch.Tensor]) -> Capture:
    return each(capture, lambda f: dataclasses.replace(f, intrinsics=change(f.intrinsics.clone())))


def with_depth(capture: Capture, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Capture:
    def write(frame: Frame) -> Frame:
        path = folder / f"{frame.name}.npy"
        np.save(path, change(np.load(frame.depth.path)))
        return dataclasses.replace(frame, depth=dataclasses.replace(frame.depth, path=path))

    return each(capture, write)


def verdicts(report: CaptureReport) -> dict[str, str]:
    return {finding.claim.value: finding.verdict for finding in report.findings.items}


def test_a_right_capture_is_proved(capture: Capture, find: Remembered) -> None:
    counted: list[int] = []
    report = check_capture(capture, lambda: counted.append(1), find)
    assert len(counted) == steps(capture) == 12
    assert report.ok
    assert set(verdicts(report).values()) == {"proved"}, report.words()
    assert report.verdict == "proved"
    assert report.errors["epipolar"] < 0.3
    assert report.errors["depth"] < 0.003
    assert report.resolutions == {(SIZE[1], SIZE[0]): 6}
    assert report.unknown_depth == 0
    written = json.loads(json.dumps(report.to_dict()))
    assert written["claims"]["focal length"]["verdict"] == "proved"
    assert written["claims"]["focal length"]["within"] <= 0.03
    assert written["resolutions"] == [{"width": 160, "height": 120, "images": 6}]


def scaled(
    fx: float = 1.0, fy: float = 1.0, cx: float = 1.0, cy: float = 1.0
) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda k: k * torch.tensor([[fx, 1, cx], [1, fy, cy], [1, 1, 1]])


@pytest.mark.parametrize(
    ("change", "claim", "said"),
    [
        (POSE_MISTAKES[INVERTED][1], Claim.POSES, INVERTED),
        (POSE_MISTAKES["quaternions with the scalar last (x y z w)"][1], Claim.POSES, "scalar first"),
        (POSE_MISTAKES["rotations transposed, with positions as they are"][1], Claim.POSES, "rotations transposed"),
        (POSE_MISTAKES[OPENGL][1], Claim.AXES, OPENGL),
        # the camera's x, y, z taken for z, x, y
        (lambda p: p[:, [1, 2, 0]], Claim.AXES, "camera axes whose"),
        (lambda p: p[[1, 2, 3, 4, 5, 0]], Claim.IMAGES_BELONG_TO_POSES, "poses of one frame earlier"),
        (lambda p: p.flip(0), Claim.IMAGES_BELONG_TO_POSES, "poses in reverse order"),
        (lambda p: p[[3, 5, 0, 4, 2, 1]], Claim.IMAGES_BELONG_TO_POSES, ""),
    ],
    ids=["inverted", "quaternions", "transposed", "opengl", "cyclic axes", "one frame late", "reversed", "permuted"],
)
def test_wrong_poses_are_contradicted(
    capture: Capture, find: Remembered, change: Callable[[torch.Tensor], torch.Tensor], claim: Claim, said: str
) -> None:
    report = check_capture(with_poses(capture, change), find=find)
    assert report.verdict == "contradicted"
    assert not report.ok
    finding = report.findings[claim]
    assert finding.verdict == "contradicted", report.words()
    assert said in finding.better
    assert report.findings[Claim.FOCAL_LENGTH].verdict != "proved"


def swapped_center(intrinsics: torch.Tensor) -> torch.Tensor:
    intrinsics[[0, 1], [2, 2]] = intrinsics[[1, 0], [2, 2]]
    return intrinsics


@pytest.mark.parametrize(
    ("change", "claim", "said"),
    [
        (scaled(1.11, 1.11), Claim.FOCAL_LENGTH, "focal length 1.11 times smaller"),
        # 1.25 lies between two of the factors that are tried, 1.18 and 1.33
        (scaled(0.8, 0.8), Claim.FOCAL_LENGTH, "focal length 1."),
        # that the ratio is wrong is certain; which of the two is, is told by few pixels
        (scaled(fx=1.15), Claim.FOCAL_LENGTH, "fx"),
        (scaled(fy=0.87), Claim.FOCAL_LENGTH, "fy"),
        (scaled(1.5, 1.5, 1.5, 1.5), Claim.FOCAL_LENGTH, "a camera of images 1.5 times larger"),
        (scaled(cx=1.15), Claim.PRINCIPAL_POINT, "cx"),
        (swapped_center, Claim.PRINCIPAL_POINT, "cx and cy swapped"),
    ],
    ids=["1.11", "0.8", "fx", "fy", "resolution", "cx", "swapped"],
)
def test_wrong_intrinsics_are_contradicted(
    capture: Capture, find: Remembered, change: Callable[[torch.Tensor], torch.Tensor], claim: Claim, said: str
) -> None:
    report = check_capture(with_intrinsics(capture, change), find=find)
    finding = report.findings[claim]
    assert finding.verdict == "contradicted", report.words()
    assert said in finding.better


def test_swapped_focal_lengths_are_named(tmp_path: Path, find: Remembered) -> None:
    right = TexturedWorld(camera=(130.0, 150.0, 82.0, 57.0)).capture(tmp_path)

    def swap(intrinsics: torch.Tensor) -> torch.Tensor:
        intrinsics[[0, 1], [0, 1]] = intrinsics[[1, 0], [1, 0]]
        return intrinsics

    assert check_capture(right, find=find).findings[Claim.FOCAL_LENGTH].verdict == "proved"
    finding = check_capture(with_intrinsics(right, swap), find=find).findings[Claim.FOCAL_LENGTH]
    assert (finding.verdict, finding.better) == ("contradicted", "fx and fy swapped")


@pytest.mark.parametrize(("factor", "said"), [(0.1, "depth 10 times larger"), (1.2, "depth 1.18 times smaller")])
def test_a_wrong_unit_is_named(capture: Capture, find: Remembered, tmp_path: Path, factor: float, said: str) -> None:
    report = check_capture(with_depth(capture, tmp_path, lambda depth: depth * np.float32(factor)), find=find)
    finding = report.findings[Claim.UNIT]
    assert finding.verdict == "contradicted", report.words()
    assert said in finding.better


@pytest.mark.parametrize(("power", "said"), [(1, "depth is distance along the ray"), (-1, "depth is along z, where")])
def test_depth_along_the_ray_is_named(
    capture: Capture, find: Remembered, tmp_path: Path, power: int, said: str
) -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    fx, fy, cx, cy = TexturedWorld().camera
    lengths = np.sqrt(((x - cx) / fx) ** 2 + ((y - cy) / fy) ** 2 + 1)
    report = check_capture(with_depth(capture, tmp_path, lambda d: (d * lengths**power).astype(np.float32)), find=find)
    finding = report.findings[Claim.DEPTH_ALONG_Z]
    assert finding.verdict == "contradicted", report.words()
    assert said in finding.better
    assert report.findings[Claim.UNIT].verdict != "proved"


def test_depth_of_another_camera_is_named(capture: Capture, find: Remembered, tmp_path: Path) -> None:
    def zoomed(depth: np.ndarray) -> np.ndarray:  # as a camera with a focal length 1.11 times longer sees it
        y, x = (np.arange(n) + 0.5 for n in depth.shape)
        rows, columns = (57.0 + (y - 57.0) / 1.11).astype(int), (82.0 + (x - 82.0) / 1.11).astype(int)
        return depth[rows][:, columns]

    report = check_capture(with_depth(capture, tmp_path, zoomed), find=find)
    finding = report.findings[Claim.DEPTH_REGISTERED]
    assert finding.verdict == "contradicted", report.words()
    assert "depth of another camera (a focal length 1.11 times larger" in finding.better


def sparse(capture: Capture) -> Capture:
    frames = [
        dataclasses.replace(frame, depth=TexturedWorld().sparse(i), cam_from_world=frame.cam_from_world)
        for i, frame in enumerate(capture.frames)
    ]
    return dataclasses.replace(capture, frames=tuple(frames), metric=False)


def test_points_do_not_confirm_the_poses_that_they_were_made_from(capture: Capture, find: Remembered) -> None:
    model = sparse(capture)
    right = check_capture(model, find=find)
    assert right.findings[Claim.POSES].verdict == "proved"
    assert "depth" not in right.errors  # points moved by their own poses are no evidence
    images = [frame.image for frame in model.frames]
    for order in ([2, 3, 4, 5, 0, 1], [1, 0, 3, 2, 5, 4]):
        frames = [dataclasses.replace(f, image=images[i]) for f, i in zip(model.frames, order, strict=True)]
        report = check_capture(dataclasses.replace(model, frames=tuple(frames)), find=find)
        assert report.findings[Claim.IMAGES_BELONG_TO_POSES].verdict == "contradicted", report.words()
        assert "proved" not in {report.findings[claim].verdict for claim in (Claim.POSES, Claim.FOCAL_LENGTH)}


@pytest.mark.parametrize("same", [True, False])
def test_images_of_noise_prove_nothing(capture: Capture, tmp_path: Path, same: bool) -> None:
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)

    def noisy(frame: Frame) -> Frame:
        pixels = noise if same else generator.integers(0, 256, noise.shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{frame.name}.png")
        return dataclasses.replace(frame, image=tmp_path / f"{frame.name}.png")

    report = check_capture(each(sparse(capture), noisy))
    finding = report.findings[Claim.IMAGES_BELONG_TO_POSES]
    if same:
        assert finding.verdict == "contradicted"
        assert "one and the same picture" in finding.measured
    assert "proved" not in verdicts(report).values()


def test_cameras_that_never_move_prove_nothing(capture: Capture, find: Remembered) -> None:
    still = dataclasses.replace(
        capture, frames=tuple(dataclasses.replace(capture.frames[0], name=str(i)) for i in range(5))
    )
    report = check_capture(still, find=find)
    assert report.ok
    assert report.verdict == "not provable"
    assert "the cameras do not move: nothing is proved about poses, focal length or unit" in report.notes


def test_what_was_not_matched_is_open(capture: Capture, tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("RGB", (SIZE[1], SIZE[0])).save(blank)
    report = check_capture(each(capture, lambda f: dataclasses.replace(f, image=blank, depth=None)))
    assert report.ok
    assert report.verdict == "not provable"
    report = check_capture(dataclasses.replace(capture, frames=capture.frames[:1]))
    assert report.ok
    assert "proved" not in verdicts(report).values()


def test_depth_alone_does_not_prove_what_images_claim(capture: Capture, tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("RGB", (SIZE[1], SIZE[0])).save(blank)
    found = verdicts(check_capture(each(capture, lambda f: dataclasses.replace(f, image=blank))))
    assert found["poses"] == "proved"  # of the camera that took the depth
    for claim in ("images belong to poses", "focal length", "principal point", "depth registered to colour"):
        assert found[claim] == "not provable"


def test_damaged_files_are_named_and_the_rest_is_checked(capture: Capture, find: Remembered, tmp_path: Path) -> None:
    cut_image, cut_depth = tmp_path / "2.png", tmp_path / "4.npy"
    cut_image.write_bytes(capture.frames[2].image.read_bytes()[:500])
    cut_depth.write_bytes(capture.frames[4].depth.path.read_bytes()[:500])
    frames = list(capture.frames)
    frames[2] = dataclasses.replace(frames[2], image=cut_image)
    frames[4] = dataclasses.replace(frames[4], depth=dataclasses.replace(frames[4].depth, path=cut_depth))
    report = check_capture(dataclasses.replace(capture, frames=tuple(frames)), find=find)
    assert not report.ok
    assert [str(path) in problem for path, problem in zip((cut_image, cut_depth), report.problems, strict=True)]
    assert report.findings[Claim.POSES].verdict == "proved"


def test_depth_in_eight_bits_is_noted(capture: Capture, find: Remembered, tmp_path: Path) -> None:
    def to_be_looked_at(depth: np.ndarray) -> np.ndarray:
        return np.round(255 * depth / depth.max()).astype(np.uint8)

    few = dataclasses.replace(capture, frames=capture.frames[:2])
    report = check_capture(with_depth(few, tmp_path, to_be_looked_at), find=find)
    assert any("different values: was it stored in 8 bits" in note for note in report.notes)
    assert not any("different values" in note for note in check_capture(few, find=find).notes)


def test_no_known_depth_is_a_problem(capture: Capture, find: Remembered, tmp_path: Path) -> None:
    report = check_capture(with_depth(capture, tmp_path, np.zeros_like), find=find)
    assert "no frame has any known depth" in report.problems[0]


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    """The world as a folder that only a reader with options reads."""
    folder = tmp_path / "world"
    folder.mkdir()
    world = TexturedWorld(count=4)
    world.capture(folder)
    rows = [np.r_[world.world_from_cam(i)[:3, 3], _quaternion(world.world_from_cam(i))] for i in range(world.count)]
    np.savetxt(folder / "poses.txt", rows)
    return folder


def _quaternion(pose: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(pose[:3, :3]).as_quat()


def test_the_command_takes_a_reader_with_options(on_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(camera: str) -> tuple[int, dict]:
        reader = {"images": "*.png", "depth": "*.npy", "depth_unit": "1", "poses": "poses.txt", "camera": camera}
        options = [word for name, value in reader.items() for word in (f"--format.init_args.{name}", value)]
        name = "lorasub.data.readers.pose_list.PoseList"
        arguments = ["data", "check", str(on_disk), "--json", "--out", str(on_disk.parent / "out")]
        code = main([*arguments, "--format.class_path", name, *options])
        return code, json.loads(capsys.readouterr().out)["captures"][0]

    code, report = run("[130.0, 130.0, 81.5, 56.5]")
    assert code == 0
    assert report["claims"]["poses"]["verdict"] == "proved"
    pictures = sorted((on_disk.parent / "out").glob("*.png"))
    assert [path.name for path in pictures] == ["world.png", "world_cameras.png"]
    assert all(min(Image.open(path).size) > 300 for path in pictures)
    code, report = run("[160.0, 160.0, 81.5, 56.5]")
    assert code == 1
    assert report["claims"]["focal length"]["verdict"] == "contradicted"
    assert report["problems"]


def other_world(folder: Path) -> Path:
    """An image that looks as good as the others and shows another place."""
    rng = np.random.default_rng(3)
    blocks = np.kron(rng.integers(20, 235, (30, 40, 3)), np.ones((4, 4, 1)))
    Image.fromarray((0.8 * blocks + 0.2 * rng.integers(0, 255, (*SIZE, 3))).astype(np.uint8)).save(folder / "other.png")
    return folder / "other.png"


def with_image(capture: Capture, index: int, image: Path) -> Capture:
    frames = list(capture.frames)
    frames[index] = dataclasses.replace(frames[index], image=image)
    return dataclasses.replace(capture, frames=tuple(frames))


@pytest.mark.parametrize(("count", "index"), [(3, 1), (6, 0)])
def test_one_image_of_another_place_is_not_proved(
    capture: Capture, find: Remembered, tmp_path: Path, count: int, index: int
) -> None:
    few = dataclasses.replace(capture, frames=capture.frames[:count])
    finding = check_capture(with_image(few, index, other_world(tmp_path)), find=find).findings[
        Claim.IMAGES_BELONG_TO_POSES
    ]
    assert finding.verdict == "not provable"
    assert f"0{index}" in finding.measured


@pytest.mark.parametrize(("first", "second"), [(2, 3), (0, 5)])
def test_two_images_that_changed_places_are_found(capture: Capture, find: Remembered, first: int, second: int) -> None:
    images = [frame.image for frame in capture.frames]
    swapped = with_image(with_image(capture, first, images[second]), second, images[first])
    finding = check_capture(swapped, find=find).findings[Claim.IMAGES_BELONG_TO_POSES]
    assert finding.verdict == "contradicted"
    assert f"frames {first} and {second} (from 0) have changed places" in finding.measured


def test_one_pose_that_tracking_got_wrong_is_found(capture: Capture, find: Remembered) -> None:
    def jump(poses: torch.Tensor) -> torch.Tensor:
        poses = poses.clone()
        poses[2, :, 3] += torch.tensor([0.1, 0.5, -0.2])
        return poses

    finding = check_capture(with_poses(capture, jump), find=find).findings[Claim.IMAGES_BELONG_TO_POSES]
    assert finding.verdict == "contradicted"
    assert "02" in finding.measured


def test_a_copy_of_an_image_with_its_pose_stays_proved(capture: Capture, find: Remembered) -> None:
    twin = dataclasses.replace(capture.frames[2], name="twin")
    report = check_capture(dataclasses.replace(capture, frames=(*capture.frames, twin)), find=find)
    assert report.findings[Claim.IMAGES_BELONG_TO_POSES].verdict == "proved"


def test_depth_of_another_place_under_one_image_is_found(capture: Capture, find: Remembered, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.linspace(0.9, 5.0, 120 * 160, dtype=np.float32).reshape(SIZE))
    frames = list(capture.frames)
    frames[3] = dataclasses.replace(frames[3], depth=DepthFile(path=tmp_path / "other.npy", unit=1.0))
    report = check_capture(dataclasses.replace(capture, frames=tuple(frames)), find=find)
    finding = report.findings[Claim.DEPTH_REGISTERED]
    assert finding.verdict == "contradicted"
    assert "03" in finding.measured
    # where no points tie images to poses, the pose may as well be wrong
    blank = tmp_path / "blank.png"
    Image.new("RGB", SIZE[::-1]).save(blank)
    unseen = [dataclasses.replace(frame, image=blank) for frame in frames]
    finding = check_capture(dataclasses.replace(capture, frames=tuple(unseen)), find=find).findings[
        Claim.DEPTH_REGISTERED
    ]
    assert finding.verdict == "not provable"
    assert "03" in finding.measured

"""Checks on random images that a backbone keeps its contract, and says in words where it does not."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lorasub.adapters.targets import base_modules, select
from lorasub.backbones.base import Backbone
from lorasub.console import some_of
from lorasub.errors import ConfigError
from lorasub.geometry import decode_pose, rotation_angle, world_points_from_depth
from lorasub.structures import Predictions

Verdict = Literal["ok", "note", "wrong"]
#: Two runs of the same images may differ by this share of the largest value: rounding of kernels that choose anew.
_ROUNDING = 1e-3
#: The first view's camera may stand this far from the world's frame: degrees, and a share of the median depth.
_DEGREES, _SHARE = 5.0, 0.1
#: Points may lie this share of the median depth from where depth and cameras say; on noise good models disagree, too.
_GAP = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was asked.

    Attributes:
        subject: what was looked at.
        verdict: ``wrong`` breaks the contract; a ``note`` may be right, and should be known.
        text: what was found, and what to do about it.
    """

    subject: str
    verdict: Verdict
    text: str


@dataclass
class BackboneReport:
    """Findings about a backbone.

    Attributes:
        name: of its class.
        findings: in the order in which they were asked.
        groups: group -> paths of the layers that an adapter of this group wraps.
        facts: sizes and times.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    groups: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.verdict == "wrong" for finding in self.findings)

    def say(self, subject: str, verdict: Verdict, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(subject, verdict, text))

    def judge(self, subject: str, problems: list[str], fine: str) -> bool:
        """Add every problem as wrong, or ``fine`` where there is none; returns whether there is none."""
        for problem in problems:
            self.say(subject, "wrong", problem)
        if not problems:
            self.say(subject, "ok", fine)
        return not problems


def check_backbone(
    backbone: nn.Module,
    *,
    views: int = 3,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> BackboneReport:
    """Run a backbone on random images, and say whether it keeps the contract of :class:`lorasub.Backbone`.

    Weights stay as they are. What only trained weights can show (whether depth is z-depth, whether poses are
    camera-from-world) is asked as far as the outputs agree with each other.

    Args:
        backbone: on any device.
        views: of each of two scenes.
        image_size: (H, W) in pixels; by default the least number of patches that makes 48 x 80.
        seed: of the images.

    Example:
        >>> report = check_backbone(torch.nn.Linear(3, 3))
        >>> report.ok, report.findings[0].text
        (False, 'Linear is no lorasub.Backbone; make it the base of your class')
    """
    report = BackboneReport(type(backbone).__name__)
    if not isinstance(backbone, Backbone):
        report.say("class", "wrong", f"{report.name} is no lorasub.Backbone; make it the base of your class")
        return report
    if not _attributes(backbone, report):
        return report
    _groups(backbone, report)
    patch = backbone.patch_size
    size = image_size or (patch * math.ceil(48 / patch), patch * math.ceil(80 / patch))
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    images = torch.rand(2, views, 3, *size, generator=torch.Generator().manual_seed(seed)).to(device)
    trains = backbone.training
    required = {name: parameter.requires_grad for name, parameter in backbone.named_parameters()}
    try:
        backbone.eval()
        predictions = _forward(backbone, images, report)
        if predictions is not None and _shapes(predictions, images, report):
            _values(predictions, report)
            _frames(predictions, size, report)
            _repeats(backbone, images, predictions, report)
            _independence(backbone, images, predictions, report)
            _refusals(backbone, images, report)
            _gradients(backbone, images, report)
    finally:
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(required[name])
            parameter.grad = None
        backbone.train(trains)
    return report


def _attributes(backbone: Backbone, report: BackboneReport) -> bool:
    """Whether the three attributes are there, of the right kind."""
    missing = [name for name in ("patch_size", "model_id", "groups") if not hasattr(backbone, name)]
    if missing:
        report.say("attributes", "wrong", f"set {', '.join(missing)} in the class or its constructor")
        return False
    given: dict[str, Any] = {"patch": backbone.patch_size, "identity": backbone.model_id, "groups": backbone.groups}
    patch, identity, groups = given.values()
    problems = []
    if not isinstance(patch, int) or patch < 1:
        problems.append(f"patch_size is {patch!r}; it must be a whole number of pixels, 1 where any size will do")
    if not isinstance(identity, str) or not identity:
        problems.append(f"model_id is {identity!r}; it must be the short name of the weights")
    elif identity.startswith(("/", "~", ".")) or "\\" in identity:
        problems.append(f"model_id is {identity!r}: it is written into every adapter and must not hold a path")
    if not isinstance(groups, Mapping):
        problems.append(f"groups is a {type(groups).__name__}; it must be a mapping of names to tuples of patterns")
    elif loose := [name for name, patterns in groups.items() if isinstance(patterns, str)]:
        problems.append(f"groups['{loose[0]}'] is one string; put it into a tuple: ('...',)")
    fine = "" if problems else f"{identity}, patch size {patch}, groups {', '.join(groups) or '(none)'}"
    return report.judge("attributes", problems, fine)


def _groups(backbone: Backbone, report: BackboneReport) -> None:
    modules = base_modules(backbone)
    kinds = nn.Linear | nn.Conv2d | nn.MultiheadAttention
    adaptable = {path for path, module in modules.items() if isinstance(module, kinds)}
    for name, patterns in backbone.groups.items():
        idle = [pattern for pattern in patterns if not select(modules, (pattern,))]
        found = select(modules, patterns)
        report.groups[name] = [path for path in modules if path in found & adaptable]
        grouped = [path for path in found if isinstance(conv := modules[path], nn.Conv2d) and conv.groups > 1]
        if idle:
            some = some_of([path for path in modules if path])
            text = f"'{idle[0]}' of group '{name}' matches no module; there are {some}"
            report.say("groups", "wrong" if len(idle) == len(patterns) else "note", text)
        elif grouped:
            text = f"'{name}' holds the grouped convolution {grouped[0]}, which no adapter covers"
            report.say("groups", "wrong", text)
        elif not report.groups[name]:
            report.say("groups", "note", f"'{name}' holds no Linear, Conv2d or attention: there is nothing to adapt")
    if not backbone.groups:
        report.say("groups", "note", "there are none, so that adapters' targets must be patterns over module paths")


def _forward(backbone: Backbone, images: Tensor, report: BackboneReport) -> Predictions | None:
    shape = list(images.shape)
    before = images.clone()
    start = time.perf_counter()
    try:
        with torch.no_grad():
            predictions: Any = backbone(images)
    except Exception as error:
        report.say("forward", "wrong", f"images {shape} end in {type(error).__name__}: {_short(error)}")
        return None
    report.facts["forward"] = f"{time.perf_counter() - start:.3g} s for {shape}"
    if not torch.equal(images, before):
        report.say("forward", "wrong", "the images were changed in place; work on a copy")
    if not isinstance(predictions, Predictions):
        kind = type(predictions).__name__
        report.say("forward", "wrong", f"it gives a {kind}; return lorasub.Predictions(depth=..., ...)")
        return None
    return predictions


def _shapes(predictions: Predictions, images: Tensor, report: BackboneReport) -> bool:
    b, s, _, height, width = images.shape
    poses: Any = predictions.pose_encodings
    if not isinstance(poses, tuple):
        report.say("shapes", "wrong", "pose_encodings must be a tuple, one [B, S, 9] for each iteration: (pose,)")
        return False
    plane = (b, s, height, width)
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(("depth", "depth_conf", "world_points_conf"), plane)
    expected |= {"world_points": (*plane, 3)} | {f"pose_encodings[{index}]": (b, s, 9) for index in range(len(poses))}
    found: dict[str, Any] = dict(predictions.tensors())
    problems = []
    for name, value in found.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = getattr(value, "dtype", type(value).__name__)
            problems.append(f"{name} must be a floating-point tensor, not {kind}")
        elif tuple(value.shape) != expected[name]:
            wanted = f"for images {list(images.shape)} it must be {list(expected[name])}"
            problems.append(f"{name} is {list(value.shape)}; {wanted}")
    if not found:
        problems.append("all fields are empty")
    if (predictions.depth_conf is not None) > (predictions.depth is not None):
        problems.append("there is depth_conf without depth")
    absent = [n for n in ("depth", "depth_conf", "world_points") if n not in found]
    absent += [] if predictions.pose_encodings else ["pose_encodings"]
    rest = f"; not predicted, so that losses and metrics skip them: {', '.join(absent)}" if absent else ""
    return report.judge("shapes", problems, f"{', '.join(found)}{rest}")


def _values(predictions: Predictions, report: BackboneReport) -> None:
    problems = []
    for name, value in predictions.tensors().items():
        if not bool(torch.isfinite(value).all()):
            problems.append(f"{name} holds NaN or infinity")
    depth = predictions.depth
    if depth is not None and bool((depth <= 0).any()):
        share = float((depth <= 0).float().mean())
        problems.append(
            f"depth is not positive at {share:.0%} of the pixels; end in exp, softplus or a clamp, and check the axes: "
            "OpenCV's z points forward"
        )
    for name in ("depth_conf", "world_points_conf"):
        value = getattr(predictions, name)
        if value is not None and bool((value < 1).any()):
            problems.append(f"{name} falls to {float(value.min()):.3g}; it must be at least 1, such as 1 + exp(x)")
    for pose in predictions.pose_encodings[-1:]:
        length = pose[..., 3:7].norm(dim=-1)
        if bool((length < 1e-6).any()):
            problems.append("a quaternion (pose_encodings[..., 3:7], xyzw) has length 0")
        # random weights may well go beyond pi; degrees do so by far
        if bool((pose[..., 7:] < 0).any()) or bool((pose[..., 7:] > 2 * math.pi).any()):
            problems.append("fields of view (pose_encodings[..., 7:]) must be radians between 0 and pi, vertical first")
    fine = "finite; depth positive, confidence at least 1, fields of view in radians, where there are any"
    report.judge("values", problems, fine)


def _frames(predictions: Predictions, size: tuple[int, int], report: BackboneReport) -> None:
    """Whether first view, depth, poses and points tell of the same scene."""
    pose, depth, points = predictions.pose_encoding, predictions.depth, predictions.world_points
    if points is not None:
        behind = float((points[:, 0, ..., 2] < 0).float().mean())
        if behind > 0.5:
            text = f"{behind:.0%} of the first view's points lie behind it (z < 0): are the axes OpenGL's?"
            report.say("frames", "note", text)
    if pose is None:
        return
    cam_from_world, intrinsics = decode_pose(pose.float(), size)
    first = cam_from_world[:, 0]
    eye = torch.eye(3, device=first.device)
    angle = math.degrees(float(rotation_angle(first[..., :3], eye.expand_as(first[..., :3])).max()))
    unit = float(depth.median()) if depth is not None else 1.0
    distance = float(first[..., 3].norm(dim=-1).max()) / max(unit, 1e-9)
    if angle > _DEGREES or distance > _SHARE:
        text = (
            f"the first view's camera is turned by {angle:.0f} degrees from the world's frame and {distance:.2g} "
            "median depths away from it. With trained weights both must be near 0: results belong into its frame"
        )
        report.say("frames", "note", text)
    else:
        report.say("frames", "ok", "the first view's camera stands in the world's frame")
    if depth is not None and points is not None:
        unprojected = world_points_from_depth(depth.float(), intrinsics, cam_from_world)
        gap = float((unprojected - points.float()).norm(dim=-1).median()) / max(unit, 1e-9)
        if gap > _GAP:
            text = (
                f"points lie {gap:.2g} median depths (median) from what depth and cameras say. With trained weights "
                "they must agree: look for world-from-camera poses, wxyz quaternions, swapped fields of view, ray "
                "lengths in place of z-depth"
            )
            report.say("frames", "note", text)


def _repeats(backbone: Backbone, images: Tensor, first: Predictions, report: BackboneReport) -> None:
    with torch.no_grad():
        gap = _gap(first, backbone(images))
        if gap > _ROUNDING:
            text = f"two evaluations of the same images differ by {gap:.2g}: is something random left in eval mode?"
            report.say("determinism", "wrong", text)
        buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
        backbone.train()
        states = torch.random.get_rng_state()
        trained = backbone(images), backbone(images)
        torch.random.set_rng_state(states)
        backbone.eval()
        now = dict(backbone.named_buffers())
        changed = [n for n, b in buffers.items() if not torch.equal(b.nan_to_num(), now[n].nan_to_num())]
        for name, buffer in buffers.items():
            now[name].copy_(buffer)
    if changed:
        text = f"{changed[0]} changes in every training step (batch norm?): keep such modules in eval mode"
        report.say("determinism", "wrong", text)
    if _gap(*trained) > _ROUNDING:
        text = "two passes in training mode differ: dropout or the like. Resuming repeats it, other libraries may not"
        report.say("determinism", "note", text)
    if gap <= _ROUNDING and not changed:
        report.say("determinism", "ok", "the same images give the same predictions, and no state changes")


def _independence(backbone: Backbone, images: Tensor, both: Predictions, report: BackboneReport) -> None:
    with torch.no_grad():
        alone = backbone(images[:1])
        gap = _gap(both.map(lambda value: value[:1]), alone)
        if gap > _ROUNDING:
            text = f"a scene's predictions change by {gap:.2g} with what else is in the batch"
            report.say("batch", "wrong", text)
        else:
            report.say("batch", "ok", "scenes of a batch do not see each other")
        other = backbone(torch.rand_like(images))
    if _gap(both, other) < 1e-6:
        report.say("batch", "note", "other images give the same predictions: are the images read at all?")
    try:
        with torch.no_grad():
            backbone(images[:, :1])
    except Exception as error:
        report.say("views", "note", f"one view alone ends in {type(error).__name__}: {_short(error)}")


def _refusals(backbone: Backbone, images: Tensor, report: BackboneReport) -> None:
    """Shapes that do not fit must end in the contract's own message."""
    wrong = {"[S, 3, H, W] without scenes": images[0]}
    if backbone.patch_size > 1:
        wrong["a height that is no multiple of the patch size"] = images[..., :-1, :]
    for what, value in wrong.items():
        try:
            with torch.no_grad():
                backbone(value)
        except ConfigError:
            continue
        except Exception as error:
            text = f"{what} ends in {type(error).__name__}; begin forward with self.check_images(images)"
            report.say("refusals", "wrong", text)
            return
        report.say("refusals", "wrong", f"{what} is taken; begin forward with self.check_images(images)")
        return
    report.say("refusals", "ok", "images that do not fit are refused in words")


def _gradients(backbone: Backbone, images: Tensor, report: BackboneReport) -> None:
    backbone.requires_grad_(True)
    start = time.perf_counter()
    try:
        values = backbone(images[:1]).tensors().values()
        loss = torch.stack([value.float().square().mean() for value in values]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        report.say("gradients", "wrong", f"the backward pass ends in {type(error).__name__}: {_short(error)}")
        return
    report.facts["forward and backward"] = f"{time.perf_counter() - start:.3g} s for {list(images[:1].shape)}"
    report.facts["parameters"] = f"{sum(p.numel() for p in backbone.parameters()):,}"
    reached = {path: _has_gradient(module) for path, module in base_modules(backbone).items()}
    dead = []
    for name, paths in report.groups.items():
        share = sum(reached[path] for path in paths)
        if paths and not share:
            dead.append(name)
            text = f"no gradient reaches '{name}': is it run under torch.no_grad, detached, or not used?"
            report.say("gradients", "wrong", text)
        elif share < len(paths):
            idle = next(path for path in paths if not reached[path])
            text = f"no gradient reaches {len(paths) - share} of {len(paths)} layers of '{name}', such as {idle}"
            report.say("gradients", "note", text)
    if not dead:
        report.say("gradients", "ok", "they reach every group")


def _has_gradient(module: nn.Module) -> bool:
    gradients = [parameter.grad for parameter in module.parameters()]
    return any(gradient is not None and bool((gradient != 0).any()) for gradient in gradients)


def _gap(first: Predictions, second: Predictions) -> float:
    """Largest difference of a field as a share of its largest value."""
    theirs = second.tensors()
    gaps = [
        float((value - theirs[name]).abs().max() / value.abs().max().clamp(min=1e-9))
        for name, value in first.tensors().items()
    ]
    return max(gaps, default=0.0)


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]

"""A backbone that breaks its contract is told so in words; sound ones are not accused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lorasub as ls
from lorasub.cli.main import main
from lorasub.training.backbone_check import BackboneReport, check_backbone


class Sound(ls.Backbone):
    """Depth, one camera a view in the first one's frame, and the points that follow from both."""

    patch_size = 8
    model_id = "sound"
    groups: Mapping[str, tuple[str, ...]] = {
        "encoder": ("embed",),
        "blocks": ("block",),
        "depth_head": ("head",),
        "heads": ("head", "camera"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.block = nn.Linear(16, 16)
        self.head = nn.Linear(16, 2 * 64)
        self.camera = nn.Linear(16, 9)

    def forward(self, images: Tensor) -> ls.Predictions:
        self.check_images(images)
        return self.predict(images)

    def predict(self, images: Tensor) -> ls.Predictions:
        b, s, _, height, width = images.shape
        tokens = torch.relu(self.block(self.embed(images.flatten(0, 1)).permute(0, 2, 3, 1)))
        maps = nn.functional.pixel_shuffle(self.head(tokens).permute(0, 3, 1, 2), 8)
        depth, confidence = maps.unflatten(0, (b, s)).exp().unbind(2)
        raw = self.camera(tokens.mean((1, 2))).unflatten(0, (b, s)).tanh()
        rest = (raw - raw[:, :1]) * torch.tensor([1.5] * 3 + [0.3] * 3 + [0.0] * 3)
        still = torch.tensor([0, 0, 0, 0, 0, 0, 1.0, 1.0, 1.2])
        still = still + torch.arange(s)[:, None] * torch.tensor([0.5] + [0.0] * 8)
        pose = rest + still + raw * torch.tensor([0.0] * 7 + [0.1] * 2)
        cam_from_world, intrinsics = ls.decode_pose(pose, (height, width))
        from lorasub.geometry import world_points_from_depth

        points = world_points_from_depth(depth, intrinsics, cam_from_world)
        return ls.Predictions(
            pose_encodings=(pose,),
            depth=depth,
            depth_conf=1 + confidence,
            world_points=points,
            world_points_conf=1 + confidence,
        )


def broken(change: Callable[[ls.Predictions, Tensor], Any]) -> type[Sound]:
    class Broken(Sound):
        def predict(self, images: Tensor) -> Any:
            return change(super().predict(images), images)

    return Broken


class NoCheck(Sound):
    def forward(self, images: Tensor) -> ls.Predictions:
        return self.predict(images)


class WrongGroup(Sound):
    groups: Mapping[str, tuple[str, ...]] = {**Sound.groups, "blocks": ("blocks.*",)}


class LooseGroup(Sound):
    groups: Mapping[str, tuple[str, ...]] = {**Sound.groups, "blocks": "block"}  # type: ignore[dict-item]


class Detached(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.embed.register_forward_hook(lambda module, given, result: result.detach())


class Normalised(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def predict(self, images: Tensor) -> ls.Predictions:
        return super().predict(self.norm(images.flatten(0, 1)).unflatten(0, images.shape[:2]))


class Absolute(Sound):
    model_id = "/home/me/weights.pt"


def inverse_pose(predictions: ls.Predictions) -> ls.Predictions:
    from lorasub.backbones.depth_anything3.model import inverted_pose_encoding

    return predictions.replace(pose_encodings=(inverted_pose_encoding(predictions.pose_encoding),))


def noisy(predictions: ls.Predictions, images: Tensor) -> ls.Predictions:
    return predictions.replace(depth=predictions.depth * (1 + torch.rand(1)))


def mixes(predictions: ls.Predictions, images: Tensor) -> ls.Predictions:
    return predictions.replace(depth=predictions.depth + predictions.depth.sum(0))


def paints(predictions: ls.Predictions, images: Tensor) -> ls.Predictions:
    images.mul_(0.5)
    return predictions


WRONG: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "no backbone": (lambda: nn.Linear(3, 3), "class", "no lorasub.Backbone"),
    "path as identity": (Absolute, "attributes", "must not hold a path"),
    "string for a tuple": (LooseGroup, "attributes", "put it into a tuple"),
    "group that matches nothing": (WrongGroup, "groups", "'blocks.*' of group 'blocks' matches no module"),
    "dictionary": (broken(lambda p, i: {"depth": p.depth}), "forward", "gives a dict; return lorasub.Predictions"),
    "images changed": (broken(paints), "forward", "changed in place"),
    "channel axis": (broken(lambda p, i: p.replace(depth=p.depth[..., None])), "shapes", "it must be [2, 3, 48, 80]"),
    "pose as a tensor": (broken(lambda p, i: p.replace(pose_encodings=p.pose_encoding)), "shapes", "must be a tuple"),
    "matrix for an encoding": (
        broken(lambda p, i: p.replace(pose_encodings=(torch.zeros(*i.shape[:2], 3, 4),))),
        "shapes",
        "must be [2, 3, 9]",
    ),
    "negative depth": (broken(lambda p, i: p.replace(depth=-p.depth)), "values", "not positive at 100%"),
    "confidence below one": (broken(lambda p, i: p.replace(depth_conf=p.depth_conf - 1)), "values", "at least 1"),
    "degrees": (broken(lambda p, i: p.replace(pose_encodings=(p.pose_encoding * 57.3,))), "values", "radians"),
    "infinite": (broken(lambda p, i: p.replace(depth=p.depth / 0)), "values", "NaN or infinity"),
    "random": (broken(noisy), "determinism", "differ by"),
    "batch norm": (Normalised, "determinism", "norm.running_mean changes in every training step"),
    "scenes mixed": (broken(mixes), "batch", "what else is in the batch"),
    "no check": (NoCheck, "refusals", "begin forward with self.check_images(images)"),
    "detached": (Detached, "gradients", "no gradient reaches 'encoder'"),
}


def worst(report: BackboneReport) -> list[tuple[str, str]]:
    return [(finding.subject, finding.text) for finding in report.findings if finding.verdict == "wrong"]


@pytest.mark.parametrize("fault", WRONG)
def test_a_planted_fault_is_named(fault: str) -> None:
    build, subject, words = WRONG[fault]
    found = worst(check_backbone(build()))
    assert any(where == subject and words in text for where, text in found), found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, i: inverse_pose(p), "world-from-camera poses"),
        (lambda p, i: p.replace(pose_encodings=(p.pose_encoding.roll(1, -1),)), "wxyz quaternions"),
        (lambda p, i: p.replace(world_points=p.world_points * torch.tensor([1.0, -1.0, -1.0])), "axes OpenGL's"),
        (
            lambda p, i: p.replace(pose_encodings=(p.pose_encoding + torch.tensor([5.0] + [0.0] * 8),)),
            "first view's frame",
        ),
    ],
    ids=["inverse poses", "wxyz", "opengl", "shifted world"],
)
def test_frames_that_disagree_are_noted(change: Any, words: str) -> None:
    class Far(broken(change)):  # type: ignore[misc]
        def predict(self, images: Tensor) -> ls.Predictions:
            return super().predict(images)

    model = Far()
    with torch.no_grad():
        model.camera.weight.mul_(200)
    report = check_backbone(model)
    notes = [finding.text for finding in report.findings if finding.subject == "frames" and finding.verdict == "note"]
    assert any(words.replace("first view's frame", "its frame") in text for text in notes), notes


def test_a_sound_backbone_is_not_accused_and_comes_back_as_it_was() -> None:
    model = Sound().train()
    model.block.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = check_backbone(model)
    assert [finding for finding in report.findings if finding.verdict != "ok"] == []
    assert report.groups == {
        "encoder": ["embed"],
        "blocks": ["block"],
        "depth_head": ["head"],
        "heads": ["head", "camera"],
    }
    assert model.training
    assert not model.block.weight.requires_grad
    assert model.embed.weight.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_command_prints_findings_and_groups_and_fails_where_something_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    assert main(["inspect", "backbone", "lorasub.VGGT.from_preset", "--backbone.name=nano", "--views=2"]) == 0
    told = capsys.readouterr().out
    assert "ok     gradients" in told
    assert "aggregator.frame_blocks.0.attn.qkv" in told
    assert main(["inspect", "backbone", "test_training_backbone_check.NoCheck"]) != 0
    told = capsys.readouterr()
    assert "wrong  refusals" in told.out
    assert "NoCheck breaks the contract in 1 point" in told.err

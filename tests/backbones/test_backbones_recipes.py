"""The recipes' code from the page, over stand-ins with the interfaces of the authors' checkouts and known scenes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lorasub as ls
from lorasub.errors import ConfigError
from lorasub.geometry import decode_pose, fields_of_view, invert_pose, unproject_depth

SIZE = (28, 42)
INTRINSICS = torch.tensor([[40.0, 0.0, 21.0], [0.0, 36.0, 14.0], [0.0, 0.0, 1.0]])


def known_poses(views: int) -> Tensor:
    """World-from-camera; the first is not the identity."""
    axis = torch.tensor([0.1, -0.2, 0.3])
    turns = [
        torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3), (axis * (i + 1)).expand(3, 3))) for i in range(views)
    ]
    shifts = [torch.tensor([0.2 + i, 0.1 * i, -0.3]) for i in range(views)]
    return torch.stack([torch.cat((turn, shift[:, None]), 1) for turn, shift in zip(turns, shifts, strict=True)])


class Body(nn.Module):
    """A small network of whichever part names, whose output is known depth times one plus what it computes."""

    def __init__(self, *parts: str) -> None:
        super().__init__()
        self.parts = parts
        for part in parts:
            layers = [nn.Sequential(nn.Linear(3, 3)) for _ in range(2)]
            self.add_module(part, nn.ModuleList(layers))

    def read(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in the model's own normalisation to depth [N, H, W]: three, a little bent."""
        x = images.permute(0, 2, 3, 1)
        for part in self.parts:
            for layer in self.get_submodule(part):
                x = x + 0.1 * layer(x)
        return 3 + 0.5 * torch.tanh(x.sum(-1))


class Pi3(Body):
    def __init__(self) -> None:
        super().__init__(
            "encoder", "decoder", "camera_decoder", "camera_head", "point_decoder", "point_head", "conf_head"
        )

    @classmethod
    def from_pretrained(cls, weights: str) -> Pi3:
        return cls()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        b, s = images.shape[:2]
        depth = self.read(images.flatten(0, 1)).unflatten(0, (b, s))
        poses = torch.eye(4).repeat(b, s, 1, 1)
        poses[..., :3, :] = known_poses(s)
        local = unproject_depth(depth, INTRINSICS)
        return {"local_points": local, "points": local, "conf": depth[..., None], "camera_poses": poses}


class MapAnything(Body):
    def __init__(self) -> None:
        super().__init__("encoder", "info_sharing", "pose_head", "dense_head", "scale_head")
        self.encoder.data_norm_type = "dinov2"

    @classmethod
    def from_pretrained(cls, weights: str) -> MapAnything:
        return cls()

    def forward(self, views: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        found = []
        for view, pose in zip(views, known_poses(len(views)), strict=True):
            assert view["data_norm_type"] == ["dinov2"]
            depth = self.read(view["img"])
            quaternion = ls.encode_pose(pose, INTRINSICS, SIZE)[3:7].expand(len(depth), -1)
            found.append(
                {
                    "pts3d_cam": unproject_depth(depth, INTRINSICS),
                    "cam_trans": pose[:, 3].expand(len(depth), -1),
                    "cam_quats": quaternion,
                    "conf": 1 + depth,
                }
            )
        return found


class AsymmetricCroCo3DStereo(Body):
    def __init__(self) -> None:
        super().__init__(
            "patch_embed", "enc_blocks", "dec_blocks", "dec_blocks2", "downstream_head1", "downstream_head2"
        )

    @classmethod
    def from_pretrained(cls, weights: str) -> AsymmetricCroCo3DStereo:
        return cls()

    def forward(
        self, view1: dict[str, Tensor], view2: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        assert view1["true_shape"].shape == (len(view1["img"]), 2)
        one, two = (unproject_depth(self.read(view["img"]), INTRINSICS) for view in (view1, view2))
        return {"pts3d": one, "conf": one[..., 2]}, {"pts3d_in_other_view": two, "conf": two[..., 2]}


@pytest.fixture
def recipes(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The page's files, where they can be imported, and the checkouts' stand-ins."""
    page = (repository / "docs" / "backbone_recipes.md").read_text(encoding="utf-8")
    files = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE):
        name = block.partition("\n")[0].removeprefix("# ")
        files[name] = block
        (tmp_path / name).write_text(block, encoding="utf-8")
    stand_ins = {
        "pi3.models.pi3": {"Pi3": Pi3},
        "mapanything.models": {"MapAnything": MapAnything},
        "dust3r.model": {"AsymmetricCroCo3DStereo": AsymmetricCroCo3DStereo},
        "mast3r.model": {"AsymmetricMASt3R": AsymmetricCroCo3DStereo},
    }
    for path, names in stand_ins.items():
        parts = path.split(".")
        for depth in range(1, len(parts) + 1):
            module = ModuleType(".".join(parts[:depth]))
            if depth == len(parts):
                for name, value in names.items():
                    setattr(module, name, value)
            monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in files:
        monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return files


def build(name: str) -> ls.Backbone:
    if name == "Pi3":
        from pi3_backbone import Pi3

        return Pi3("yyfz233/Pi3")
    if name == "MapAnything":
        from map_anything_backbone import MapAnything

        return MapAnything()
    from dust3r_backbone import DUSt3R, MASt3R

    return {"DUSt3R": DUSt3R, "MASt3R": MASt3R}[name]("naver/weights")


@pytest.mark.parametrize("name", ["Pi3", "MapAnything", "DUSt3R", "MASt3R"])
def test_a_recipe_keeps_the_contract(recipes: dict[str, str], name: str) -> None:
    model = build(name)
    report = ls.check_backbone(model, views=2, image_size=(32, 48) if "3R" in name else SIZE)
    assert [finding for finding in report.findings if finding.verdict == "wrong"] == []
    assert all(report.groups.values()), report.groups
    assert ls.inject_adapters(model, ls.LoRA(r=1, targets="blocks")).layers


@torch.no_grad()
@pytest.mark.parametrize("name", ["Pi3", "MapAnything"])
def test_cameras_and_points_of_a_known_scene_come_out_in_the_first_views_frame(
    recipes: dict[str, str], name: str
) -> None:
    predictions = build(name)(torch.rand(2, 3, 3, *SIZE))
    cam_from_world, intrinsics = decode_pose(predictions.pose_encoding, SIZE)
    assert torch.allclose(intrinsics, INTRINSICS.expand_as(intrinsics), atol=1e-3)
    matrices = torch.eye(4).repeat(3, 1, 1)
    matrices[:, :3] = known_poses(3)
    expected = (matrices.inverse() @ matrices[0])[:, :3]
    assert torch.allclose(cam_from_world, expected.expand_as(cam_from_world), atol=1e-4)
    local = unproject_depth(predictions.depth, INTRINSICS)
    assert torch.allclose(predictions.world_points[:, 0], local[:, 0], atol=1e-4)
    back = invert_pose(expected[2])
    moved = local[:, 2] @ back[:, :3].T + back[:, 3]
    assert torch.allclose(predictions.world_points[:, 2], moved, atol=1e-3)


def test_recipes_are_short_and_pairs_are_asked_for(recipes: dict[str, str]) -> None:
    assert set(recipes) == {"cameras.py", "pi3_backbone.py", "map_anything_backbone.py", "dust3r_backbone.py"}
    assert max(len(text.splitlines()) for text in recipes.values()) <= 60
    with pytest.raises(ConfigError, match="takes two views"):
        build("DUSt3R")(torch.rand(1, 3, 3, 32, 48))


def test_fields_of_view_come_from_points() -> None:
    points = unproject_depth(1 + torch.rand(2, *SIZE), INTRINSICS)
    vertical, horizontal = 2 * torch.atan(torch.tensor(14 / 36.0)), 2 * torch.atan(torch.tensor(21 / 40.0))
    assert torch.allclose(fields_of_view(points), torch.stack((vertical, horizontal)).expand(2, 2), atol=1e-5)

"""Two engines that share no code but constants make the same pictures."""

from __future__ import annotations

import pytest
import torch

from lorasub.errors import ConfigError
from lorasub.scenes.description import Pattern, Primitive, SceneDescription
from lorasub.scenes.images import ImageAtlas
from lorasub.scenes.presets import SceneSampler
from lorasub.scenes.ranges import GeometryRanges, SceneRanges
from lorasub.scenes.rendering import engines
from lorasub.scenes.rendering.renderer import Layers, Renderer

pytest.importorskip("warp", reason="the extra 'warp' is not installed")
#: Smooth enough that a ray's last bits do not matter.
PICTURES = ImageAtlas.of(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def opaque() -> SceneDescription:
    """Ten objects of any kind in each scene."""
    ranges = SceneRanges(geometry=GeometryRanges(count=(10, 10)))
    return SceneSampler(attribute="all", seed=5, num_views=2, ranges=ranges).sample(range(12))


@pytest.fixture(scope="module")
def clear() -> SceneDescription:
    """A third of the objects is of glass. Glass has to be a single solid with a closed form."""
    shapes = ("sphere", "box", "cylinder", "cone")
    ranges = SceneRanges(geometry=GeometryRanges(count=(10, 10), shapes=shapes))
    scenes = SceneSampler(attribute="all", seed=6, num_views=2, ranges=ranges).sample(range(4))
    scenes.materials.refraction[:, 3::3] = 1.5
    return scenes


@pytest.fixture(scope="module")
def pictured() -> SceneDescription:
    """Half of the surfaces show pictures, on solids of every kind."""
    ranges = SceneRanges(geometry=GeometryRanges(count=(10, 10)))
    scenes = SceneSampler(attribute="all", seed=8, num_views=2, ranges=ranges).sample(range(4))
    scenes.materials.pattern[:, ::2] = int(Pattern.IMAGE)
    scenes.materials.image[:, ::4] = 1
    return scenes


@pytest.fixture(scope="module", params=["opaque", "clear", "pictured"])
def scenes(request: pytest.FixtureRequest) -> SceneDescription:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pictures(scenes: SceneDescription) -> tuple[Layers, Layers]:
    """What the two engines see; a size that no tile divides."""
    fused, eager = (
        Renderer((42, 52), engine=name, shadow_samples=2, images=PICTURES).render(scenes) for name in ("warp", "torch")
    )
    return fused, eager


def test_the_scenes_have_everything(opaque: SceneDescription) -> None:
    scenes = opaque
    assert set(scenes.geometry.kind.unique().tolist()) == {int(kind) for kind in Primitive}
    assert {int(kind) for kind in Pattern} >= set(scenes.materials.pattern.unique().tolist())
    assert len(scenes.materials.pattern.unique()) >= 9
    assert scenes.lights.kind.unique().numel() == 3


def test_engines_see_the_same_surfaces(pictures: tuple[Layers, Layers]) -> None:
    fused, eager = pictures
    same = fused.object_id == eager.object_id
    assert same.float().mean() > 0.9995  # a ray along an edge may go either way
    both = same & fused.valid
    assert torch.equal(fused.valid[same], eager.valid[same])
    close = (fused.depth - eager.depth).abs() < 1e-4
    assert close[both].float().mean() > 0.999
    close = (fused.world_points - eager.world_points).abs().amax(-1) < 5e-4
    assert close[both].float().mean() > 0.999
    close = (fused.normals - eager.normals).abs().amax(-1) < 1e-3
    assert close[both].float().mean() > 0.999


@pytest.mark.parametrize(("layer", "tolerance"), [("albedo", 2e-3), ("shading", 1e-2), ("rgb", 2 / 255)])
def test_engines_agree_on_light(pictures: tuple[Layers, Layers], layer: str, tolerance: float) -> None:
    fused, eager = (getattr(picture, layer) for picture in pictures)
    assert ((fused - eager).abs() <= tolerance).float().mean() > 0.995


def test_threads_and_batches_change_nothing(scenes: SceneDescription) -> None:
    renderer = Renderer((42, 52), engine="warp", images=PICTURES)
    whole = renderer.render(scenes)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        part = renderer.render(scenes[1:3])
    finally:
        torch.set_num_threads(before)
    for name in ("rgb", "depth", "normals", "shading"):
        assert torch.equal(getattr(whole, name)[1:3], getattr(part, name)), name


def test_an_engine_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="unknown rendering engine 'cycles'"):
        engines.choose_engine("cycles")  # type: ignore[arg-type]
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert engines.choose_engine("auto") == "torch"
    with pytest.raises(ConfigError, match="lorasub\\[warp\\]"):
        engines.choose_engine("warp")

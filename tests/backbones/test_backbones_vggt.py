"""How a VGGT behaves: shapes, symmetries, precision, memory, gradients."""

from __future__ import annotations

import fnmatch
import gc

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lorasub import VGGT, Predictions, VGGTConfig
from lorasub.errors import ConfigError


def tensors_of(predictions: Predictions) -> dict[str, Tensor]:
    poses = {f"pose_{i}": pose for i, pose in enumerate(predictions.pose_encodings)}
    fields = ("depth", "depth_conf", "world_points", "world_points_conf")
    return poses | {name: value for name in fields if (value := getattr(predictions, name)) is not None}


def assert_same(found: Predictions, expected: Predictions, tolerance: float = 1e-4) -> None:
    left, right = tensors_of(found), tensors_of(expected)
    assert left.keys() == right.keys()
    for name, value in right.items():
        error = (left[name] - value).abs().max() / value.abs().max()
        assert error <= tolerance, f"{name}: {error}"


def objective(predictions: Predictions) -> Tensor:
    return torch.stack([value.square().mean() for value in tensors_of(predictions).values()]).sum()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(b=st.integers(1, 2), s=st.integers(1, 3), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_any_size_gives_documented_shapes_and_ranges(tiny: VGGT, b: int, s: int, rows: int, columns: int) -> None:
    h, w = 7 * rows, 7 * columns
    with torch.no_grad():
        predictions = tiny(torch.rand(b, s, 3, h, w))
    assert [tuple(pose.shape) for pose in predictions.pose_encodings] == [(b, s, 9)] * 3
    assert predictions.depth.shape == predictions.depth_conf.shape == predictions.world_points_conf.shape
    assert predictions.depth.shape == (b, s, h, w)
    assert predictions.world_points.shape == (b, s, h, w, 3)
    assert all(torch.isfinite(value).all() for value in tensors_of(predictions).values())
    assert (predictions.depth > 0).all()
    assert (predictions.depth_conf >= 1).all()
    assert (predictions.world_points_conf >= 1).all()
    assert all((pose[..., 7:] >= 0).all() for pose in predictions.pose_encodings)


@torch.no_grad()
def test_permuting_the_views_after_the_first_permutes_the_answers(tiny: VGGT, images: Tensor) -> None:
    order = [0, 3, 1, 2]
    expected = tiny(images)
    permuted = Predictions(
        pose_encodings=tuple(pose[:, order] for pose in expected.pose_encodings),
        depth=expected.depth[:, order],
        depth_conf=expected.depth_conf[:, order],
        world_points=expected.world_points[:, order],
        world_points_conf=expected.world_points_conf[:, order],
    )
    assert_same(tiny(images[:, order]), permuted)


@torch.no_grad()
def test_the_first_view_is_special_and_every_view_sees_every_other(tiny: VGGT, images: Tensor) -> None:
    expected = tiny(images)
    swapped = tiny(images[:, [1, 0, 2, 3]])
    assert not torch.allclose(swapped.depth[:, 2], expected.depth[:, 2], rtol=1e-3)
    changed = images.clone()
    changed[:, 3] = 1 - changed[:, 3]
    assert not torch.allclose(tiny(changed).depth[:, 1], expected.depth[:, 1], rtol=1e-3)


@torch.no_grad()
def test_scenes_of_a_batch_do_not_see_each_other(tiny: VGGT, images: Tensor) -> None:
    alone, together = tiny(images[1:]), tiny(images)
    assert torch.allclose(alone.depth, together.depth[1:], rtol=1e-4)
    assert torch.allclose(alone.pose_encoding, together.pose_encoding[1:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_images_are_normalised_inside(tiny: VGGT, images: Tensor) -> None:
    seen = []
    tiny.aggregator.patch_embed.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    tiny(images)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images.movedim(2, -1) - mean) / std
    assert torch.allclose(seen[0], expected.movedim(-1, 2).flatten(0, 1), atol=1e-6)


@pytest.mark.parametrize("frames", [1, 3, 8])
@torch.no_grad()
def test_chunks_of_frames_do_not_change_the_answer(tiny: VGGT, images: Tensor, frames: int) -> None:
    tiny.frames_per_chunk = 100
    expected = tiny(images)
    sizes = []
    tiny.depth_head.norm.register_forward_hook(lambda _, __, output: sizes.append(len(output)))
    tiny.frames_per_chunk = frames
    assert_same(tiny(images), expected)
    assert max(sizes) == frames


def test_gradient_checkpointing_changes_nothing_but_what_is_kept(tiny: VGGT, images: Tensor) -> None:
    def run(checkpointing: bool) -> tuple[Predictions, dict[str, Tensor], int]:
        tiny.gradient_checkpointing = checkpointing
        tiny.zero_grad()
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            predictions = tiny(images)
            kept_forward = kept
            objective(predictions).backward()
        grads = {name: p.grad.clone() for name, p in tiny.named_parameters()}
        return predictions, grads, kept_forward

    tiny.frames_per_chunk = 3
    plain, plain_grads, plain_kept = run(False)
    saving, saving_grads, saving_kept = run(True)
    assert_same(saving, plain, tolerance=0)
    assert saving_kept < plain_kept / 5
    for name, grad in plain_grads.items():
        assert torch.equal(saving_grads[name], grad), name


@pytest.mark.parametrize("trained", ["everything", "encoder", "camera_head"])
def test_gradients_reach_everything_that_trains(tiny: VGGT, images: Tensor, trained: str) -> None:
    patterns = ("*",) if trained == "everything" else tiny.groups[trained]
    for name, parameter in tiny.named_parameters():
        parameter.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    objective(tiny(images)).backward()
    for name, parameter in tiny.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.grad is None or parameter.grad.abs().max() > 0, name


def test_a_pose_iteration_sends_no_gradient_into_earlier_ones(tiny: VGGT, images: Tensor) -> None:
    """An earlier iteration's output layer gets gradient from its own term only, as published."""
    poses = tiny(images).pose_encodings
    poses[2].sum().backward()
    assert tiny.camera_head.empty_pose_tokens.grad is None


def test_a_frozen_encoder_records_nothing(tiny: VGGT, images: Tensor) -> None:
    recording = []
    tiny.aggregator.patch_embed.norm.register_forward_hook(lambda *_: recording.append(torch.is_grad_enabled()))
    tiny.aggregator.patch_embed.requires_grad_(False)
    assert tiny(images).depth.requires_grad
    next(tiny.aggregator.patch_embed.parameters()).requires_grad_(True)
    assert tiny.aggregator.encode(images).requires_grad
    tiny.requires_grad_(False)
    assert tiny(images.clone().requires_grad_()).depth.requires_grad
    assert recording == [False, True, True]


@torch.no_grad()
def test_only_the_taps_stay_alive(tiny_config: VGGTConfig) -> None:
    model = VGGT(tiny_config.replace(num_pairs=24, taps=(4, 11, 17, 23), embed_dim=64))
    images = torch.rand(1, 4, 3, 70, 70)
    token_bytes = 4 * 4 * (5 + 100) * 64
    large: list[int] = []

    def count(*_: object) -> None:
        found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if is_plain(t)}
        large.append(sum(size == token_bytes or size == 2 * token_bytes for size in found.values()))

    def is_plain(candidate: object) -> bool:
        return type(candidate) is Tensor and candidate.device.type == "cpu"

    model.aggregator.global_blocks[-1].register_forward_hook(count)
    taps = model.aggregator(images)
    assert len(taps) == 4
    # three earlier taps, what the last pair works on, and a few temporaries; keeping all would be 23 taps more
    assert 3 <= large[0] <= 9


@pytest.mark.parametrize(
    ("heads", "fields"),
    [
        (("camera",), {"pose_0", "pose_1", "pose_2"}),
        (("depth",), {"depth", "depth_conf"}),
        (("camera", "points"), {"pose_0", "pose_1", "pose_2", "world_points", "world_points_conf"}),
    ],
)
@torch.no_grad()
def test_heads_that_are_left_away_do_not_exist(
    tiny: VGGT, images: Tensor, heads: tuple[str, ...], fields: set[str]
) -> None:
    part = VGGT(tiny.config.replace(heads=heads))
    missing, _ = part.load_state_dict(tiny.state_dict(), strict=False)
    assert not missing
    found, whole = tensors_of(part(images)), tensors_of(tiny(images))
    assert found.keys() == fields
    assert all(torch.allclose(found[name], whole[name], rtol=1e-4, atol=1e-5) for name in fields)
    modules = {"camera": "camera_head", "depth": "depth_head", "points": "point_head"}
    present = {name.split(".")[0] for name, _ in part.named_parameters()}
    assert present == {"aggregator"} | {modules[head] for head in heads}


@torch.no_grad()
def test_bfloat16_autocast_stays_near_float32_and_leaves_the_heads_in_float32(tiny: VGGT, images: Tensor) -> None:
    expected = tiny(images)
    dtypes = {}

    def note(name: str) -> object:
        return lambda _, __, output: dtypes.__setitem__(name, output.dtype)

    tiny.aggregator.global_blocks[0].mlp.fc1.register_forward_hook(note("block"))
    tiny.depth_head.projects[0].register_forward_hook(note("depth"))
    tiny.camera_head.trunk[0].mlp.fc1.register_forward_hook(note("camera"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = tiny(images)
    assert dtypes == {"block": torch.bfloat16, "depth": torch.float32, "camera": torch.float32}
    assert all(value.dtype == torch.float32 for value in tensors_of(found).values())
    assert_same(found, expected, tolerance=0.05)


@torch.no_grad()
def test_a_model_cast_to_bfloat16_runs(tiny: VGGT, images: Tensor) -> None:
    expected = tiny(images)
    found = tiny.bfloat16()(images)
    assert all(value.dtype == torch.bfloat16 for value in tensors_of(found).values())
    assert_same(found, expected, tolerance=0.15)


@pytest.fixture
def shallow(tiny_config: VGGTConfig) -> VGGT:
    """As few blocks as there can be: compilers take their time."""
    sizes = {"encoder_depth": 1, "num_pairs": 4, "taps": (0, 1, 2, 3), "camera_iterations": 2}
    model = VGGT(tiny_config.replace(heads=("camera", "points"), **sizes))
    model.aggregator.patch_embed.requires_grad_(False)
    return model


def test_compiles_without_graph_breaks(shallow: VGGT, images: Tensor) -> None:
    expected = shallow(images)
    torch._dynamo.reset()
    compiled = torch.compile(shallow, backend="eager", fullgraph=True)
    assert_same(compiled(images), expected, tolerance=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_compiled_code_gives_the_same_answer(shallow: VGGT, images: Tensor) -> None:
    expected = shallow(images)
    torch._dynamo.reset()
    assert_same(torch.compile(shallow)(images), expected)


@torch.no_grad()
def test_runs_on_the_meta_device(tiny_config: VGGTConfig) -> None:
    """Shapes and sizes of a model that is too big for this machine can be asked for."""
    with torch.device("meta"):
        predictions = VGGT(tiny_config)(torch.empty(1, 2, 3, 28, 28))
    assert predictions.depth.is_meta
    assert predictions.depth.shape == (1, 2, 28, 28)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.rand(2, 3, 28, 28), "must be [B, S, 3, H, W]"),
        (torch.rand(1, 2, 4, 28, 28), "(1, 2, 4, 28, 28)"),
        (torch.rand(1, 0, 3, 28, 28), "hold nothing"),
        (torch.zeros(1, 1, 3, 28, 28, dtype=torch.uint8), "torch.uint8"),
        (torch.rand(1, 1, 3, 30, 28), "the nearest size that fits is 28 x 28"),
        (torch.rand(1, 1, 3, 28, 5), "patch size 7"),
    ],
)
def test_wrong_images_are_told_in_words(tiny: VGGT, images: Tensor, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny(images)
    assert words in str(caught.value)


def test_groups_cover_the_model_as_they_say(tiny: VGGT) -> None:
    def matched(group: str) -> set[str]:
        patterns = tiny.groups[group]
        return {n for n, _ in tiny.named_modules() if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)}

    assert matched("blocks") == matched("frame_blocks") | matched("global_blocks")
    assert matched("heads") == matched("camera_head") | matched("depth_head") | matched("point_head")
    assert not matched("encoder") & (matched("blocks") | matched("heads"))
    linears = {n for n, m in tiny.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
    assert linears <= matched("encoder") | matched("blocks") | matched("heads")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embed_dim": 36}, "multiple of 4 x num_heads"),
        ({"image_size": 30}, "not a multiple of patch_size"),
        ({"taps": (0, 1, 2, 3)}, "must be four increasing pair indices that end with the last, 4"),
        ({"taps": (1, 1, 3, 4)}, "increasing"),
        ({"heads": ()}, "one or more of"),
        ({"heads": ("depth", "colour")}, "colour"),
        ({"camera_heads": 5}, "camera_heads 5"),
        ({"encoder_depth": 0}, "encoder_depth is 0"),
        ({"dense_features": 12}, "dense_features 12"),
    ],
)
def test_impossible_sizes_are_refused(tiny_config: VGGTConfig, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tiny_config.replace(**changes)
    assert words in str(caught.value)

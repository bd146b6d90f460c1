"""Training from nothing: what is trained, what is averaged and exported, and that a stop changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from scene_examples import random_scenes
from torch.optim import SGD, AdamW

from lorasub.backbones import VGGT, VGGTConfig
from lorasub.backbones.vggt.initialization import sinusoidal_positions
from lorasub.backbones.vggt.presets import find_preset
from lorasub.backbones.vggt.rope import apply_rotary
from lorasub.callbacks import BackboneExport, FinalCheckpoint, WarmWeightAveraging
from lorasub.data import PretrainingScenes, Stage
from lorasub.errors import ConfigError
from lorasub.files import read_tensors
from lorasub.losses import VGGTLoss, attention_loss, matching_loss, patch_matches
from lorasub.scenes.sensor import SensorNuisance
from lorasub.tasks import PretrainingTask
from lorasub.tasks.pretraining import parameter_groups
from lorasub.tasks.schedule import warmup_hold_decay

STAGES = [
    Stage(from_step=0, image_size=28, views=(2, 2), batch_size=2, rendered_views=3),
    Stage(from_step=4, image_size=42, views=(2, 3), batch_size=2),
]
DECAY = 0.3


def make_task(config: VGGTConfig, seed: int = 0, **changes: Any) -> PretrainingTask:
    torch.manual_seed(seed)
    return PretrainingTask(VGGT(config), warmup_steps=2, **changes)


def make_data() -> PretrainingScenes:
    return PretrainingScenes(
        STAGES, reuse=2, pool=2, renewed=1, color_jitter=0.2, sensor=SensorNuisance(), val_scenes=2, val_batch_size=1,
        num_views=2, image_size=28, antialias=False, shadow_samples=1,
    )  # fmt: skip


class StopAfter(Callback):
    """A fit that is killed, or that remembers its weights after every step."""

    def __init__(self, step: int | None = None) -> None:
        self.step = step
        self.weights: list[dict[str, torch.Tensor]] = []
        self.validated: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.weights.append({name: value.clone() for name, value in pl_module.backbone.state_dict().items()})
        if trainer.global_step == self.step:
            raise ZeroDivisionError("killed")

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.validated.append({name: value.clone() for name, value in pl_module.backbone.state_dict().items()})


def fit(task: PretrainingTask, folder: Path, *callbacks: Callback, ckpt: Path | None = None, **changes: Any) -> Trainer:
    checkpoint = ModelCheckpoint(folder, save_last=True, every_n_train_steps=1)
    trainer = Trainer(
        **{"max_steps": 7, **changes},
        accelerator="cpu",
        logger=CSVLogger(folder, name=None, version="log"),
        callbacks=[
            FinalCheckpoint(),
            *callbacks,
            WarmWeightAveraging(decay=DECAY),
            BackboneExport("float32"),
            checkpoint,
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        check_val_every_n_epoch=None,
        val_check_interval=3,
    )
    trainer.fit(task, make_data(), ckpt_path=ckpt, weights_only=True)
    return trainer


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.fixture(scope="module")
def whole(tiny_config: VGGTConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StopAfter]:
    """A fit that was never stopped, and its weights after every step."""
    folder, seen = tmp_path_factory.mktemp("whole"), StopAfter()
    fit(make_task(tiny_config, dense_views=1), folder, seen)
    return folder, seen


@pytest.mark.parametrize("stop", [3, 5])
def test_a_killed_fit_goes_on_exactly(
    tiny_config: VGGTConfig, whole: tuple[Path, StopAfter], tmp_path: Path, stop: int
) -> None:
    """Killed in the middle of a pool, before and after a change of stage; weights, averages, moments: all the same."""
    with pytest.raises(ZeroDivisionError):
        fit(make_task(tiny_config, dense_views=1), tmp_path, StopAfter(stop))
    # what was validated last, in step 3, can be used whatever became of the fit
    exported = _exported(tmp_path).items() if stop > 3 else ()
    assert all(torch.equal(value, whole[1].validated[0][name]) for name, value in exported)
    # another start: every weight has to come from the checkpoint. Killed before its last step was saved.
    fit(make_task(tiny_config, seed=5, dense_views=1), tmp_path, ckpt=tmp_path / "last.ckpt")
    once, twice = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (whole[0], tmp_path))
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        assert same(once[part], twice[part]), part
    assert once["global_step"] == twice["global_step"] == 7
    assert same(read_tensors(whole[0] / "log/backbone/model.safetensors"), _exported(tmp_path))


def test_a_finished_fit_is_prolonged_exactly(
    tiny_config: VGGTConfig, whole: tuple[Path, StopAfter], tmp_path: Path
) -> None:
    """When a fit ends, averaged weights replace the trained ones in the model, but not in its last checkpoint."""
    fit(make_task(tiny_config, dense_views=1), tmp_path, max_steps=4)
    fit(make_task(tiny_config, dense_views=1), tmp_path, ckpt=tmp_path / "last.ckpt")
    assert same(read_tensors(whole[0] / "log/backbone/model.safetensors"), _exported(tmp_path))
    assert not list(tmp_path.glob("last-v*.ckpt"))


def test_averages_are_validated_and_exported(whole: tuple[Path, StopAfter]) -> None:
    folder, seen = whole
    average = seen.weights[0]
    averages = [average]
    for updates, weights in enumerate(seen.weights[1:], start=1):
        kept = min(DECAY, (1 + updates) / (10 + updates))  # 2/11, 3/12, 4/13, then 0.3
        average = {name: kept * average[name] + (1 - kept) * weights[name] for name in weights}
        averages.append(average)
    exported = read_tensors(folder / "log/backbone/model.safetensors")
    assert exported.keys() == average.keys()
    for name, value in average.items():
        torch.testing.assert_close(exported[name], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(seen.validated[0][name], averages[2][name], rtol=1e-5, atol=1e-6)
    name = "aggregator.frame_blocks.0.mlp.fc1.weight"
    assert (exported[name] - seen.weights[-1][name]).abs().max() > 1e-4
    assert VGGT.from_pretrained(folder / "log/backbone").config.embed_dim == 16


def test_half_precision_export_is_half_as_large_and_loads(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    model = VGGT(tiny_config)
    path = model.save_pretrained(tmp_path, dtype=torch.float16)
    assert {tensor.dtype for tensor in read_tensors(path).values()} == {torch.float16}
    loaded = VGGT.from_pretrained(path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())


def test_loss_adds_matching_of_projected_tokens(tiny_config: VGGTConfig) -> None:
    task = make_task(tiny_config, matching_weight=0.25, matching_pair=2, matching_dim=6)
    task.projection.weight.data.normal_()
    batch = task.prepare_batch(make_data().training_batch(4))
    captured: list[torch.Tensor] = []
    task.backbone.aggregator.global_blocks[2].register_forward_hook(lambda m, i, output: captured.append(output))
    terms = task.compute_loss(task(batch.images), batch)

    views, patches = batch.num_views, 9
    tokens = captured[0].view(len(batch), views, -1, 16)[:, :, -patches:]
    expected = matching_loss(tokens @ task.projection.weight.T, patch_matches(batch, 14))
    plain = VGGTLoss()(task(batch.images), batch)
    torch.testing.assert_close(terms.total, plain.total + 0.25 * expected.loss)
    torch.testing.assert_close(terms.parts["matching_accuracy"], expected.accuracy)
    terms.parts["matching"].sum().backward()
    assert task.projection.weight.grad.abs().sum() > 0
    assert task.backbone.aggregator.patch_embed.patch_embed.proj.weight.grad.abs().sum() > 0
    assert task.backbone.aggregator.global_blocks[3].mlp.fc1.weight.grad is None


def test_depth_and_points_can_be_learnt_for_some_of_the_views(tiny_config: VGGTConfig) -> None:
    task = make_task(tiny_config, dense_views=1, matching_weight=0.0)
    batch = task.prepare_batch(random_scenes(2, 3, (28, 28), dtype=torch.float32))
    whole = task.backbone(batch.images)
    cameras = VGGTLoss(depth_weight=0, points_weight=0)(whole, batch)
    seen = set()
    for _ in range(12):
        found = task(batch.images)
        assert found.depth is not None
        assert found.world_points is not None
        assert whole.depth is not None
        (view,) = found.dense_views
        seen.add(view)
        torch.testing.assert_close(found.depth, whole.depth[:, [view]])
        assert found.world_points.shape == (2, 1, 28, 28, 3)
        terms = task.compute_loss(found, batch)
        alone = whole.replace(
            pose_encodings=(),
            depth=whole.depth[:, [view]],
            depth_conf=whole.depth_conf[:, [view]],
            world_points=whole.world_points[:, [view]],
            world_points_conf=whole.world_points_conf[:, [view]],
        )
        dense = VGGTLoss()(alone, batch.select_views([view]))
        torch.testing.assert_close(terms.total, cameras.total + dense.total)
        assert terms.parts.keys() == cameras.parts.keys() | dense.parts.keys()
    assert seen == {0, 1, 2}
    task.eval()
    assert task(batch.images).depth.shape == (2, 3, 28, 28)


def test_loss_teaches_the_first_head_of_a_blocks_attention(tiny_config: VGGTConfig) -> None:
    task = make_task(tiny_config, matching_weight=0.0, attention_weight=0.5, attention_pair=1)
    batch = task.prepare_batch(make_data().training_batch(4))
    attention = task.backbone.aggregator.global_blocks[1].attn
    seen: list[tuple[Any, ...]] = []
    attention.register_forward_pre_hook(lambda m, inputs: seen.append(inputs))
    terms = task.compute_loss(task(batch.images), batch)
    ((tokens, rope),) = seen
    # of the first head, as they attend: normalised, and rotated by their place
    both = attention.qkv(tokens).unflatten(-1, (3, tiny_config.num_heads, -1))[:, :, :2, 0].unbind(2)
    normed = [norm(one) for norm, one in zip((attention.q_norm, attention.k_norm), both, strict=True)]
    q, k = (apply_rotary(one, rope).unflatten(1, (batch.num_views, -1)) for one in normed)
    torch.testing.assert_close(terms.parts["attention"], attention_loss(q, k, patch_matches(batch, 14)))
    torch.testing.assert_close(
        terms.total, VGGTLoss()(task(batch.images), batch).total + 0.5 * terms.parts["attention"]
    )
    assert "matching" not in terms.parts
    terms.parts["attention"].sum().backward()
    assert attention.qkv.weight.grad.abs().sum() > 0
    assert attention.proj.weight.grad is None


def test_a_pair_of_blocks_that_is_not_there_is_told(tiny_config: VGGTConfig) -> None:
    with pytest.raises(ConfigError, match="attention_pair is 9, but the backbone has 4 pairs"):
        make_task(tiny_config, attention_weight=1.0, attention_pair=9)


def test_layer_scales_and_positions_are_raised_before_training(tiny_config: VGGTConfig) -> None:
    plain = VGGT(tiny_config)
    with torch.no_grad():
        plain.aggregator.frame_blocks[0].ls1.gamma[:2] = torch.tensor([-0.2, 0.7])
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    after = PretrainingTask(plain, layer_scale=0.3, position_norm=5.0).backbone.state_dict()
    gamma = after["aggregator.frame_blocks.0.ls1.gamma"]
    torch.testing.assert_close(gamma[:2], torch.tensor([-0.3, 0.7]))
    assert (gamma[2:] == 0.3).all()
    added = (after["aggregator.patch_embed.pos_embed"] - before["aggregator.patch_embed.pos_embed"])[0]
    assert not added[0].any()  # the class token has no place
    torch.testing.assert_close(added[1:].norm(dim=-1).mean(), torch.tensor(5.0))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.endswith(("gamma", "pos_embed")) for name in changed)


@settings(deadline=None)
@given(grid=st.integers(2, 12), quarter=st.integers(2, 16))
def test_a_place_can_be_read_from_its_position_by_a_linear_layer(grid: int, quarter: int) -> None:
    """Least squares finds row and column again; and no two places share a position."""
    positions = sinusoidal_positions(grid, 8 * quarter).double()
    assert positions.shape == (grid * grid, 8 * quarter)
    assert torch.cdist(positions, positions).add(torch.eye(len(positions))).min() > 0.1
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    place = torch.stack((row.flatten(), column.flatten()), -1).double()
    place -= place.mean(0)
    found = positions @ torch.linalg.lstsq(positions, place, driver="gelsd").solution
    assert (found - place).square().mean() < 0.05 * place.square().mean()


def test_everything_is_trained_and_only_weights_of_layers_decay(tiny_config: VGGTConfig) -> None:
    task = make_task(tiny_config)
    decayed, plain = parameter_groups(task)
    names = {id(parameter): name for name, parameter in task.named_parameters()}
    assert {id(p) for p in decayed["params"]} | {id(p) for p in plain["params"]} == set(names)
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    assert plain["weight_decay"] == 0
    for parameter in decayed["params"]:
        assert names[id(parameter)].endswith("weight")
        assert parameter.ndim in (2, 4)
    kept = {names[id(parameter)] for parameter in plain["params"]}
    assert {"backbone.aggregator.camera_token", "backbone.aggregator.patch_embed.pos_embed"} <= kept
    assert not any("fc1.weight" in name or "proj.weight" in name for name in kept)


def test_schedule_rises_stays_and_falls() -> None:
    assert [warmup_hold_decay(step, warmup=3) for step in (0, 1, 2, 3, 1000)] == [0.25, 0.5, 0.75, 1, 1]
    falling = [warmup_hold_decay(8 * step, warmup=0, decay=0.5, progress=step / 8) for step in range(9)]
    assert falling == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    # a fit that is over before its warm-up would be: up within a twentieth of it
    short = [warmup_hold_decay(step, warmup=10**6, decay=0.5, progress=step / 80) for step in (0, 1, 2, 4, 40, 60, 80)]
    assert short == pytest.approx([1e-6, 0.25, 0.5, 1, 1, 0.5, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("part", "steps", "weights"),
    [
        ("matching", 20, {"matching_weight": 1.0}),
        ("attention", 30, {"matching_weight": 0.0, "attention_weight": 1.0, "attention_pair": 1}),
    ],
)
def test_correspondence_is_learnt(part: str, steps: int, weights: dict[str, float], tiny_config: VGGTConfig) -> None:
    """Some steps on the same scenes: counterparts of their patches are found better than before."""
    torch.manual_seed(0)
    task = make_task(tiny_config, loss=VGGTLoss(camera_weight=0, depth_weight=1e-6, points_weight=0), **weights)
    batch = task.prepare_batch(make_data().training_batch(0))
    optimizer = AdamW(parameter_groups(task), lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = task.compute_loss(task(batch.images), batch).parts[part].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_without_weight_nothing_is_matched(tiny_config: VGGTConfig) -> None:
    task = make_task(tiny_config, matching_weight=0.0)
    batch = random_scenes(1, 2, (28, 28), dtype=torch.float32)
    assert "matching" not in task.compute_loss(task(batch.images), task.prepare_batch(batch)).parts


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"matching_pair": 4}, "4 pairs"),
        ({"temperature": 0.0}, "temperature"),
        ({"matching_weight": -1.0}, "weight"),
        ({"dense_views": 0}, "dense_views"),
    ],
)
def test_impossible_settings_are_refused(tiny_config: VGGTConfig, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_task(tiny_config, **changes)


class Clock:
    """Stands for the module ``time`` in Lightning's timer: each training step takes as long as the test says."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Tick(Callback):
    """Lets the time of each step pass, and notes the rate that it was made with."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rates: dict[int, list[float]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.rates[trainer.global_step] = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self.clock.now += self.clock.seconds[trainer.global_step]


def test_a_fit_that_is_limited_by_time_ends_at_rate_zero_and_goes_on_exactly(
    tiny_config: VGGTConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of uneven length; killed an hour into a step that no checkpoint has, and hours until it goes on."""
    clock = Clock([10, 5, 5, 20, 10, 15, 5, 10, 20, 40])  # 100 seconds after the ninth step
    monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", clock)
    once, limits = tmp_path / "once", {"max_steps": -1, "max_time": "00:00:01:40"}
    changes: dict[str, Any] = {"decay": 0.5, "dense_views": 1, "optimizer": lambda groups: AdamW(groups, lr=1e-3)}
    whole = Tick(clock)
    fit(make_task(tiny_config, **changes), once, whole, **limits)
    elapsed = [0, 10, 15, 20, 40, 50, 65, 70, 80]
    expected = [min(1, max((step + 1) / 3, t / 5)) * min(1, (100 - t) / 50) for step, t in enumerate(elapsed)]
    assert [1e3 * rates[0] for rates in whole.rates.values()] == pytest.approx(expected)
    assert all(rates[0] == rates[1] for rates in whole.rates.values())
    # what the next step would be made with
    state = torch.load(once / "last.ckpt", weights_only=True)
    assert state["global_step"] == 9
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0

    class Crash(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 5:
                clock.now += 3600
                raise ZeroDivisionError("killed")

    twice, first, second = tmp_path / "twice", Tick(clock), Tick(clock)
    with pytest.raises(ZeroDivisionError):
        fit(make_task(tiny_config, **changes), twice, first, Crash(), **limits)
    clock.now += 7200
    fit(make_task(tiny_config, seed=5, **changes), twice, second, ckpt=twice / "last.ckpt", **limits)
    assert {**first.rates, **second.rates} == whole.rates
    other = torch.load(twice / "last.ckpt", weights_only=True)
    assert same(state["state_dict"], other["state_dict"])
    assert other["global_step"] == 9


def test_a_decay_needs_an_end(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the fit has no end"):
        fit(make_task(tiny_config, decay=0.5), tmp_path, max_steps=-1)
    with pytest.raises(ConfigError, match="not both"):
        make_task(tiny_config, decay=0.5, decay_steps=3)


def test_a_decay_needs_a_last_step(tiny_config: VGGTConfig, tmp_path: Path) -> None:
    task = make_task(tiny_config, decay_steps=2, optimizer=lambda groups: SGD(groups, lr=0.1))
    with pytest.raises(ConfigError, match="max_steps"):
        fit(task, tmp_path, max_steps=-1, max_time="00:00:01:00")


def test_the_recipe_trains_what_the_preset_is(repository: Path) -> None:
    recipe = yaml.safe_load((repository / "configs" / "pretrain_nano.yaml").read_text(encoding="utf-8"))
    sizes = recipe["model"]["init_args"]["backbone"]["init_args"]["config"]
    assert VGGTConfig(**sizes) == find_preset("nano").config


def _exported(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "log/backbone/model.safetensors")

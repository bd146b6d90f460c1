"""The torchmetrics classes: accumulation, what is missing, collections, and several processes."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed
from scene_examples import random_predictions, random_scenes
from scipy.spatial.transform import Rotation
from torchmetrics import MetricCollection

from lorasub.errors import ConfigError
from lorasub.geometry import encode_pose, normalize_scene
from lorasub.metrics import DepthAccuracy, PointMapError, PoseAccuracy, SceneMetric
from lorasub.metrics.functional import align_depth, depth_errors, point_map_error
from lorasub.structures import Predictions, SceneBatch


def collection() -> MetricCollection:
    return MetricCollection(
        {
            "none": DepthAccuracy("none"),
            "median": DepthAccuracy("median"),
            "frame": DepthAccuracy("median", per="frame"),
            "pose": PoseAccuracy(),
            "depth": PointMapError("depth"),
            "points": PointMapError("points"),
        }
    )


def perfect(batch: SceneBatch) -> Predictions:
    encoding = encode_pose(batch.cam_from_world, batch.intrinsics, batch.image_size)
    return Predictions(pose_encodings=(encoding,), depth=batch.depth, world_points=batch.world_points)


def test_perfect_predictions() -> None:
    batch = normalize_scene(random_scenes())
    metrics = collection()
    metrics.update(perfect(batch), batch)
    for name, value in metrics.compute().items():
        best = 1.0 if "@" in name or "delta" in name else 0.0
        assert value.item() == pytest.approx(best, abs=1e-5), name


def test_depth_units_are_weighted_by_their_pixels() -> None:
    batch = random_scenes(scenes=3)
    predictions = random_predictions(batch)
    for per, start in (("frame", 2), ("scene", 1)):
        metric = DepthAccuracy("median", per=per)
        metric.update(predictions, batch)
        p, g, valid = (x.flatten(start).flatten(0, -2) for x in (predictions.depth, batch.depth, batch.valid))
        values, weights = [], []
        for unit in zip(p, g, valid, strict=True):
            values.append(depth_errors(align_depth(*unit, "median"), *unit[1:]).abs_rel)
            weights.append(unit[2].sum())
        expected = (torch.stack(values) * torch.stack(weights)).sum() / torch.stack(weights).sum()
        torch.testing.assert_close(metric.compute()["abs_rel"], expected.float())


def test_lengths_are_in_the_sources_unit() -> None:
    raw = random_scenes()
    batch = normalize_scene(raw)
    off = perfect(batch).replace(depth=batch.depth * 1.1)
    metric = DepthAccuracy("none")
    metric.update(off, batch)
    expected = (0.1 * raw.depth[0][raw.valid[0]]).square().mean().sqrt()
    other = (0.1 * raw.depth[1][raw.valid[1]]).square().mean().sqrt()
    counts = raw.valid.flatten(1).sum(1)
    pooled = (expected * counts[0] + other * counts[1]) / counts.sum()
    torch.testing.assert_close(metric.compute()["rmse"], pooled.float())


def test_points_survive_any_similarity_of_the_prediction() -> None:
    raw = random_scenes()
    batch = normalize_scene(raw)
    rotation = torch.from_numpy(Rotation.random(random_state=5).as_matrix())
    noise = 0.1 * torch.randn_like(raw.world_points)
    noisy = raw.world_points + noise
    metric = PointMapError("points")
    metric.update(Predictions(world_points=3 * noisy @ rotation.T + 7), batch)
    per_scene = [point_map_error(noisy[b], raw.world_points[b], raw.valid[b]) for b in range(2)]
    torch.testing.assert_close(metric.compute()["point_error"], torch.stack(per_scene).mean().float())
    assert 0.05 < metric.compute()["point_error"] < 0.2  # about the length of the noise


def test_points_from_depth_use_the_predicted_cameras() -> None:
    batch = normalize_scene(random_scenes())
    metric = PointMapError("depth")
    wrong = perfect(batch).pose_encodings[0].clone()
    wrong[:, 1:, :3] += 1.0
    metric.update(perfect(batch).replace(pose_encodings=(wrong,)), batch)
    assert metric.compute()["point_error"] > 0.05


def test_a_diverged_prediction_shows() -> None:
    batch = normalize_scene(random_scenes())
    points = batch.world_points.clone()
    points[0][batch.valid[0]] = torch.nan
    metric = PointMapError("points")
    metric.update(Predictions(world_points=points), batch)
    assert metric.compute()["point_error"].isinf()


@pytest.mark.parametrize("missing", ["heads", "depth", "poses", "everything"])
def test_what_is_missing_gives_nan_quietly(missing: str) -> None:
    batch = random_scenes()
    predictions = Predictions() if missing == "heads" else random_predictions(batch)
    if missing in ("depth", "everything"):
        batch = batch.replace(valid=torch.zeros_like(batch.valid))
    if missing in ("poses", "everything"):
        batch = batch.replace(pose_valid=torch.zeros_like(batch.pose_valid))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = collection()
        metrics.update(predictions, batch)
        results = metrics.compute()
    measured = {name.split("_")[0] for name, value in results.items() if not value.isnan()}
    expected = {"depth": {"pose"}, "poses": {"none", "median", "frame"}}.get(missing, set())
    assert measured == expected


def test_a_collection_keeps_metrics_apart_that_saw_nothing_at_first() -> None:
    """MetricCollection groups metrics with equal states; two that saw no data have equal values."""
    batch = random_scenes()
    metrics = MetricCollection({"none": DepthAccuracy("none"), "median": DepthAccuracy("median")})
    metrics.update(Predictions(), batch)
    metrics.update(random_predictions(batch), batch)
    alone = DepthAccuracy("median")
    alone.update(random_predictions(batch), batch)
    torch.testing.assert_close(metrics.compute()["median_abs_rel"], alone.compute()["abs_rel"])
    assert metrics.compute()["none_abs_rel"] != metrics.compute()["median_abs_rel"]


def test_reset_forgets() -> None:
    batch = random_scenes()
    metric = PoseAccuracy()
    metric.update(random_predictions(batch), batch)
    metric.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics says that nothing was added yet
        assert metric.compute()["auc@30"].isnan()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DepthAccuracy("medain"),
        lambda: DepthAccuracy(per="pixel"),
        lambda: PointMapError("mesh"),
        lambda: PoseAccuracy(auc_threshold=0),
    ],
)
def test_wrong_settings_are_refused(wrong) -> None:
    with pytest.raises(ConfigError):
        wrong()


def test_protocols_tell_settings_apart() -> None:
    metrics: list[SceneMetric] = [*collection().values(), PoseAccuracy((10,)), PoseAccuracy(auc_threshold=5)]
    assert len({metric.protocol for metric in metrics}) == len(metrics)


def ddp_worker(rank: int, folder: str, world: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    try:
        metrics = collection()
        for step in range(rank, 4, world):
            batch = uneven_batch(step)
            metrics.update(random_predictions(batch, seed=step), batch)
        torch.save(metrics.compute(), Path(folder) / f"{world}-{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def uneven_batch(step: int) -> SceneBatch:
    """Batches that differ in how much is known, the last one nothing at all."""
    batch = random_scenes(seed=step)
    if step == 1:
        sparse = torch.arange(batch.valid.numel()).reshape(batch.valid.shape) % 7 == 0
        return batch.replace(valid=batch.valid & sparse)
    return batch if step < 3 else batch.replace(valid=torch.zeros_like(batch.valid), pose_valid=~batch.pose_valid)


@pytest.mark.ddp
def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(ddp_worker, args=(str(tmp_path), 2), nprocs=2)
    metrics = collection()
    for step in range(4):
        batch = uneven_batch(step)
        metrics.update(random_predictions(batch, seed=step), batch)
    expected = metrics.compute()
    for rank in range(2):
        found = torch.load(tmp_path / f"2-{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert not math.isnan(value), name
            torch.testing.assert_close(found[name], value, msg=f"{name} on rank {rank}")

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
from lorasub.metrics import (
    PROTOCOLS,
    ConfidenceCalibration,
    DepthAccuracy,
    PointCloudAccuracy,
    PointMapError,
    PoseAccuracy,
    SceneMetric,
    TrajectoryError,
    protocol_metrics,
)
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
            "clouds": PointCloudAccuracy(icp_distance=1.0, thresholds=(0.5,)),
            "path": TrajectoryError(),
            "calibration": ConfidenceCalibration(),
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
        if name.startswith("calibration"):
            continue  # there is no order among errors that are all 0
        best = 1.0 if "@" in name or "delta" in name or "_nc" in name else 0.0
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
    expected = {"depth": {"pose", "path"}, "poses": {"none", "median", "frame", "calibration"}}.get(missing, set())
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
        lambda: PoseAccuracy(auc_thresholds=(0,)),
    ],
)
def test_wrong_settings_are_refused(wrong) -> None:
    with pytest.raises(ConfigError):
        wrong()


def test_protocols_tell_settings_apart() -> None:
    metrics: list[SceneMetric] = [*collection().values(), PoseAccuracy((10,)), PoseAccuracy(auc_thresholds=(5,))]
    assert len({metric.protocol for metric in metrics}) == len(metrics)


def test_scenes_add_up_to_the_whole() -> None:
    """What result files hold per scene gives the overall value back."""
    metrics = collection()
    totals: dict[str, list[float]] = {}
    for step in range(3):
        batch = uneven_batch(step)
        metrics.update(random_predictions(batch, seed=step), batch)
        for key, metric in metrics.items():
            for scores in metric.last_scenes().values():
                for name, weight in scores.weights.items():
                    sums = totals.setdefault(f"{key}_{name}", [0.0, 0.0])
                    sums[0] += scores.sums[name]
                    sums[1] += weight
    overall = metrics.compute()
    assert totals.keys() == overall.keys()
    for name, (total, weight) in totals.items():
        assert total / weight == pytest.approx(overall[name].item(), rel=1e-5), name


def test_scenes_of_the_last_batch_only() -> None:
    metric = DepthAccuracy()
    batch = random_scenes(scenes=3)
    metric.update(random_predictions(batch), batch)
    assert sorted(metric.last_scenes()) == [0, 1, 2]
    metric.update(Predictions(), batch)
    assert not metric.last_scenes()


def one_pixel(batch: SceneBatch) -> SceneBatch:
    valid = torch.zeros_like(batch.valid)
    valid[:, 0, 0, 0] = True
    return batch.replace(valid=valid)


@pytest.mark.parametrize(
    ("metric", "spoil", "names", "reason"),
    [
        (DepthAccuracy(), one_pixel, {"abs_rel"}, "too few pixels"),
        (DepthAccuracy(), lambda b: b.replace(valid=torch.zeros_like(b.valid)), {"abs_rel"}, "no pixel has"),
        (DepthAccuracy(region="objects"), lambda b: b, {"objects_abs_rel"}, "region 'objects'"),
        (PoseAccuracy(), lambda b: b.replace(pose_valid=torch.zeros_like(b.pose_valid)), {"rra@5"}, "fewer than two"),
        (PointMapError(), one_pixel, {"point_error"}, "do not determine"),
        (PointCloudAccuracy(), one_pixel, {"acc", "nc"}, "cannot align 1 points"),
        (ConfidenceCalibration(), one_pixel, {"ause"}, "too few pixels"),
        (TrajectoryError(), lambda b: b.select_views([0, 1]), {"ate", "rpe_trans"}, "cannot align 2 points"),
    ],
)
def test_too_little_to_measure_is_nan_with_a_reason(metric: SceneMetric, spoil, names: set[str], reason: str) -> None:
    batch = spoil(random_scenes())
    metric.update(random_predictions(batch), batch)
    found = metric.compute()
    assert all(found[name].isnan() for name in names)
    for scene in range(2):
        assert any(reason in note for note in metric.last_scenes()[scene].notes)


def test_cameras_in_one_spot_have_rotations_but_no_directions() -> None:
    batch = random_scenes()
    still = batch.cam_from_world.clone()
    still[..., 3] = (still[..., :3] @ torch.tensor([5.0, -3.0, 2.0], dtype=still.dtype)[:, None])[..., 0]
    batch = batch.replace(cam_from_world=still)
    metric = PoseAccuracy()
    metric.update(random_predictions(batch), batch)
    found = metric.compute()
    assert found["rotation_deg"].isfinite()
    assert found["rra@30"].isfinite()
    assert found["rta@5"].isnan()
    assert found["auc@30"].isnan()
    assert "3 of 3 pairs of views have no baseline" in metric.last_scenes()[0].notes[0]


def test_regions_are_scored_inside_the_masks() -> None:
    batch = random_scenes()
    inside = torch.zeros_like(batch.valid)
    inside[..., 2:6, 3:7] = True
    batch = batch.replace(object_masks=inside)
    wrong = torch.where(inside, 1.5 * batch.depth, batch.depth)
    predictions = perfect(batch).replace(depth=wrong)
    metrics = protocol_metrics([])
    metrics.add_metrics(
        {
            "objects": DepthAccuracy("none", region="objects", thresholds=(1.4, 1.6)),
            "background": DepthAccuracy("none", region="background"),
            "points": PointMapError(region="objects"),
            "all_points": PointMapError(),
        }
    )
    metrics.update(predictions, batch)
    found = metrics.compute()
    assert found["objects_abs_rel"].item() == pytest.approx(0.5)
    assert found["objects_delta@1.4"] == 0
    assert found["objects_delta@1.6"] == 1
    assert found["background_abs_rel"].item() == pytest.approx(0, abs=1e-12)
    assert found["objects_point_error"] > found["point_error"] > 0


def test_frames_depth_range_and_clip() -> None:
    batch = random_scenes(scenes=1, views=4)
    predictions = random_predictions(batch)
    metric = DepthAccuracy("none", max_depth=2.5, clip=1.2, frame_step=2)
    metric.update(predictions, batch)
    p, g, valid = predictions.depth[:, ::2], batch.depth[:, ::2], batch.valid[:, ::2] & (batch.depth[:, ::2] < 2.5)
    expected = ((p.clamp(max=1.2) - g).abs() / g)[valid].mean()
    assert metric.compute()["abs_rel"].item() == pytest.approx(expected.item())


def test_clouds_are_thinned_alike() -> None:
    batch = normalize_scene(random_scenes(size=(20, 20)))
    metric = PointCloudAccuracy(max_points=100)
    metric.update(perfect(batch), batch)
    assert metric.compute()["acc"].item() == pytest.approx(0, abs=1e-5)


def test_every_protocol_measures_perfect_predictions_as_perfect() -> None:
    batch = normalize_scene(random_scenes(views=4))
    metrics = protocol_metrics(list(PROTOCOLS))
    metrics.update(perfect(batch), batch)
    found = metrics.compute()
    assert {name.split("/")[0] for name in found if "/" in name} == set(PROTOCOLS) - {"default"}
    for name, value in found.items():
        if name.startswith("calibration/"):
            continue  # there is no order among errors that are all 0
        # steps of Adam go to and fro around the minimum
        limit = 0.05 if "lad2" in name or name.startswith("submining") else 1e-4
        best = 1.0 if "@" in name or "delta" in name or "/nc" in name else 0.0
        assert value.item() == pytest.approx(best, abs=limit), name


def test_protocols_are_chosen_by_name() -> None:
    assert {metric.protocol_id for metric in protocol_metrics(["default", "evo_sim3"]).values()} == {None, "evo_sim3"}
    with pytest.raises(ConfigError, match="'recons'"):
        protocol_metrics(["recons"])
    with pytest.raises(ConfigError, match="twice"):
        protocol_metrics(["default", "default"])


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

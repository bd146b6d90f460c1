"""What a run of a study would leave, made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np
import torch

from lorasub.files import write_json
from lorasub.metrics.results import Results, SceneResult, SetResult
from lorasub.study import Plan, Record, Step, Store
from lorasub.subspaces import LowRankUpdate, SubspaceBasis, mine_updates

SCENES = 6


def made_up_results(values: list[float]) -> Results:
    """One set, a value for each scene, later ones with more weight."""
    scenes = tuple(
        SceneResult(scene=f"s{i}", frames=("a", "b"), values={"abs_rel": value}, weights={"abs_rel": 1.0 + i})
        for i, value in enumerate(values)
    )
    return Results(sets={"test": SetResult(protocols={"abs_rel": "median"}, scenes=scenes)})


def levels(values: Mapping[str, float], rng: np.random.Generator | None = None) -> Callable[[Step, int], float]:
    """Results around a level for each label of a row; the longest label in the step's name counts."""
    rng = np.random.default_rng(0) if rng is None else rng
    named = {"a plane": " plane", "mean of the training scenes": " mean "}

    def value(step: Step, scene: int) -> float:
        found = [label for label in values if named.get(label, f" {label}") in step.name]
        return values[max(found, key=len)] + 0.002 * scene + 0.002 * float(rng.standard_normal())

    return value


def overlap_file(scale: float = 1.0) -> dict[str, object]:
    def report(first: str, second: str, value: float) -> dict[str, object]:
        row = {"side": "output", "measure": "phi", "value": scale * value, "null_mean": 0.05}
        return {"first": first, "second": second, "summary": {"all": [row, row | {"measure": "distance"}]}}

    pairs = [("geometry", "geometry", 0.4), ("texture", "texture", 0.2), ("geometry", "texture", 0.1)]
    return {"names": ["geometry", "texture"], "reports": [report(*pair) for pair in pairs]}


def separation_file() -> list[dict[str, object]]:
    return [
        {"layers": layers, "side": "output", "within": 0.2, "between": 0.1, "p": p}
        for layers, p in (("all", 0.0123), ("frame_blocks qkv", 0.5))
    ]


def explained_file() -> list[dict[str, object]]:
    def row(basis: str, adapters: str, layers: str, explained: float) -> dict[str, object]:
        return {"basis": basis, "adapters": adapters, "layers": layers, "explained": explained, "chance": 0.01}

    values = {("geometry", "geometry"): 0.5, ("geometry", "texture"): 0.2, ("texture", "geometry"): 0.1}
    return [row(*pair, layers, value) for layers in ("all", "frame_blocks qkv") for pair, value in values.items()] + [
        row("texture", "texture", "all", 0.7)
    ]


def pulled(
    alike: Mapping[tuple[str, float], float], *, between: float, placebo: int
) -> tuple[list[dict[str, object]], np.ndarray]:
    """Four sets of each label and dose, as alike as is said, and placebo sets that agree with nothing."""
    sets: list[dict[str, object]] = []
    for label, dose in alike:
        attribute, _, shift = label.partition(" ")
        sets += [{"label": label, "attribute": attribute, "shift": shift or "whole", "dose": dose}] * 4
    sets += [{"label": "placebo", "attribute": "placebo", "shift": "whole", "dose": 0.0}] * placebo
    noise = 0.002 * np.random.default_rng(0).standard_normal((len(sets), len(sets)))
    cosines = np.full((len(sets), len(sets)), between) + (noise + noise.T) / 2
    for number, value in enumerate(alike.values()):
        cosines[4 * number : 4 * number + 4, 4 * number : 4 * number + 4] += value - between
    if placebo:
        cosines[-placebo:] -= between
        cosines[:-placebo, -placebo:] -= between
    return sets, cosines


def made_up_basis() -> SubspaceBasis:
    generator = torch.Generator().manual_seed(0)
    adapters = [
        {
            "blocks.0.qkv": LowRankUpdate(
                torch.randn(12, 2, generator=generator), torch.randn(2, 10, generator=generator)
            )
        }
        for _ in range(3)
    ]
    return mine_updates(adapters, dim=2)


def fill(
    plan: Plan,
    store: Store,
    *,
    without: tuple[str, ...] = (),
    value: Callable[[Step, int], float] | None = None,
) -> None:
    """Leaves what a run would, for every step but some; ``value`` of a test's scene, by default 0.3 and more."""
    rng = np.random.default_rng(0)
    basis = made_up_basis()
    for number, step in enumerate(plan.graph.values()):
        if step.name.startswith(without):
            continue
        folder = store.prepare(step)
        measured: dict[str, object] = {}
        if step.kind == "test":
            default = [0.3 + 0.1 * i + 0.02 * float(rng.standard_normal()) for i in range(SCENES)]
            made_up_results(default if value is None else [value(step, i) for i in range(SCENES)]).save(folder / "run")
        elif step.kind == "select_lr":
            measured = {"learning_rate": 0.01, "at_edge": "lora" in step.name}
        elif step.kind == "overlap":
            for ending, scale in (("", 1.0), ("_specific", 0.5)):
                write_json(folder / f"overlap{ending}.json", overlap_file(scale))
                (folder / f"overlap{ending}.png").write_bytes(b"")
            write_json(folder / "separation.json", separation_file())
        elif step.kind == "mine":
            basis.save(folder / "basis")
        elif step.kind == "combine":
            measured = {"mean_d_out": 8.0, "mean_d_in": 8.0}
        elif step.kind == "compare_pulls":
            alike = {(group.of.label, group.of.dose): 0.6 for group in step.spec.groups if group.of.dose}
            number = next(group.sets for group in step.spec.groups if not group.of.dose)
            sets, cosines = pulled(alike, between=0.1, placebo=number)
            write_json(folder / "cosines.json", {"sets": sets, "cosines": cosines.tolist()})
        elif step.kind == "explain":
            write_json(folder / "explained.json", explained_file())
            (folder / "explained.png").write_bytes(b"")
        elif step.kind == "remove":
            measured = {"share": 0.25}
        elif step.kind == "finetune":
            measured = {
                "trainable": 100 + number,
                "parameters": {"frame_blocks": {"trainable": {"projected": 64}}, "total": {"trainable": {}}},
                "step_seconds": 0.5,
                "peak_memory_bytes": 2_000_000,
                "peak_memory_of": "process",
                "adapter_bytes": 4000,
                "step_zero_difference": 1e-7,
            }
        record = Record(key=step.key, name=step.name, seconds=1.0, work=step.work, finished=0.0, measured=measured)
        write_json(folder / "record.json", asdict(record))

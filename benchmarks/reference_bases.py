"""Makes the reference bases that come with the package: adapters per attribute, mined, compared, written.

    python -m benchmarks reference_bases                      # into lorasub/subspaces/shipped
    python -m benchmarks reference_bases --partitions 8 --trainer.max_steps 400
    python -m benchmarks reference_bases --study configs/study/nano.yaml        # the adapters that a study has fitted

Fits that have ended are recognised by their adapters and not repeated, so it can be stopped and started again. What it
does not know it hands on to ``lorasub fit``.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lorasub.adapters.mining import mine_subspace, read_adapter
from lorasub.figures import overlap_heatmap, save_figure
from lorasub.files import write_json
from lorasub.study import Store, plan_study
from lorasub.study.reading import read_study
from lorasub.study.store import RUN
from lorasub.subspaces import attribute_overlaps
from lorasub.subspaces.shipped import SHIPPED_BASES

ATTRIBUTES = ("geometry", "texture", "camera", "lighting")
ROOT = Path(__file__).parents[1]


def fit(attribute: str, partition: int, runs: Path, more: list[str]) -> Path:
    """Fit one adapter, unless it is there; its run's folder."""
    run = runs / attribute / str(partition)
    if (run / "adapter" / "adapter_model.safetensors").is_file():
        return run
    command = [
        *(sys.executable, "-m", "lorasub.cli.main", "fit", "--config", str(ROOT / "configs" / f"{attribute}.yaml")),
        *(f"--data.partition={partition}", f"--run.folder={runs}", f"--run.name={attribute}"),
        *(f"--run.version={partition}", "--overlap.references={}", "--panels.scenes=0"),
        *("--trainer.enable_progress_bar=false", *more),
    ]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the fit of {attribute}, partition {partition} failed:\n{done.stderr[-3000:]}")
    print(f"{attribute} {partition}: {time.perf_counter() - started:.0f} s", flush=True)
    return run


def fits_of_study(file: Path, wanted: list[tuple[str, int]]) -> list[Path]:
    """The runs in which a study has fitted its adapters."""
    study = read_study(file)
    store, steps = Store(study.folder), {step.name: step for step in plan_study(study).graph if step.kind == "fit"}
    found = []
    for attribute, partition in wanted:
        step = steps.get(f"fit {attribute} {partition}")
        if step is None or not store.done(step):
            raise SystemExit(
                f"{file} has not fitted partition {partition} of {attribute} yet: lorasub study run {file}"
            )
        found.append(store.folder(step) / RUN)
    return found


def main() -> None:
    """Fit, mine, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/reference"))
    parser.add_argument("--study", type=Path, default=None, help="take the adapters of this study instead of fitting")
    parser.add_argument("--out", type=Path, default=SHIPPED_BASES)
    options, more = parser.parse_known_args()
    wanted = [(attribute, partition) for partition in range(options.partitions) for attribute in ATTRIBUTES]
    if options.study is not None:
        folders = fits_of_study(options.study, wanted)
    else:
        with ThreadPoolExecutor(options.jobs) as pool:
            folders = list(pool.map(lambda one: fit(*one, options.runs, more), wanted))
    groups = {}
    for attribute in ATTRIBUTES:
        mine = [folder for (name, _), folder in zip(wanted, folders, strict=True) if name == attribute]
        read = [read_adapter(folder, attribute=attribute) for folder in mine]
        # the backbone's blocks, which every adapter of the kind has; the heads are a task's own
        groups[attribute] = [
            {path: update for path, update in updates.items() if "_blocks." in path} for updates, _ in read
        ]
        basis = mine_subspace(groups[attribute], dim=options.dim, attribute=attribute)
        sources = tuple(
            dataclasses.replace(source, name=f"{attribute}/{partition}") for partition, (_, source) in enumerate(read)
        )
        basis = dataclasses.replace(
            basis, sources=sources, base_model_hash=sources[0].base_model_hash, base_model_id="nano"
        )
        basis.save(options.out / attribute)
    matrix = attribute_overlaps(groups, dim=options.dim)
    write_json(options.runs / "overlap.json", matrix.to_dict())
    save_figure(overlap_heatmap(matrix), options.runs / "overlap.png", matrix.rows("all"))
    for row in matrix.rows("all"):
        if row["measure"] in ("phi", "distance"):
            print(row["first"], row["second"], row["side"], row["measure"], row["value"], row["null_mean"], row["z"])


if __name__ == "__main__":
    main()

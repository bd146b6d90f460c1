"""Score a model on the real sample sets, before and after a short fit on one of them, and print a table in Markdown.

python -m benchmarks.real_samples [--out runs/real_samples_table] [--config FILE] [OPTIONS OF lorasub fit ...]

Panels of the first scene of each set go to OUT/before and OUT/after, the numbers to OUT/scores.json. Options that are
not known here are given to the command line, such as `--data.base_folder FOLDER` or `--trainer.max_steps 50`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from lorasub.data.real import PosedRGBD
from lorasub.figures.panels import depth_panels
from lorasub.figures.style import save_figure
from lorasub.files import write_json
from lorasub.training import Run, Verb, prepare

#: Column title -> (metric, format); more are in scores.json.
COLUMNS = {
    "AbsRel": ("abs_rel", "{:.3f}"),
    "delta < 1.25": ("delta1", "{:.2f}"),
    "AUC@30": ("auc@30", "{:.3f}"),
    "point error": ("point_error", "{:.3f}"),
}


def main() -> None:
    """Test, fit, test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/real_samples_table")
    parser.add_argument("--config", default="configs/real_samples.yaml")
    known, others = parser.parse_known_args()
    out = Path(known.out)
    fit = [f"--config={known.config}", f"--run.folder={out}", *others]
    scores = {"before": score(fit, out / "before")}
    run = Path(str(started("fit", fit).trainer.log_dir))
    scores["after"] = score([*fit, f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"], out / "after")
    write_json(out / "scores.json", scores)
    print(table(scores["before"], scores["after"]))


def started(verb: Verb, arguments: list[str]) -> Run:
    """Run a verb, and keep its objects."""
    run = prepare(verb, arguments)
    run.start()
    return run


def score(arguments: list[str], panels: Path) -> dict[str, dict[str, float]]:
    """Set -> metric -> value; the panels show the model as it was scored."""
    # without a logger, Lightning would leave its files in the working folder
    run = started("test", [*arguments, "--trainer.logger=false", f"--trainer.default_root_dir={panels}"])
    data, task = run.data, run.task
    assert isinstance(data, PosedRGBD)
    task.eval()
    names = ("test", *data.evaluation_names[1:])
    for name, loader in zip(names, data.test_dataloader(), strict=True):
        batch = task.prepare_batch(next(iter(loader)))
        with torch.inference_mode():
            predictions = task(batch.images)
        save_figure(depth_panels(batch, predictions, align="median"), panels / f"{name}.png", dpi=80)
    values = {key: float(value) for key, value in run.trainer.callback_metrics.items()}
    return {
        name: {key.partition("/")[2]: value for key, value in values.items() if key.startswith(f"{name}/")}
        for name in names
    }


def table(before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]) -> str:
    """Each cell is "before -> after"; a dash where a set lacks what it takes."""
    lines = ["| set | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in before:
        cells = []
        for metric, pattern in COLUMNS.values():
            pair = [scores[name].get(metric, float("nan")) for scores in (before, after)]
            missing = any(value != value for value in pair)
            cells.append("-" if missing else " → ".join(pattern.format(value) for value in pair))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

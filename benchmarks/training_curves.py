"""Draws the curves of a pre-training run from its TensorBoard log.

python -m benchmarks.training_curves runs/pretrain_nano/scratch docs/images/nano_training.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lorasub.figures.style import COLORS, new_figure, save_figure

#: Metric, title.
PANELS = (
    ("val/abs_rel", "depth AbsRel"),
    ("val/matching_accuracy", "patches matched"),
    ("val/rotation_deg", "rotation error (degrees)"),
    ("val/translation_deg", "direction error (degrees)"),
    ("val/auc@30", "AUC@30"),
    ("train/loss", "training loss"),
)


def main() -> None:
    """Read and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    log = EventAccumulator(str(options.run), size_guidance={"scalars": 0})
    log.Reload()
    figure, axes = new_figure(9.0, 4.6, 2, 3)
    for axis, (name, title) in zip(axes, PANELS, strict=True):
        # a run that was continued repeats the steps since its last checkpoint: the later ones count
        values = {event.step: event.value for event in log.Scalars(name)}
        steps = sorted(values)
        axis.plot(steps, [values[step] for step in steps], linewidth=1.2, color=COLORS[0])
        axis.set_title(title)
        axis.set_xlabel("step")
    save_figure(figure, options.out, dpi=100)


if __name__ == "__main__":
    main()

"""Makes the reference bases that come with the package: where each attribute's scenes pull the layers of ``nano``.

    python -m benchmarks reference_bases                      # into lorasub/subspaces/shipped
    python -m benchmarks reference_bases --scenes 64 --json reference_bases.json

Nothing is fitted. On batches of each attribute's training scenes (design ``within``, several partitions), each layer's
gradient G of the loss at the base model is normalised; the leading eigenvectors of the sums of ``G G^T`` and ``G^T G``
are the output and the input side of the attribute's basis (``lorasub mine --from gradients`` makes one of any model).
A basis from half of the partitions is compared with those
from the other half: of the same attribute, and of the others.

Beside them stand placebos, made in the same way from scenes that differ in nothing but their seed (``all``): what a fit
shares with one of these has nothing to do with an attribute.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import write_report
from lorasub.backbones import VGGT
from lorasub.data import SyntheticScenes
from lorasub.scenes.presets import ATTRIBUTES, Attribute, Preset
from lorasub.subspaces import LayerGradients, SubspaceBasis, joined_moments, moment_basis, subspace_overlap
from lorasub.subspaces.baseline_bases import SHIPPED_BASES, SHIPPED_PLACEBOS
from lorasub.tasks import GeometryTask, visit_gradients
from lorasub.training.evidence import rendered_scenes

#: Of the references' scenes. Fits have 0 unless told otherwise: a reference made from a fit's own scenes agrees with it
#: whatever the attribute is.
REFERENCE_SEED = 6000
#: Of the first placebo's scenes; no other data set of the package has it.
PLACEBO_SEED = 7000


def moments(task: GeometryTask, attribute: Preset, partition: int, scenes: int, batch: int) -> LayerGradients:
    """Second moments of the gradients on the first scenes of one partition."""
    gradients = LayerGradients(moments=True)
    # scenes without an attribute have no partitions: a seed of their own stands for one
    seed = PLACEBO_SEED + partition if attribute == "all" else REFERENCE_SEED
    data = SyntheticScenes(attribute=attribute, partition=0 if attribute == "all" else partition, seed=seed)
    seen = visit_gradients(task, rendered_scenes(data, scenes, batch=batch), gradients.add)
    print(f"{attribute} {partition}: loss {seen.loss:.3f} over {seen.scenes} scenes", flush=True)
    return gradients


def basis_of(parts: Sequence[LayerGradients], attribute: Preset, model: VGGT, dim: int, scenes: int) -> SubspaceBasis:
    """The basis of an attribute from the gradients on some of its partitions."""
    return moment_basis(
        joined_moments({str(number): part.side_moments() for number, part in enumerate(parts)}),
        dim=dim,
        base_model_hash=model.weights_hash(),
        base_model_id="nano",
        method="gradients",
        attributes=(attribute,),
        options={
            "partitions": len(parts),
            "scenes_of_each": scenes,
            "design": None if attribute == "all" else "within",
            "seed": PLACEBO_SEED if attribute == "all" else REFERENCE_SEED,
        },
    )


def main() -> None:
    """Visit, decompose, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help="other weights than the preset's")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--scenes", type=int, default=16, help="of each partition")
    parser.add_argument("--batch", type=int, default=2, help="scenes behind one gradient")
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--out", type=Path, default=SHIPPED_BASES)
    parser.add_argument("--placebos", type=int, default=len(ATTRIBUTES))
    parser.add_argument("--placebos_out", type=Path, default=SHIPPED_PLACEBOS)
    parser.add_argument("--only_placebos", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = VGGT.from_preset("nano", weights=options.weights)
    task = GeometryTask(model)
    for number in range(options.placebos):
        seeds = range(number * options.partitions, (number + 1) * options.partitions)
        parts = [moments(task, "all", seed, options.scenes, options.batch) for seed in seeds]
        basis_of(parts, "all", model, options.dim, options.scenes).save(options.placebos_out / str(number))
    if options.only_placebos:
        return
    halves: dict[Attribute, list[SubspaceBasis]] = {}
    for attribute in ATTRIBUTES:
        parts = [
            moments(task, attribute, partition, options.scenes, options.batch)
            for partition in range(options.partitions)
        ]
        basis_of(parts, attribute, model, options.dim, options.scenes).save(options.out / attribute)
        halves[attribute] = [
            basis_of(parts[half::2], attribute, model, options.dim, options.scenes) for half in range(2)
        ]
    rows = []
    for number, first in enumerate(ATTRIBUTES):
        for second in ATTRIBUTES[number:]:
            report = subspace_overlap(halves[first][0], halves[second][1], draws=20)
            rows += [row for row in report.rows("all") if row["measure"] == "phi"]
            for row in rows[-2:]:
                print(
                    f"{first:<9} {second:<9} {row['side']:<7} phi {row['value']:.3f}, by chance {row['null_mean']:.3f}"
                )
    write_report(options.json, "reference_bases", {"weights_hash": model.weights_hash(), "overlaps": rows})


if __name__ == "__main__":
    main()

"""``audit``: is a set of scenes worth fitting an adapter to? Asked before anything is fitted."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from jsonargparse import ArgumentParser, Namespace
from PIL import Image

from lorasub.backbones import Backbone
from lorasub.backbones.opening import open_backbone
from lorasub.cli.arguments import progress, show, verb_parser
from lorasub.cli.gradient_table import PLACEBO, GradientTable, gradient_table
from lorasub.console import text_table
from lorasub.data import SyntheticScenes
from lorasub.errors import DataError
from lorasub.files import atomic_path, write_json
from lorasub.scenes.audit import audit, contact_sheet
from lorasub.scenes.presets import ATTRIBUTES, PRESETS, Design, Preset, SceneSampler
from lorasub.scenes.statistics import distance_between, scene_statistics, share_between
from lorasub.tasks import GeometryTask
from lorasub.tasks.no_look import SOLVED, WANTED, NoLookScores
from lorasub.training.evidence import no_look_scores


def run(arguments: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        DataError: an attribute's set is solved without looking, and ``--force`` was not given.
    """
    parsed = _parser().parse_args(list(arguments))
    backbone = None if parsed.backbone == "none" else open_backbone(parsed.backbone).eval().to(parsed.device)
    variation = [_variation(parsed, preset) for preset in progress(parsed.presets, "preset")]
    result: dict[str, Any] = {"presets": variation}
    parts = ["How much each attribute varies (1: as much as its ranges allow)\n" + text_table(variation)]

    evidence = [_evidence(parsed, preset, backbone) for preset in progress(parsed.presets, "preset")]
    result["evidence"] = [one.row() for one in evidence]
    parts.append(_EVIDENCE + "\n" + text_table([one.row() for one in evidence]))
    verdicts = _verdicts(parsed, evidence, backbone)
    if parsed.gradients:
        found = _gradients(parsed, backbone or open_backbone("nano").eval().to(parsed.device))
        result["gradients"] = {"comparisons": found.data(), "losses": dict(found.losses), "scenes": found.scenes}
        parts.append(_GRADIENTS.format(scenes=found.scenes, targets=parsed.targets) + "\n" + text_table(found.rows()))
        parts.append("The same cosines by groups of layers\n" + text_table(found.group_rows()))
        verdicts += found.verdicts()
    result["verdicts"] = verdicts
    if verdicts:
        parts.append("\n".join(verdicts))
    if parsed.out:
        write_json(Path(parsed.out) / "audit.json", result)
        parts.append(f"contact sheets and audit.json: {parsed.out}")
    show(result, "\n\n".join(parts), as_json=parsed.json)
    _refuse([one for one in evidence if one.attribute is not None and one.scores.solved], force=parsed.force)


#: AUC@30 of the mean pose above which the poses of a set are known without looking.
KNOWN_POSES = 0.5
_EVIDENCE = """What models that do not look score on held-out scenes (AbsRel: lower is better; AUC@30: higher), beside
the zero-shot backbone; how much of the variance of the other attributes lies between partitions (0: they differ by
chance only, 1: each is one scene); how far the set lies from pre-training (difference of means, in standard
deviations)"""
_GRADIENTS = """Agreement of gradients at the base model ({scenes} scenes a set, layers: {targets}). cosine: do two sets
pull alike? corrected: the same, had the sets been endless. RV: do they use the same directions? placebo: sets that
differ in nothing but their seed"""


def _parser() -> ArgumentParser:
    parser = verb_parser(
        "audit",
        "Ask of training sets of scenes, before anything is fitted: does only the chosen attribute vary, what does a "
        "model score that does not look, do partitions differ, how far are they from pre-training, and (--gradients) "
        "do they pull the base model anywhere?",
        "lorasub audit geometry texture --out audit",
    )
    add = parser.add_argument
    add(
        "presets",
        nargs="*",
        type=Preset,
        default=list(ATTRIBUTES),
        help=f"some of {', '.join(PRESETS)}; the first four",
    )
    add("--design", type=Design, default="within", help=", ".join(get_args(Design)))
    add("--dose", type=float, default=1.0, help="of design shift")
    add("--partitions", type=int, default=2, help="partitions that are compared, from the first on")
    add("--partition", type=int, default=0, help="the first partition")
    add("--seed", type=int, default=0)
    add("--num_scenes", type=int, default=16, help="scenes of each set that are compared and scored")
    add("--num_views", type=int, default=4)
    add("--image_size", type=int, default=112, help="height and width of the scenes, a multiple of the patch size")
    add("--backbone", type=str, default="nano", help="nano, vggt-1b, a folder or file of weights, or none")
    trained = "presets that the backbone was trained on"
    add("--pretraining", nargs="+", type=Preset, default=["all", "indoor"], help=trained)
    add("--gradients", action="store_true", help="compare gradients at the base model; minutes")
    add("--gradient_scenes", type=int, default=24, help="scenes of each set whose gradients are compared")
    add("--targets", type=str, default="blocks", help="layers whose gradients are compared")
    add("--device", type=str, default="cuda" if torch.cuda.is_available() else "cpu")
    add("--force", action="store_true", help="end with 0 although a set is solved without looking")
    add("--out", type=str, default=None, help="folder for audit.json and a contact sheet of each preset")
    return parser


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """Evidence about one preset's sets.

    Attributes:
        preset: the preset.
        attribute: the same if it is an attribute, None if everything varies.
        design: of the sets.
        scores: of the first partition.
        between: attribute to the share of its statistics' variance that lies between partitions.
        distance: attribute to the distance of its statistics from those of pre-training.
    """

    preset: Preset
    attribute: str | None
    design: str
    scores: NoLookScores
    between: dict[str, float]
    distance: dict[str, float]

    def row(self) -> dict[str, Any]:
        """For the table."""
        scores, others = self.scores, [name for name in ATTRIBUTES if name != self.attribute]
        seen = scores.backbone
        return {
            "set": f"{self.preset} {self.design}" if self.attribute else self.preset,
            "mean map": scores.mean.abs_rel,
            "plane": scores.plane.abs_rel,
            "zero-shot": None if seen is None else seen.abs_rel,
            "times": scores.ratio,
            "AUC mean pose": scores.mean.auc_30,
            "AUC zero-shot": None if seen is None else seen.auc_30,
            "others between": max(self.between[name] for name in others),
            "from pre-training": None if self.attribute is None else self.distance[self.attribute],
            "others from it": max(self.distance[name] for name in others),
        }


def _variation(parsed: Namespace, preset: Preset) -> dict[str, Any]:
    """Measures the variation of each attribute; writes a contact sheet on the way."""
    sampler = _data(parsed, preset).train_sampler
    size = (parsed.image_size // 2, parsed.image_size // 2)
    found = audit(dataclasses.replace(sampler, num_views=2), num_scenes=parsed.num_scenes, image_size=size)
    dominance = found.dominance(sampler.attribute) if sampler.attribute in ATTRIBUTES else None
    if parsed.out:
        name = f"scenes_{preset}.png" if parsed.design == "within" else f"scenes_{preset}_{parsed.design}.png"
        sheet = Image.fromarray(contact_sheet(dataclasses.replace(sampler, num_views=4)))
        with atomic_path(Path(parsed.out) / name) as temporary:
            sheet.quantize(256).save(temporary, format="PNG", optimize=True)  # a third of the size
    row: dict[str, Any] = {"preset": found.preset, **{str(name): value for name, value in found.images.items()}}
    return row | {"chosen over the largest other": dominance, "scenes": found.scenes}


def _evidence(parsed: Namespace, preset: Preset, backbone: Backbone | None) -> _Evidence:
    """Scores without looking, differences between partitions, distance from pre-training."""
    count = range(max(parsed.num_scenes, 16))
    sets = [
        scene_statistics(_data(parsed, preset, partition).train_sampler.sample(count))
        for partition in range(parsed.partition, parsed.partition + max(parsed.partitions, 2))
    ]
    seen = [
        scene_statistics(SceneSampler(attribute=one, num_views=parsed.num_views).sample(range(64)))
        for one in parsed.pretraining
    ]
    return _Evidence(
        preset=preset,
        attribute=preset if preset in ATTRIBUTES else None,
        design=f"{parsed.design} {parsed.dose:g}" if parsed.design == "shift" else parsed.design,
        scores=_scores(parsed, _data(parsed, preset), backbone),
        between={name: share_between([found[name] for found in sets]) for name in ATTRIBUTES},
        distance={
            name: distance_between(
                torch.cat([found[name] for found in sets]), torch.cat([found[name] for found in seen])
            )
            for name in ATTRIBUTES
        },
    )


def _scores(parsed: Namespace, data: SyntheticScenes, backbone: Backbone | None) -> NoLookScores:
    training = max(24, parsed.num_scenes)
    return no_look_scores(data, backbone, training=training, held_out=parsed.num_scenes, device=parsed.device)


def _verdicts(parsed: Namespace, evidence: Iterable[_Evidence], backbone: Backbone | None) -> list[str]:
    """Lines on attributes whose set does not leave the backbone far ahead of not looking, and why."""
    evidence = list(evidence)
    poses = [
        f"{one.preset}: the mean pose of each view scores AUC@30 {one.scores.mean.auc_30:.2f}: known without looking"
        for one in evidence
        if one.attribute and one.scores.mean.auc_30 > KNOWN_POSES
    ]
    short = [one for one in evidence if one.attribute and one.scores.ratio is not None and one.scores.ratio < WANTED]
    if not short:
        return poses
    usual = _scores(parsed, _data(parsed, parsed.pretraining[0]), backbone)
    return [*poses, *(f"{one.preset}: {_shortfall(one.scores, usual, parsed.pretraining[0])}" for one in short)]


def _shortfall(scores: NoLookScores, usual: NoLookScores, name: str) -> str:
    """Reasons for which a model that does not look is not :data:`WANTED` times worse than the backbone."""
    assert scores.backbone is not None
    assert usual.backbone is not None
    assert usual.ratio is not None
    known = (
        f"not looking has AbsRel {scores.best:.3f}, {scores.ratio:.1f} times the backbone's "
        f"{scores.backbone.abs_rel:.3f} ({WANTED:g} wanted)"
    )
    if scores.best < 0.7 * usual.best:
        return f"{known}: depth varies less between scenes than in '{name}', where not looking has {usual.best:.3f}"
    if scores.backbone.abs_rel > 1.3 * usual.backbone.abs_rel:
        return (
            f"{known}: the backbone is worse here than on scenes of its pre-training ('{name}': "
            f"{usual.backbone.abs_rel:.3f}), which is what an adapter may mend"
        )
    return (
        f"{known}: the backbone is too weak for more. Even on scenes of its pre-training ('{name}') not looking has "
        f"only {usual.ratio:.1f} times its error ({usual.best:.3f} against {usual.backbone.abs_rel:.3f})"
    )


def _refuse(solved: Sequence[_Evidence], *, force: bool) -> None:
    if not solved or force:
        return
    names = ", ".join(f"{one.preset} (AbsRel {one.scores.best:.3f})" for one in solved)
    raise DataError(
        f"solved without looking, so not fit for training an adapter: {names}; below {SOLVED:g} an adapter would learn "
        "one depth map. Take another design, a larger pool or wider ranges; --force ends without this error"
    )


def _gradients(parsed: Namespace, backbone: Backbone) -> GradientTable:
    """Gradients of every attribute's partitions, and of a placebo."""
    sets = [
        (f"{preset} {partition}", preset, _data(parsed, preset, partition))
        for preset in parsed.presets
        if preset in ATTRIBUTES
        for partition in range(parsed.partition, parsed.partition + parsed.partitions)
    ]
    for number in range(max(parsed.partitions, 2)):
        data = _data(parsed, PLACEBO, seed=parsed.seed + number)
        sets.append((f"{PLACEBO} seed {parsed.seed + number}", PLACEBO, data))
    with tempfile.TemporaryDirectory() as folder:
        return gradient_table(
            GeometryTask(backbone).to(parsed.device),
            progress(sets, "set"),
            scenes=parsed.gradient_scenes,
            folder=Path(folder),
            targets=parsed.targets,
            device=parsed.device,
        )


def _data(
    parsed: Namespace, preset: Preset, partition: int | None = None, *, seed: int | None = None
) -> SyntheticScenes:
    return SyntheticScenes(
        attribute=preset,
        partition=parsed.partition if partition is None else partition,
        design=parsed.design,
        dose=parsed.dose,
        seed=parsed.seed if seed is None else seed,
        num_views=parsed.num_views,
        image_size=parsed.image_size,
        antialias=False,
        shadow_samples=1,
    )

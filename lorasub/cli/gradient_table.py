"""The table of ``audit --gradients``: do halves, partitions, attributes and a placebo pull the base model alike?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasub.data import SyntheticScenes
from lorasub.errors import ConfigError
from lorasub.scenes.presets import Preset
from lorasub.subspaces import Agreement, GradientSet, LayerGradients, SetAgreement, compare_gradients, mean_agreement
from lorasub.tasks import GeometryTask, visit_gradients
from lorasub.training.evidence import rendered_scenes

#: An attribute whose halves agree at less than this is not worth fitting.
RELIABLE = 0.3
#: Name of the sets that differ in nothing but their seed.
PLACEBO: Preset = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientTable:
    """Agreement of gradients by what is compared.

    Attributes:
        comparisons: (kind, which) to the agreements of that kind: ``halves`` of the sets of an attribute,
            ``partitions`` of an attribute, two ``attributes``, an attribute ``with all``, and ``placebo``: two sets of
            ``all``.
        losses: name of a set to the base model's mean loss on it.
        scenes: of each set.
    """

    comparisons: Mapping[tuple[str, str], Sequence[SetAgreement]]
    losses: Mapping[str, float]
    scenes: int

    def rows(self) -> list[dict[str, Any]]:
        """One row for each comparison, means over all layers. ``corrected`` is what halves would allow taken out."""
        found = []
        for (kind, which), agreements in self.comparisons.items():
            whole = mean_agreement(one.whole for one in agreements)
            corrected = None if kind == "halves" else self._corrected(agreements)
            found.append(
                {
                    "compared": kind,
                    "of": which,
                    "cosine": whole.cosine,
                    "corrected": corrected,
                    "RV output": whole.rv_output,
                    "RV input": whole.rv_input,
                    "pairs": len(agreements),
                }
            )
        return found

    def group_rows(self) -> list[dict[str, Any]]:
        """The cosine of each comparison by groups of layers, such as ``frame_blocks qkv``."""
        return [
            {"compared": kind, "of": which, **{group: one.cosine for group, one in self._groups(agreements).items()}}
            for (kind, which), agreements in self.comparisons.items()
        ]

    def data(self) -> list[dict[str, Any]]:
        """Every comparison with all numbers of all groups, for JSON."""
        return [
            row | {"groups": {group: one._asdict() for group, one in self._groups(agreements).items()}}
            for row, agreements in zip(self.rows(), self.comparisons.values(), strict=True)
        ]

    def verdicts(self) -> list[str]:
        """One line for each attribute, in words."""
        cosines = {key: mean_agreement(one.whole for one in found).cosine for key, found in self.comparisons.items()}
        lines = []
        for (kind, which), halves in cosines.items():
            if kind != "halves" or which == PLACEBO:
                continue
            if halves < RELIABLE:
                lines.append(
                    f"{which}: not worth fitting. Two halves of its sets of {self.scenes} scenes pull the base model "
                    f"alike at {halves:.2f} only ({RELIABLE} wanted){self._needed(halves)}"
                )
                continue
            own = cosines.get(("partitions", which))
            others = [
                value for (kind, pair), value in cosines.items() if kind == "attributes" and which in pair.split()
            ]
            if own is None or not others:
                lines.append(f"{which}: its halves agree at {halves:.2f}")
            elif own > max(others):
                lines.append(
                    f"{which}: its halves agree at {halves:.2f}, its partitions at {own:.2f}, more than with any other "
                    f"attribute (at most {max(others):.2f})"
                )
            else:
                lines.append(
                    f"{which}: its halves agree at {halves:.2f}, but its partitions at {own:.2f}, no more than with "
                    f"another attribute (up to {max(others):.2f}); nothing here is its own"
                )
        return lines

    def _needed(self, halves: float) -> str:
        """Number of scenes that would do (Spearman-Brown prophecy formula), for the end of a sentence."""
        if halves < 0.01:
            return "; they share nothing that more scenes would bring out"
        factor = RELIABLE * (1.0 - halves) / (halves * (1.0 - RELIABLE))
        return f"; sets of some {math.ceil(factor * self.scenes)} scenes would reach that, if scenes were all it takes"

    @staticmethod
    def _groups(agreements: Sequence[SetAgreement]) -> dict[str, Agreement]:
        each = [one.groups() for one in agreements]
        return {group: mean_agreement(one[group] for one in each) for group in each[0]}

    def _corrected(self, agreements: Sequence[SetAgreement]) -> float | None:
        """Mean cosine over the geometric mean of both sets' halves (Spearman's correction for attenuation)."""
        halves = {
            one.one: one.whole.cosine for found in self.comparisons.values() for one in found if one.one == one.two
        }
        values = [
            one.whole.cosine / math.sqrt(halves[one.one] * halves[one.two])
            for one in agreements
            if min(halves[one.one], halves[one.two]) > 0.02
        ]
        return sum(values) / len(values) if values else None


def gradient_table(
    task: GeometryTask,
    sets: Iterable[tuple[str, str, SyntheticScenes]],
    *,
    scenes: int,
    folder: Path,
    targets: str = "blocks",
    batch: int = 2,
    device: str = "cpu",
) -> GradientTable:
    """Gather the gradients of sets and compare them.

    Memory holds the gradients of one set and those of single layers of the others, which lie in files.

    Args:
        task: the base model.
        sets: (name, attribute, scenes) each; those of :data:`PLACEBO` are the placebo.
        scenes: of each set, at least two batches; they go to its two halves in turn.
        folder: for the files.
        targets: which layers.
        batch: scenes at a time.
        device: where they are rendered, that of the task.

    Raises:
        ConfigError: a set has one batch, and so no second half.
    """
    if scenes <= batch:
        raise ConfigError(
            f"{scenes} scenes of a set have no two halves: {batch} are taken at a time; give more of them"
        )
    gathered: list[GradientSet] = []
    losses: dict[str, float] = {}
    for name, attribute, data in sets:
        halves = LayerGradients(), LayerGradients()
        batches = rendered_scenes(data, scenes, batch=batch, device=device)
        losses[name] = visit_gradients(task, batches, [half.add for half in halves], targets=targets).loss
        one, two = (half.save(folder / f"{len(gathered)}_{i}.safetensors") for i, half in enumerate(halves))
        gathered.append(GradientSet(name=name, attribute=attribute, halves=(one, two)))
    attribute_of = {each.name: each.attribute for each in gathered}
    comparisons: dict[tuple[str, str], list[SetAgreement]] = {}
    for found in compare_gradients(gathered):
        comparisons.setdefault(_kind(found, attribute_of), []).append(found)
    order = ("halves", "partitions", "attributes", "with all", "placebo")
    ordered = {key: comparisons[key] for kind in order for key in comparisons if key[0] == kind}
    return GradientTable(comparisons=ordered, losses=losses, scenes=scenes)


def _kind(found: SetAgreement, attribute_of: Mapping[str, str]) -> tuple[str, str]:
    one, two = attribute_of[found.one], attribute_of[found.two]
    if found.one == found.two:
        return "halves", one
    if one == two:
        return ("placebo", "seeds of all") if one == PLACEBO else ("partitions", one)
    return ("with all", one if two == PLACEBO else two) if PLACEBO in (one, two) else ("attributes", f"{one} {two}")

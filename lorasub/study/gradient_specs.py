"""Settings of the gradient test: do attributes pull the base model in directions of their own?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lorasub.errors import ConfigError
from lorasub.scenes.presets import ATTRIBUTES, END_POINTS, shifted
from lorasub.scenes.ranges import Attribute, SceneRanges
from lorasub.study.basis_specs import Spec, at_least

#: What the sets are called that differ in nothing but their seed.
PLACEBO = "placebo"
#: Name of the shift of everything that an attribute's end point names.
WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class GradientTest(Spec):
    """Sets of scenes outside of pre-training whose gradients are compared, and placebo sets.

    Attributes:
        doses: of design ``shift``. At each, every attribute has sets of its own.
        shifts: attribute -> name -> ranges that are moved alone, at the largest dose: is an attribute one direction, or
            several?
        partitions: sets of each attribute and dose, and of each shift.
        scenes: of each set; they go to its two halves in turn.
        placebo: sets of the preset ``all``, which differ in nothing but their seed.
        targets: layers, as an adapter's.
    """

    doses: list[float] = field(default_factory=lambda: [0.5, 1.0])
    shifts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    partitions: int = 4
    scenes: int = 16
    placebo: int = 12
    targets: str = "blocks"

    def __post_init__(self) -> None:
        for name, least in (("partitions", 2), ("scenes", 4), ("placebo", 2)):
            at_least(f"gradient_test.{name}", getattr(self, name), least)
        if not self.doses:
            raise ConfigError("gradient_test.doses is empty; give at least one, such as 1.0")
        for attribute, shifts in self.shifts.items():
            if attribute not in ATTRIBUTES:
                raise ConfigError(f"gradient_test.shifts: '{attribute}' is none of {', '.join(ATTRIBUTES)}")
            for name, moved in shifts.items():
                if unknown := sorted(set(moved) - set(END_POINTS[attribute])) or (not moved and [name]):
                    known = ", ".join(END_POINTS[attribute])
                    raise ConfigError(f"gradient_test.shifts.{attribute}.{name}: {unknown} is none of {known}")

    def kinds(self, attributes: list[str]) -> Iterator[ShiftedSets]:
        """Every attribute at every dose, then every single shift at the largest dose, then the placebo."""
        for dose in self.doses:
            for attribute in attributes:
                yield ShiftedSets(attribute=attribute, dose=dose)
        for attribute in attributes:
            for name, moved in self.shifts.get(attribute, {}).items():
                yield ShiftedSets(attribute=attribute, dose=max(self.doses), shift=name, moved=tuple(moved))
        yield ShiftedSets(attribute=PLACEBO, dose=0.0)


@dataclass(frozen=True, kw_only=True)
class ShiftedSets:
    """Which sets of scenes: those of an attribute at a dose, of one of its shifts, or of the placebo."""

    attribute: str
    dose: float
    shift: str = WHOLE
    moved: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people: ``camera roll``."""
        return self.attribute if self.shift == WHOLE else f"{self.attribute} {self.shift}"

    def arguments(self, number: int) -> dict[str, object]:
        """Arguments of :class:`lorasub.SyntheticScenes` of one set: another seed, or else another partition."""
        if self.attribute == PLACEBO:
            return {"attribute": "all", "seed": number}
        moved = {"attribute": self.attribute, "design": "shift", "partition": number}
        if self.shift == WHOLE:
            return {**moved, "dose": self.dose}
        attribute: Attribute = next(name for name in ATTRIBUTES if name == self.attribute)
        part = getattr(shifted(SceneRanges(), attribute, self.dose), attribute)
        values = {name: _plain(getattr(part, name)) for name in self.moved}
        # at dose 0 nothing is moved but what the ranges themselves say
        return {**moved, "dose": 0.0, "ranges": {attribute: values}}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

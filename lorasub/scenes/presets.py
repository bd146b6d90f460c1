"""The experiment's designs: the attribute that varies, its range, and the keys of scenes.

An attribute's data set varies in one of four designs:

``within``
    The chosen attribute is drawn anew for every scene from its whole range. The others come from a pool of whole
    scenes that *all* attributes and partitions share, each drawn from the whole ranges; held-out scenes have a pool of
    their own. So partitions differ in nothing but chance, and no adapter can learn one scene by heart.
``shift``
    The chosen attribute lies outside of what ``all`` shows in pre-training, by a ``dose``
    (:mod:`lorasub.scenes.presets`); the others are as in pre-training. Every partition has scenes of its own.
``across``
    Partition p owns a sub-range of the chosen attribute; everything else is drawn by the same streams in every
    partition. The released generator of "Mining Attribute Subspaces".
``narrow``
    As ``within``, but the others come from a pool of near-equal draws around the partition's own template. Called
    ``within`` before; kept to make earlier data sets again. A partition shows little more than one scene, and adapters
    learn that scene.

``all`` lets everything vary moderately, for pre-training. So do two presets with ranges of their own: ``planar``, flat
photographs of faces (label 0) and faces (label 1), and ``transparent``, objects of glass. ``indoor`` lets everything
vary over its whole range, in rooms that are seen from inside (:mod:`lorasub.scenes.indoor`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch

from lorasub.errors import ConfigError
from lorasub.rng import Key, generator, uniforms
from lorasub.scenes.cameras import CAMERA_DRAWS, draw_cameras
from lorasub.scenes.description import SceneDescription
from lorasub.scenes.geometry import GEOMETRY_DRAWS, draw_geometry
from lorasub.scenes.indoor.sampling import INDOOR_DRAWS, draw_indoor
from lorasub.scenes.lights import LIGHT_DRAWS, draw_lights
from lorasub.scenes.materials import MATERIAL_DRAWS, draw_materials
from lorasub.scenes.portraits import draw_portrait_materials, draw_portraits
from lorasub.scenes.ranges import CLEAR_SHAPES, PRESET_RANGES, Attribute, Range, SceneRanges
from lorasub.scenes.streams import Draws, Spread

Preset = Literal["geometry", "texture", "camera", "lighting", "all", "planar", "transparent", "indoor"]
Design = Literal["within", "shift", "across", "narrow"]
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)
PRESETS: tuple[Preset, ...] = get_args(Preset)
DESIGNS: tuple[Design, ...] = get_args(Design)

_COUNTS = {
    "geometry": GEOMETRY_DRAWS,
    "texture": MATERIAL_DRAWS,
    "camera": CAMERA_DRAWS,
    "lighting": LIGHT_DRAWS,
}
_INDOOR_COUNTS = dict(zip(ATTRIBUTES, INDOOR_DRAWS, strict=True))

#: Draws in the pool of a design that has one.
POOL: Mapping[Design, int] = {"within": 256, "narrow": 64}
#: Seed of configs/pretrain_nano.yaml: where the windows of ``all`` lie in pre-training.
_PRETRAINING_SEED = 0
_WIDE, _NARROW, _OWNED, _MODERATE = Spread(1.0, 1.0), Spread(0.005, 0.0), Spread(0.35, 0.35), Spread(0.7, 1.0)


@dataclass(frozen=True, kw_only=True)
class Spreads:
    """Shares of the ranges that are open to an attribute, by the part it plays.

    Attributes:
        wide: the chosen attribute of designs ``within``, ``shift`` and ``narrow``, and the pool of ``within``.
        narrow: the other attributes of design ``narrow``.
        owned: the chosen attribute of design ``across``: a partition's own sub-range.
        moderate: everything else.
    """

    wide: Spread = _WIDE
    narrow: Spread = _NARROW
    owned: Spread = _OWNED
    moderate: Spread = _MODERATE


@dataclass(frozen=True, slots=True)
class _Role:
    """Source of an attribute's draws.

    Attributes:
        template: key of the template's stream.
        scenes: beginning of the scenes' keys.
        spread: how far draws may stray from the template.
        pooled: scenes take one of the pool's draws instead of one of their own.
    """

    template: Key
    scenes: Key
    spread: Spread
    pooled: bool = False


@dataclass(frozen=True, kw_only=True)
class SceneSampler:
    """Describes scene i of a data set, a pure function of the fields below and i.

    Attributes:
        attribute: what varies, or a preset in which everything does.
        partition: which of the attribute's data sets.
        design: ``within``, ``shift``, ``across`` or ``narrow``, see the module.
        seed: of everything.
        num_views: views per scene.
        bases: size of the pool from which designs ``within`` and ``narrow`` take the attributes that do not vary; None:
            256 and 64. A small one lets a model learn depths and poses by heart.
        dose: how far the chosen attribute of design ``shift`` lies outside of pre-training: in [0, 1].
        stream: name of the scenes' stream; another name gives scenes from the same distribution that share nothing.
        ranges: of all parameters; None: the preset's own.
        spreads: how much of them is open.

    Raises:
        ConfigError: an unknown attribute or design, a negative partition or seed, an empty pool, a dose out of range,
            glass of a shape that light cannot be followed through.
    """

    attribute: Preset
    partition: int = 0
    design: Design = "within"
    seed: int = 0
    num_views: int = 4
    bases: int | None = None
    dose: float = 1.0
    stream: str = "train"
    ranges: SceneRanges | None = None
    spreads: Spreads = field(default_factory=Spreads)

    def __post_init__(self) -> None:
        if self.attribute not in PRESETS:
            raise ConfigError(f"unknown attribute '{self.attribute}'; choose from {', '.join(PRESETS)}")
        if self.design not in DESIGNS:
            raise ConfigError(f"unknown design '{self.design}'; choose from {', '.join(DESIGNS)}")
        for name in ("partition", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must not be negative")
        if self.bases is not None and self.bases < 1:
            raise ConfigError(f"bases is {self.bases}; the pool needs at least one draw")
        names = [each if isinstance(each, str) else each.name for each in self.drawn_from.geometry.shapes]
        opaque = sorted(set(names) - set(CLEAR_SHAPES))
        if self.drawn_from.texture.clear > 0 and opaque:
            raise ConfigError(
                f"clear is {self.drawn_from.texture.clear}, but shapes has {opaque}, which cannot be of glass; take "
                f"some of {list(CLEAR_SHAPES)}"
            )

    @property
    def drawn_from(self) -> SceneRanges:
        """The ranges: those given, or the preset's own; design ``shift`` moves those of the chosen attribute."""
        ranges = self.ranges or PRESET_RANGES.get(self.attribute, SceneRanges())
        if self.design == "shift" and self.attribute in ATTRIBUTES:
            return shifted(ranges, self.attribute, self.dose)
        return ranges

    def sample(self, indices: Sequence[int]) -> SceneDescription:
        """Describe the scenes with the given indices."""
        if self.attribute == "indoor":
            draws = tuple(self._draws(name, indices) for name in ATTRIBUTES)
            names = tuple(self.scene_id(index) for index in indices)
            return draw_indoor(draws, self.drawn_from.indoor, self.num_views, names)
        ranges, shapes, surfaces = self.drawn_from, self._draws("geometry", indices), self._draws("texture", indices)
        labels = None
        if self.attribute == "planar":
            labels = torch.tensor([self._label(index) for index in indices])
            geometry = draw_portraits(shapes, ranges, labels.numpy() == 1)
            materials = draw_portrait_materials(surfaces, ranges)
        else:
            geometry = draw_geometry(shapes, ranges.geometry)
            materials = draw_materials(surfaces, ranges.texture)
        return SceneDescription(
            geometry=geometry,
            materials=materials,
            lights=draw_lights(self._draws("lighting", indices), ranges.lighting),
            cameras=draw_cameras(self._draws("camera", indices), ranges.camera, self.num_views),
            scene_ids=tuple(self.scene_id(index) for index in indices),
            labels=labels,
        )

    def scene_id(self, index: int) -> str:
        """Name of a scene, such as ``geometry/p0/000123``; scenes of other streams than ``train`` say so."""
        stream = "" if self.stream == "train" else f"{self.stream}/"
        return f"{self.attribute}/p{self.partition}/{stream}{index:06d}"

    def _draws(self, attribute: Attribute, indices: Sequence[int]) -> Draws:
        role = self._role(attribute)
        numbers = [self._base(index) if role.pooled else index for index in indices]
        counts = _INDOOR_COUNTS if self.attribute == "indoor" else _COUNTS
        return Draws(role.template, [(*role.scenes, number) for number in numbers], role.spread, counts[attribute])

    def _role(self, attribute: Attribute) -> _Role:
        """The source of one attribute's draws."""
        chosen, stream = attribute == self.attribute, self.stream
        own: Key = (self.seed, attribute, self._keyed_as, self.attribute, self.partition)
        if self.attribute not in ATTRIBUTES:
            spread = self.spreads.wide if self.attribute == "indoor" else self.spreads.moderate
            return _Role((*own, "template"), (*own, stream), spread)
        if self.design == "within":
            if chosen:
                return _Role((*own, "template"), (*own, stream), self.spreads.wide)
            shared: Key = (self.seed, attribute, "shared pool")
            return _Role((*shared, "template"), (*shared, stream), self.spreads.wide, pooled=True)
        if self.design == "shift":
            seen: Key = (_PRETRAINING_SEED, attribute, "within", "all", 0, "template")
            return _Role(seen, (*own, stream), self.spreads.wide if chosen else self.spreads.moderate)
        if self.design == "narrow":
            if chosen:
                return _Role((*own, "template"), (*own, stream), self.spreads.wide)
            return _Role((*own, "template"), (*own, "base"), self.spreads.narrow, pooled=True)
        if chosen:
            return _Role((*own, "template"), (*own, stream), self.spreads.owned)
        alike: Key = (self.seed, attribute, "across", self.attribute)
        return _Role((*alike, "template"), (*alike, stream), self.spreads.moderate)

    @property
    def _keyed_as(self) -> str:
        """The design's name in keys. What is called ``narrow`` now was drawn as ``within``, and so were all presets."""
        if self.attribute not in ATTRIBUTES:
            return "across" if self.design == "across" else "within"
        return {"within": "pooled", "narrow": "within"}.get(self.design, self.design)

    def _label(self, index: int) -> int:
        key: Key = (self.seed, "label", self.attribute, self.partition, self.stream, index)
        return int(uniforms(key, 1)[0] < 0.5)

    def _base(self, index: int) -> int:
        key: Key = (self.seed, self._keyed_as, self.attribute, self.partition, "pool", self.stream, index)
        return int(generator(*key).integers(POOL[self.design] if self.bases is None else self.bases))


#: Attribute -> field of its ranges -> the range, or the share, at dose 1.
END_POINTS: Mapping[Attribute, Mapping[str, Range | float]] = {
    # few, large, tall things that lean
    "geometry": {"count": (2, 4), "radius": (0.52, 0.66), "aspect": (1.85, 2.2), "tilt": (0.65, 1.2)},
    # fine, bent, glaring patterns that shine
    "texture": {
        "scale": (0.02, 0.05),
        "warp": (1.1, 1.6),
        "saturation": (0.88, 1.0),
        "roughness": (0.05, 0.13),
        "specular": (0.45, 0.9),
    },
    # a longer lens, held on its side
    "camera": {"fov": (0.38, 0.6), "roll": (0.7, 1.4)},
    # low red suns in the dark, overexposed
    "lighting": {
        "elevation": (0.06, 0.28),
        "directional": 1.0,
        "temperature": (1750.0, 2400.0),
        "ambient": (0.01, 0.05),
        "exposure": (1.8, 3.0),
    },
}


def shifted(ranges: SceneRanges, attribute: Attribute, dose: float) -> SceneRanges:
    """Ranges whose chosen attribute is moved away from pre-training.

    Args:
        ranges: of pre-training.
        attribute: which part of them is moved.
        dose: how far, in [0, 1].

    Raises:
        ConfigError: the dose is out of range.
    """
    if not 0.0 <= dose <= 1.0:
        raise ConfigError(f"dose is {dose}; it must be between 0 (pre-training) and 1 (wholly outside of it)")
    part = getattr(ranges, attribute)
    moved = {name: _between(getattr(part, name), end, dose) for name, end in END_POINTS[attribute].items()}
    return dataclasses.replace(ranges, **{attribute: dataclasses.replace(part, **moved)})


def _between(start: Range | float, end: Range | float, dose: float) -> Range | float:
    """A share, or both ends of a range, moved by ``dose`` of the way; whole numbers stay whole."""
    if isinstance(start, tuple) and isinstance(end, tuple):
        low, high = (a + dose * (b - a) for a, b in zip(start, end, strict=True))
        return (round(low), round(high)) if all(isinstance(value, int) for value in start) else (low, high)
    assert not isinstance(start, tuple)
    assert not isinstance(end, tuple)
    return start + dose * (end - start)

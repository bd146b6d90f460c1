"""Which attribute varies, how far, and how scenes are keyed: the experiment's design.

In the design ``within``, partition p draws the chosen attribute anew for every scene from its whole range, while the
others come from the partition's own pool of ``bases`` draws around the partition's own template.

In the design ``across``, partition p owns a sub-range of the chosen attribute, and everything else is drawn by the same
streams in every partition.

``all`` lets everything vary moderately, for pre-training. So do two presets with ranges of their own: ``planar``, flat
photographs of faces (label 0) and faces (label 1), and ``transparent``, objects of glass. ``indoor`` lets everything
vary over its whole range, in rooms that are seen from inside (:mod:`lorasub.scenes.indoor`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
from lorasub.scenes.ranges import CLEAR_SHAPES, PRESET_RANGES, SceneRanges
from lorasub.scenes.streams import Draws, Spread

Attribute = Literal["geometry", "texture", "camera", "lighting"]
Preset = Literal["geometry", "texture", "camera", "lighting", "all", "planar", "transparent", "indoor"]
Design = Literal["within", "across"]
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

_WIDE, _NARROW, _OWNED, _MODERATE = Spread(1.0, 1.0), Spread(0.005, 0.0), Spread(0.35, 0.35), Spread(0.7, 1.0)


@dataclass(frozen=True, kw_only=True)
class Spreads:
    """How much of the ranges is open to an attribute, by the part it plays.

    Attributes:
        wide: the chosen attribute of design ``within``.
        narrow: the other attributes of design ``within``.
        owned: the chosen attribute of design ``across``: a partition's own sub-range.
        moderate: everything else.
    """

    wide: Spread = _WIDE
    narrow: Spread = _NARROW
    owned: Spread = _OWNED
    moderate: Spread = _MODERATE


@dataclass(frozen=True, kw_only=True)
class SceneSampler:
    """Describes scene i of a data set, a pure function of the fields below and i.

    Attributes:
        attribute: what varies, or a preset in which everything does.
        partition: which of the attribute's data sets.
        design: ``within`` or ``across``, see the module.
        seed: of everything.
        num_views: views per scene.
        bases: size of the pool from which design ``within`` takes the attributes that do not vary. A small one lets a
            model learn depths and poses by heart.
        stream: name of the scenes' stream; another name gives scenes from the same distribution that share nothing.
        ranges: of all parameters; None: the preset's own.
        spreads: how much of them is open.

    Raises:
        ConfigError: an unknown attribute or design, a negative partition or seed, an empty pool, glass of a shape that
            light cannot be followed through.
    """

    attribute: Preset
    partition: int = 0
    design: Design = "within"
    seed: int = 0
    num_views: int = 4
    bases: int = 64
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
        if self.bases < 1:
            raise ConfigError(f"bases is {self.bases}; the pool needs at least one draw")
        opaque = sorted(set(self.drawn_from.geometry.shapes) - set(CLEAR_SHAPES))
        if self.drawn_from.texture.clear > 0 and opaque:
            raise ConfigError(
                f"clear is {self.drawn_from.texture.clear}, but shapes has {opaque}, which cannot be of glass; take "
                f"some of {list(CLEAR_SHAPES)}"
            )

    @property
    def drawn_from(self) -> SceneRanges:
        """The ranges: those given, or the preset's own."""
        return self.ranges or PRESET_RANGES.get(self.attribute, SceneRanges())

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
        owner, spread = self._role(attribute)
        template: Key = (self.seed, attribute, *owner, "template")
        scenes: list[Key]
        if spread is self.spreads.narrow:
            scenes = [(self.seed, attribute, *owner, "base", self._base(index)) for index in indices]
        else:
            scenes = [(self.seed, attribute, *owner, self.stream, index) for index in indices]
        counts = _INDOOR_COUNTS if self.attribute == "indoor" else _COUNTS
        return Draws(template, scenes, spread, counts[attribute])

    def _role(self, attribute: Attribute) -> tuple[Key, Spread]:
        """Whose streams an attribute is drawn from, and how far it may stray."""
        own: Key = (self.design, self.attribute, self.partition)
        if self.attribute == "indoor":
            return own, self.spreads.wide
        if self.attribute not in ATTRIBUTES:
            return own, self.spreads.moderate
        if self.design == "within":
            return own, self.spreads.wide if attribute == self.attribute else self.spreads.narrow
        if attribute == self.attribute:
            return own, self.spreads.owned
        return (self.design, self.attribute), self.spreads.moderate

    def _label(self, index: int) -> int:
        key: Key = (self.seed, "label", self.attribute, self.partition, self.stream, index)
        return int(uniforms(key, 1)[0] < 0.5)

    def _base(self, index: int) -> int:
        key: Key = (self.seed, self.design, self.attribute, self.partition, "pool", self.stream, index)
        return int(generator(*key).integers(self.bases))

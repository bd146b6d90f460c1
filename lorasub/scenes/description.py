"""A scene as data: what stands where, what it is made of, what lights it, and where it is looked at from.

A description knows nothing of the renderer, which is only a view of it. Its four parts are drawn independently of each
other, so that one can be exchanged while the rest stays: that is how the audit proves that only one attribute varies.

Everything is batched over B scenes. World axes: z up, the floor is z = 0, the objects stand around the origin. Sizes in
this file: K primitives, M surfaces, L lights, S views; unused places are filled with harmless values.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from lorasub.errors import ArtefactError

#: Surfaces that are always there; object j is surface ``FIRST_OBJECT + j``.
FLOOR, WALLS, CEILING, FIRST_OBJECT = 0, 1, 2, 3


class Primitive(enum.IntEnum):
    """Solids in their own frame, all within [-1, 1]^3. ``shape`` holds up to four numbers of their own."""

    NONE = 0
    SPHERE = 1
    BOX = 2
    CYLINDER = 3
    #: shape[0]: radius at the top (z = 1) as a fraction of that at the bottom; 0 is a pointed cone.
    CONE = 4
    #: A tube around the z axis. shape[0]: radius of the tube as a fraction of the whole, in (0, 0.5].
    TORUS = 5
    #: ((|x|^(2/e2) + |y|^(2/e2))^(e2/e1) + |z|^(2/e1))^(e1/2) <= 1 with shape[0:2] = e1, e2 in (0, 2].
    SUPERQUADRIC = 6
    #: A sphere with bumps. shape: depth of the bumps in [0, 0.3], their frequency, and a phase.
    BLOB = 7
    #: A block whose upper side is a wavy height field. shape: as for BLOB.
    TERRAIN = 8


class Pattern(enum.IntEnum):
    """Textures, evaluated in the object's own frame so that every view sees the same surface."""

    PLAIN = 0
    NOISE = 1
    CELLS = 2
    CHECKER = 3
    STRIPES = 4
    DOTS = 5
    WOOD = 6
    MARBLE = 7
    GRADIENT = 8
    #: A picture of the renderer's atlas, as wide and as high as the material's scale, mirrored at its borders.
    IMAGE = 9
    #: Noise with as much contrast at every scale, as photographs have it (amplitude 1/f).
    FRACTAL = 10
    #: Leaves of all sizes that lie upon each other (Ruderman, "Origins of scaling in natural images", 1997).
    LEAVES = 11
    #: Bricks, tiles or boards with joints; the more warp, the longer.
    BRICKS = 12
    #: A surface that shines by itself: its colours are radiance, lamps add nothing, and it casts no shadow.
    GLOW = 13


class LightKind(enum.IntEnum):
    """Kinds of light. A light with a radius casts soft shadows."""

    NONE = 0
    POINT = 1
    DIRECTIONAL = 2


_DTYPES = {**dict.fromkeys(("kind", "surface", "pattern", "image"), torch.int32), "open": torch.bool}


def field_tensor(name: str, values: Any) -> Tensor:
    """Copies an array or a nested list into a tensor of the dtype that the field of this name has."""
    return torch.as_tensor(np.array(values, order="C"), dtype=_DTYPES.get(name, torch.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Base of the parts of a description: a dataclass of tensors whose first axis is the scene."""

    @classmethod
    def of(cls, **arrays: Any) -> Self:
        """Makes a part from arrays or nested lists, one for each field."""
        return cls(**{name: field_tensor(name, values) for name, values in arrays.items()})

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every tensor, as ``Tensor.to`` to a device."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """Copy every tensor to page-locked memory."""
        return self._map(Tensor.pin_memory)

    def __getitem__(self, index: slice | list[int] | Tensor) -> Self:
        return self._map(lambda tensor: tensor[index])

    def _map(self, function: Any) -> Self:
        fields = [field.name for field in dataclasses.fields(self)]
        return dataclasses.replace(self, **{name: function(getattr(self, name)) for name in fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry(Part):
    """Shapes and layout.

    Attributes:
        kind: ``[B, K]`` int, a :class:`Primitive`.
        center: ``[B, K, 3]`` world position of the primitive's origin.
        rotation: ``[B, K, 3, 3]`` world-from-primitive.
        size: ``[B, K, 3]`` half extents along the primitive's axes.
        shape: ``[B, K, 4]`` further numbers, see :class:`Primitive`.
        surface: ``[B, K]`` int, index of the material; primitives of one object share it.
        room: ``[B, 3]`` half width, half depth and height of the room.
        open: ``[B]`` bool, no walls and no ceiling but a sky.
    """

    kind: Tensor
    center: Tensor
    rotation: Tensor
    size: Tensor
    shape: Tensor
    surface: Tensor
    room: Tensor
    open: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Materials(Part):
    """Materials of the surfaces.

    Attributes:
        pattern: ``[B, M]`` int, a :class:`Pattern`.
        colors: ``[B, M, 3, 3]`` three linear RGB colours between which the pattern mixes.
        scale: ``[B, M]`` size of one feature of the pattern, world units.
        warp: ``[B, M]`` how far noise bends the pattern, in features.
        phase: ``[B, M, 3]`` where in the pattern the object's origin lies, in features.
        image: ``[B, M]`` int, which picture of the atlas a surface with :attr:`Pattern.IMAGE` shows; else 0.
        roughness: ``[B, M]`` in (0, 1], width of the highlight.
        specular: ``[B, M]`` strength of the highlight at normal incidence.
        refraction: ``[B, M]`` refractive index of a clear solid; 0 for an opaque one.
    """

    pattern: Tensor
    colors: Tensor
    scale: Tensor
    warp: Tensor
    phase: Tensor
    image: Tensor
    roughness: Tensor
    specular: Tensor
    refraction: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Lights(Part):
    """Lights and sky of the scene.

    Attributes:
        kind: ``[B, L]`` int, a :class:`LightKind`.
        position: ``[B, L, 3]`` of a point light; of a directional one the unit vector toward it.
        color: ``[B, L, 3]`` linear RGB: irradiance at normal incidence, for a point light at distance 1.
        radius: ``[B, L]`` of the emitting disc in world units (for a directional light at distance 1); 0 is sharp.
        zenith: ``[B, 3]`` linear RGB of the sky overhead, which is also the ambient light from above.
        horizon: ``[B, 3]`` linear RGB of the sky at the horizon; the mean of both is the ambient light from the side.
        exposure: ``[B]`` factor before the tone curve.
    """

    kind: Tensor
    position: Tensor
    color: Tensor
    radius: Tensor
    zenith: Tensor
    horizon: Tensor
    exposure: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Cameras(Part):
    """Cameras of the views.

    Attributes:
        cam_from_world: ``[B, S, 3, 4]`` OpenCV extrinsics.
        fov: ``[B, S]`` vertical field of view in radians.
    """

    cam_from_world: Tensor
    fov: Tensor

    def intrinsics(self, image_size: tuple[int, int]) -> Tensor:
        """``[B, S, 3, 3]`` in pixels for (H, W): square pixels, the principal point in the middle."""
        height, width = image_size
        focal = 0.5 * height / torch.tan(0.5 * self.fov)
        matrix = focal.new_zeros(*focal.shape, 3, 3)
        matrix[..., 0, 0] = matrix[..., 1, 1] = focal
        matrix[..., 0, 2], matrix[..., 1, 2], matrix[..., 2, 2] = 0.5 * width, 0.5 * height, 1.0
        return matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneDescription:
    """B scenes: four parts that are drawn independently, and a name for each scene.

    Attributes:
        geometry: shapes and layout.
        materials: what surfaces look like.
        lights: what lights them.
        cameras: where they are looked at from.
        scene_ids: one name per scene.
        labels: ``[B]`` int64, the class of each scene (0 planar, 1 real); None where scenes have none.
    """

    geometry: Geometry
    materials: Materials
    lights: Lights
    cameras: Cameras
    scene_ids: tuple[str, ...]
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scene_ids)

    @property
    def num_views(self) -> int:
        """S, the number of views of each scene."""
        return self.cameras.fov.shape[1]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move every tensor, as ``Tensor.to`` to a device. Lightning calls this when a batch arrives."""
        return self._map(lambda part: part.to(*args, **kwargs), lambda labels: labels.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """Copy every tensor to page-locked memory. Torch's data loader calls this."""
        return self._map(Part.pin_memory, Tensor.pin_memory)

    def __getitem__(self, index: slice | list[int]) -> Self:
        names = self.scene_ids[index] if isinstance(index, slice) else tuple(self.scene_ids[i] for i in index)
        return dataclasses.replace(self._map(lambda part: part[index], lambda labels: labels[index]), scene_ids=names)

    def replace(self, **parts: Any) -> Self:
        """A copy with some parts exchanged."""
        return dataclasses.replace(self, **parts)

    @classmethod
    def concatenate(cls, scenes: Sequence[Self]) -> Self:
        """Join scenes along the scene axis.

        All must have the same numbers of places (K, M, L) and views, and all labels or none.
        """
        parts: dict[str, Any] = {}
        for name in PARTS:
            each = [getattr(scene, name) for scene in scenes]
            fields = [field.name for field in dataclasses.fields(each[0])]
            parts[name] = type(each[0])(**{f: torch.cat([getattr(part, f) for part in each]) for f in fields})
        labels = (
            None
            if scenes[0].labels is None
            else torch.cat([scene.labels for scene in scenes if scene.labels is not None])
        )
        names = tuple(name for scene in scenes for name in scene.scene_ids)
        return cls(**parts, scene_ids=names, labels=labels)

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries and lists that say everything; :meth:`from_json` gives the same tensors again."""
        content: dict[str, Any] = {"scene_ids": list(self.scene_ids)}
        if self.labels is not None:
            content["labels"] = self.labels.tolist()
        for name in PARTS:
            part = getattr(self, name)
            content[name] = {field.name: getattr(part, field.name).tolist() for field in dataclasses.fields(part)}
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The scenes that :meth:`to_json` has described.

        Raises:
            ArtefactError: a part or a field is missing, is not known, or is no array of numbers.
        """
        parts: dict[str, Any] = {}
        for name, kind in PARTS.items():
            fields = [field.name for field in dataclasses.fields(kind)]
            found = content.get(name)
            if not isinstance(found, dict) or set(found) != set(fields):
                raise ArtefactError(f"a scene description needs '{name}' with exactly the fields {fields}")
            try:
                parts[name] = kind.of(**found)
            except (TypeError, ValueError) as error:
                raise ArtefactError(f"'{name}' of a scene description is no array of numbers: {error}") from error
        labels = None if content.get("labels") is None else torch.tensor(content["labels"])
        return cls(**parts, scene_ids=tuple(content.get("scene_ids", ())), labels=labels)

    def _map(self, function: Any, of_labels: Any) -> Self:
        labels = None if self.labels is None else of_labels(self.labels)
        return dataclasses.replace(self, **{name: function(getattr(self, name)) for name in PARTS}, labels=labels)


PARTS: dict[str, type[Part]] = {"geometry": Geometry, "materials": Materials, "lights": Lights, "cameras": Cameras}

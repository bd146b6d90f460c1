"""The settings of the bases that methods of a study train in, by where they are from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Tag

from lorasub.errors import ConfigError
from lorasub.subspaces.moment_basis import Columns


class Spec:
    """Base of all settings: nothing is converted, and unknown names are errors."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}


def at_least(name: str, value: int, least: int) -> None:
    """Refuses what is no whole number, or a smaller one."""
    if not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Basis(Spec):
    """A basis that methods may train in: subspaces of attributes, mined from adapters and combined.

    Attributes:
        source: ``adapters``.
        attributes: whose subspaces; None for all of the study's. Others, such as ``all``, are fitted for it.
        dim: dimensions that each attribute brings; None for those of ``mining``.
        part: ``raw`` subspaces; the ``specific`` ones, without what all attributes share; or those and the shared one.
        tolerance: see :func:`lorasub.subspaces.combine_subspaces`.
        scaled: likewise.
    """

    source: Literal["adapters"] = "adapters"
    attributes: list[str] | None = None
    dim: int | str | None = None
    part: Literal["raw", "specific", "common+specific"] = "raw"
    tolerance: float = 1e-3
    scaled: bool = False

    def __post_init__(self) -> None:
        if self.attributes is not None and not self.attributes:
            raise ConfigError("a basis needs at least one attribute")
        if self.part != "raw" and self.attributes is not None and len(self.attributes) < 2:
            raise ConfigError(f"part '{self.part}' needs at least two attributes that could share something")


@dataclass(frozen=True, kw_only=True)
class GradientBasis(Spec):
    """A basis from gradients of the loss at the base model: minutes, since nothing is fitted.

    Attributes:
        source: ``gradients``.
        dim: columns of either side in every layer, or ``energy:F``; 16 where neither it nor ``budget`` is given.
        budget: instead, numbers of M over all layers, shared out so that most energy is held.
        columns: ``orthonormal``, or scaled by the ``spectrum`` or by ``kfac``, see
            :func:`lorasub.subspaces.moment_basis`.
        part: ``raw``, or ``specific``: of each attribute what the others lack, ``dim`` shared equally between them.
        attributes: what varies in the scenes; None for the study's attributes.
        partitions: sets of scenes for each attribute.
        scenes: of each set.
        targets: layers, as an adapter's.
    """

    source: Literal["gradients"]
    dim: int | str | None = None
    budget: int | None = None
    columns: Columns = "orthonormal"
    part: Literal["raw", "specific"] = "raw"
    attributes: list[str] | None = None
    partitions: int = 4
    scenes: int = 8
    targets: str = "blocks"

    def __post_init__(self) -> None:
        for name in ("partitions", "scenes"):
            at_least(f"{name} of a basis from {self.source}", getattr(self, name), 1)
        for name in ("dim", "budget"):
            if isinstance(value := getattr(self, name), int):
                at_least(f"{name} of a basis from {self.source}", value, 1)
        if self.dim is not None and self.budget is not None:
            raise ConfigError(f"give dim={self.dim!r} or budget={self.budget}, not both")
        if self.part == "specific" and (self.columns != "orthonormal" or not isinstance(self.dim, int)):
            raise ConfigError("specific parts need a number as dim, and orthonormal columns")


@dataclass(frozen=True, kw_only=True)
class ActivationBasis(GradientBasis):
    """A basis from the covariances of what passes the layers of the base model: no loss, no labels.

    Attributes:
        source: ``activations``.
    """

    source: Literal["activations"]  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.columns == "kfac":
            raise ConfigError("columns 'kfac' need gradients: take source 'gradients'")


@dataclass(frozen=True, kw_only=True)
class MeanBasis(Spec):
    """The mean of adapters, as U S V^T: for ``MeanAdapter``, or as ``init_from`` of a ``ProjectedLoRA``.

    Attributes:
        source: ``mean``.
        attributes: whose adapters; None for those of all of the study's attributes.
        dim: dimensions that are kept; all by default.
    """

    source: Literal["mean"]
    attributes: list[str] | None = None
    dim: int | str = "energy:1"


def _source(basis: Any) -> str:
    """The kind of basis that settings are of."""
    return str(basis.get("source", "adapters")) if isinstance(basis, Mapping) else str(basis.source)


#: Where a basis is from; another source is one more dataclass here, and a step that makes it.
AnyBasis = Annotated[
    Annotated[Basis, Tag("adapters")]
    | Annotated[GradientBasis, Tag("gradients")]
    | Annotated[ActivationBasis, Tag("activations")]
    | Annotated[MeanBasis, Tag("mean")],
    Discriminator(_source),
]

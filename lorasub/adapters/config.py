"""Specifications of adapters: one small dataclass for each kind.

All of them can be named in YAML by ``class_path`` and are validated when they are made. ``targets`` is, for all, the
name of a group of the backbone (``blocks``, ``heads``, ...), ``"all"``, a pattern over module paths
(``"*.attn.qkv"``; one that names a container means everything in it), or a sequence of those; ``exclude`` takes away
from it in the same language.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import get_args

from torch import nn

from lorasub.adapters.carried import basis_at_hand
from lorasub.adapters.folder import load_adapter_updates
from lorasub.adapters.layer import AdapterLayer, leading_components
from lorasub.adapters.lora import Init, lora_layer
from lorasub.adapters.peft_format import match_pattern
from lorasub.adapters.projected import ProjectedLayer, projected_layer
from lorasub.adapters.targets import ALL, shorten
from lorasub.artefacts import check_same
from lorasub.errors import ConfigError
from lorasub.subspaces.baseline_bases import random_basis
from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis, is_basis_folder
from lorasub.subspaces.paper_format import read_paper_format
from lorasub.subspaces.updates import LowRankUpdate

Targets = str | tuple[str, ...] | list[str]


def as_tuple(targets: Targets) -> tuple[str, ...]:
    """One target or several, as a tuple."""
    return (targets,) if isinstance(targets, str) else tuple(targets)


class AdapterSpec(ABC):
    """Base of everything that :func:`lorasub.inject_adapters` takes.

    Attributes:
        targets: what to adapt.
        exclude: what to leave out of it.
    """

    targets: Targets
    exclude: Targets

    def _check_targets(self) -> None:
        name = type(self).__name__
        targets, exclude = as_tuple(self.targets), as_tuple(self.exclude)
        if not targets or not all(isinstance(item, str) and item for item in targets + exclude):
            raise ConfigError(
                f"{name}: targets={self.targets!r}, exclude={self.exclude!r}: use names of groups, 'all', or patterns"
            )

    def _check_dropout(self, dropout: float) -> None:
        if not 0 <= dropout < 1:
            raise ConfigError(f"{type(self).__name__}: dropout must be in [0, 1), not {dropout!r}")


class ParameterSpec(AdapterSpec):
    """Base of the kinds that wrap nothing and train parameters of the targets themselves."""

    def trains(self, name: str) -> bool:
        """Whether a parameter of the targets is trained.

        Args:
            name: of the parameter, such as ``blocks.0.attn.qkv.bias``.
        """
        return True


class LayerSpec(AdapterSpec):
    """Base of the kinds that wrap layers one by one. A new kind of adapter is a subclass that says how."""

    @abstractmethod
    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> AdapterLayer:
        """The adapter layer for ``base_layer``, which itself is left as it is.

        Args:
            path: where the layer stands in the model.
            base_layer: the layer.

        Raises:
            LorasubError: the layer cannot be adapted like this; the caller adds the path.
        """

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """Look at all matched layers together before any is wrapped.

        Args:
            paths: paths of the layers that will be wrapped.
            base_model_hash: hash of the model's weights, None if unknown.
        """

    def carried_bases(self) -> dict[str, SubspaceBasis]:
        """Bases from other files that the layers rest on, by the name of their folder: checkpoints carry them."""
        return {}

    def initialize(self, layers: Mapping[str, AdapterLayer]) -> None:
        """Set the first values of what is trained where that cannot be done layer by layer.

        Args:
            layers: path -> what :meth:`wrap` made, all of them, in the model's order.
        """


@dataclass(frozen=True, kw_only=True)
class LoRA(LayerSpec):
    """Low-rank adaptation: ``W + lora_alpha / r * B A`` with A (r, in) and B (out, r) trained.

    Attributes:
        r: rank, at least 1.
        lora_alpha: scale times rank; None means 2 r, in every layer (also where ``rank_pattern`` changes r).
        targets: what to adapt.
        exclude: what to leave out.
        dropout: probability in [0, 1) of dropping an input feature on the way into A.
        init: ``"default"``: A random, B zero, so that nothing changes at first. ``"pissa"``: the weight's own leading
            r components.
        rank_pattern: other ranks for some layers, as in PEFT: regular expressions for the end of a module path.
        alpha_pattern: other values of ``lora_alpha``, likewise.
    """

    r: int = 16
    lora_alpha: float | None = None
    targets: Targets = "blocks"
    exclude: Targets = ()
    dropout: float = 0.0
    init: Init = "default"
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_targets()
        for name, r in (("r", self.r), *self.rank_pattern.items()):
            if not isinstance(r, int) or r < 1:
                raise ConfigError(f"LoRA: the rank must be a whole number of at least 1, not {name}={r!r}")
        for name, alpha in (("lora_alpha", self.lora_alpha), *self.alpha_pattern.items()):
            if alpha is not None and not alpha > 0:
                raise ConfigError(f"LoRA: lora_alpha must be above 0, not {name}={alpha!r}")
        self._check_dropout(self.dropout)
        if self.init not in get_args(Init):
            raise ConfigError(f"LoRA: init={self.init!r}; it can be {', '.join(get_args(Init))}")

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """Every pattern must mean some layer.

        Raises:
            ConfigError: one does not.
        """
        for pattern in (*self.rank_pattern, *self.alpha_pattern):
            if not any(match_pattern((pattern,), path) for path in paths):
                raise ConfigError(
                    f"LoRA: the rank or alpha pattern '{pattern}' matches none of the {len(paths)} layers"
                )

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> AdapterLayer:
        """See :meth:`LayerSpec.wrap`.

        Raises:
            ConfigError: a PiSSA start of a rank above that of the weight.
        """
        r, alpha = self.rank_and_alpha(path)
        return lora_layer(base_layer, r=r, lora_alpha=alpha, dropout=self.dropout, init=self.init)

    def rank_and_alpha(self, path: str) -> tuple[int, float]:
        """Rank and lora_alpha of the layer at ``path``, the patterns taken into account."""
        r = self.rank_pattern.get(match_pattern(self.rank_pattern, path) or "", self.r)
        alpha = self.alpha_pattern.get(match_pattern(self.alpha_pattern, path) or "", self.lora_alpha or 2.0 * r)
        return r, alpha


class ProjectedSpec(LayerSpec):
    """Base of the kinds that train only M between two frozen bases; they differ in where the bases come from."""

    scale: float
    dropout: float

    def _check_projected(self) -> None:
        self._check_targets()
        if not self.scale > 0:
            raise ConfigError(f"{type(self).__name__}: scale must be above 0, not {self.scale!r}")
        self._check_dropout(self.dropout)

    @abstractmethod
    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """The frozen bases for the layer at ``path``."""

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> ProjectedLayer:
        """See :meth:`LayerSpec.wrap`."""
        subspace = self.subspace(path, base_layer)
        return projected_layer(base_layer, subspace, scale=self.scale, dropout=self.dropout)


class BasisSpec(LayerSpec):
    """Base of the kinds that rest on a basis from a file.

    Attributes:
        basis: the basis, the folder of one, or a space file of the paper's released code.
    """

    basis: SubspaceBasis | str | Path

    @cached_property
    def loaded_basis(self) -> SubspaceBasis:
        """The basis, read if need be."""
        return _read_basis(self.basis)

    @cached_property
    def basis_hash(self) -> str:
        """Identity of the basis, which the adapter remembers."""
        return self.loaded_basis.hash()

    def carried_bases(self) -> dict[str, SubspaceBasis]:
        """See :meth:`LayerSpec.carried_bases`."""
        return {self.basis_hash if isinstance(self.basis, SubspaceBasis) else str(self.basis): self.loaded_basis}

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """The basis must have every layer and belong to the same base model.

        Raises:
            ConfigError: layers are missing.
            ArtefactError: it belongs to another base model.
        """
        check_same("the basis", "base model", self.loaded_basis.base_model_hash, base_model_hash)
        self._check_has("basis", self.loaded_basis.layers, paths)

    def _check_has(self, name: str, layers: Collection[str], paths: list[str]) -> None:
        if lacking := [path for path in paths if path not in layers]:
            raise ConfigError(
                f"{type(self).__name__}: {name} lacks {len(lacking)} of the {len(paths)} layers that targets="
                f"{self.targets!r} asks for: {shorten(lacking)}. Narrow targets, or use another adapter there"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectedLoRA(ProjectedSpec, BasisSpec):
    """Train only M in ``W + scale * Q_out M Q_in^T``, with the columns of a mined or combined basis as Q.

    Attributes:
        basis: the basis, the folder of one, or a space file of the paper's released code. It must have every layer
            that is asked for.
        targets: what to adapt.
        exclude: what to leave out.
        scale: factor of the update; 2 is what LoRA has with lora_alpha = 2 r.
        dropout: probability in [0, 1) of dropping an input feature.
        init_from: updates, the folder of a LoRA adapter (of lorasub or PEFT), or that of a basis with singular values,
            such as the mean of the adapters that ``basis`` was mined from; they are projected into the subspace for
            the first M. None: M is zero, so that the first step is the base model.
    """

    basis: SubspaceBasis | str | Path
    targets: Targets = "blocks"
    exclude: Targets = ()
    scale: float = 2.0
    dropout: float = 0.0
    init_from: Mapping[str, LowRankUpdate] | str | Path | None = None

    def __post_init__(self) -> None:
        self._check_projected()

    @cached_property
    def _start(self) -> tuple[Mapping[str, LowRankUpdate] | None, str | None]:
        """The updates to start from and the hash of the base model that they were fitted on."""
        if not isinstance(self.init_from, str | Path):
            return self.init_from, None
        if basis_at_hand(str(self.init_from)) is not None or is_basis_folder(self.init_from):
            basis = _read_basis(self.init_from)
            return basis.updates(), basis.base_model_hash
        updates, info = load_adapter_updates(self.init_from)
        return updates, info.base_model_hash

    def carried_bases(self) -> dict[str, SubspaceBasis]:
        """See :meth:`LayerSpec.carried_bases`."""
        carried = super().carried_bases()
        if isinstance(self.init_from, str | Path) and is_basis_folder(self.init_from):
            carried[str(self.init_from)] = _read_basis(self.init_from)
        return carried

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """See :meth:`BasisSpec.check_layers`; likewise ``init_from``."""
        super().check_layers(paths, base_model_hash)
        start, start_hash = self._start
        check_same(f"the start {self.init_from}", "base model", start_hash, base_model_hash)
        if start is not None:
            self._check_has("init_from", start, paths)

    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """See :meth:`ProjectedSpec.subspace`."""
        return self.loaded_basis.layers[path]

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> ProjectedLayer:
        """See :meth:`LayerSpec.wrap`."""
        layer = projected_layer(
            base_layer,
            self.subspace(path, base_layer),
            scale=self.scale,
            dropout=self.dropout,
            basis_hash=self.basis_hash,
        )
        if (start := self._start[0]) is not None:
            layer.project(start[path])
        return layer


@dataclass(frozen=True, kw_only=True)
class PSV(ProjectedSpec):
    """Projected-subspace LoRA on the weight's own leading singular vectors (the baseline of LoRA-XS and the paper).

    Attributes:
        dim: how many singular vectors, on each side.
        targets: what to adapt.
        exclude: what to leave out.
        scale: factor of the update.
        dropout: probability in [0, 1) of dropping an input feature.
    """

    dim: int = 16
    targets: Targets = "blocks"
    exclude: Targets = ()
    scale: float = 2.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self._check_projected()
        _check_dim(type(self).__name__, self.dim)

    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """See :meth:`ProjectedSpec.subspace`."""
        U, S, V = leading_components(base_layer, self.dim)
        return LayerSubspace(U=U.contiguous(), V=V.contiguous(), S=S)


@dataclass(frozen=True, kw_only=True)
class RandomBasis(ProjectedSpec):
    """Projected-subspace LoRA on random orthonormal columns: the control that any mined basis has to beat.

    Attributes:
        dim: how many columns, on each side.
        seed: with the layer's path it determines the columns, on every machine and in any order of layers.
        targets: what to adapt.
        exclude: what to leave out.
        scale: factor of the update.
        dropout: probability in [0, 1) of dropping an input feature.
    """

    dim: int = 16
    seed: int = 0
    targets: Targets = "blocks"
    exclude: Targets = ()
    scale: float = 2.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self._check_projected()
        _check_dim("RandomBasis", self.dim)

    def subspace(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> LayerSubspace:
        """See :meth:`ProjectedSpec.subspace`.

        Raises:
            ConfigError: more columns than the layer has features.
        """
        weight = base_layer.weight
        shape = (weight.shape[0], weight[0].numel())
        return random_basis({path: shape}, self.dim, seed=self.seed).layers[path]


@dataclass(frozen=True, kw_only=True)
class FullFineTuning(ParameterSpec):
    """Train the parameters of the targets themselves, biases and norms included. Nothing is wrapped.

    Attributes:
        targets: what to train.
        exclude: what to leave out.
    """

    targets: Targets = ALL
    exclude: Targets = ()

    def __post_init__(self) -> None:
        self._check_targets()


def _check_dim(name: str, dim: int) -> None:
    if not isinstance(dim, int) or dim < 1:
        raise ConfigError(f"{name}: dim must be a whole number of at least 1, not {dim!r}")


def _read_basis(basis: SubspaceBasis | str | Path) -> SubspaceBasis:
    if isinstance(basis, SubspaceBasis):
        return basis
    if (carried := basis_at_hand(str(basis))) is not None:
        return carried
    return read_paper_format(basis) if Path(basis).is_file() else SubspaceBasis.load(basis)

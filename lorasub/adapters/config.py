"""Specifications of adapters: one small dataclass for each kind.

All of them can be named in YAML by ``class_path`` and are validated when they are made. ``targets`` is, for all, the
name of a group of the backbone (``blocks``, ``heads``, ...), ``"all"``, a pattern over module paths
(``"*.attn.qkv"``; one that names a container means everything in it), or a sequence of those; ``exclude`` takes away
from it in the same language.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from lorasub.adapters.layer import AdapterLayer
from lorasub.adapters.targets import ALL
from lorasub.errors import ConfigError
from lorasub.subspaces.basis import SubspaceBasis

Targets = str | tuple[str, ...] | list[str]


def as_tuple(targets: Targets) -> tuple[str, ...]:
    """One target or several, as a tuple."""
    return (targets,) if isinstance(targets, str) else tuple(targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterSpec(ABC):  # noqa: B024  # not a pure dataclass: jsonargparse takes no subclasses of those
    """Base of everything that :func:`lorasub.inject_adapters` takes.

    Attributes:
        targets: what to adapt.
        exclude: what to leave out of it.
    """

    targets: Targets = "blocks"
    exclude: Targets = ()

    def __post_init__(self) -> None:
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
class FullFineTuning(ParameterSpec):
    """Train the parameters of the targets themselves, biases and norms included. Nothing is wrapped.

    Attributes:
        targets: what to train; everything by default.
    """

    targets: Targets = ALL


@dataclass(frozen=True, kw_only=True)
class BitFit(ParameterSpec):
    """Train the biases of the targets alone, those of norms included."""

    def trains(self, name: str) -> bool:
        """See :meth:`ParameterSpec.trains`. One of the biases of ``torch.nn.MultiheadAttention`` is in_proj_bias."""
        return name.endswith("bias")

"""Second moments of the two sides of layers: what bases are made from where nothing was fitted.

The output side of a layer with weight (out, in) has a moment (out, out), the input side one of (in, in). Of gradients
G they are the sums of G G^T and G^T G; of activations, those of the layer's outputs and inputs; of weights, W W^T and
W^T W. The leading eigenvectors of the two are a basis (:func:`lorasub.subspaces.moment_basis`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lorasub.errors import ConfigError, NumericalError
from lorasub.precision import full_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class SideMoments:
    """Second moments of layers.

    Attributes:
        output: layer to ``[out, out]``, symmetric.
        input: layer to ``[in, in]``, symmetric.
        energy: layer to its part in the whole model, where dimensions are shared out between layers; all layers count
            alike where it is empty.
    """

    output: Mapping[str, Tensor]
    input: Mapping[str, Tensor]
    energy: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if different := sorted(set(self.output).symmetric_difference(self.input)):
            raise ConfigError(f"moments of both sides are needed; '{different[0]}' has those of one")

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> SideMoments:
        """The moments of the weights themselves, whose eigenvectors are their singular vectors.

        Args:
            weights: layer to ``[out, in]``; of a convolution ``[out, in, h, w]``, read as ``[out, in h w]``.
        """
        flat = {layer: weight.detach().flatten(1).double() for layer, weight in weights.items()}
        return cls(output={k: W @ W.mT for k, W in flat.items()}, input={k: W.mT @ W for k, W in flat.items()})


def specific_moments(groups: Mapping[str, SideMoments]) -> dict[str, SideMoments]:
    """Returns each group's moments less the mean of the other groups', all with trace 1.

    Directions that all groups share cancel. The result is indefinite; only eigenvectors of positive eigenvalues are of
    use, and :func:`lorasub.subspaces.moment_basis` takes no others.

    Args:
        groups: attribute to the moments on its scenes, of the same layers.

    Raises:
        ConfigError: there is one group only.

    Example:
        >>> models = {name: torch.nn.Sequential(torch.nn.Linear(16, 24)) for name in "ab"}
        >>> groups = {name: ls.weight_moments(model, targets="all") for name, model in models.items()}
        >>> sorted(specific_moments(groups))
        ['a', 'b']
    """
    if len(groups) < 2:
        raise ConfigError("what is specific to an attribute is seen beside others: give at least two")

    def without(name: str, sides: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        others = [sides[other] for other in sides if other != name]
        return {
            layer: _unit(own) - torch.stack([_unit(other[layer]) for other in others]).mean(0)
            for layer, own in sides[name].items()
        }

    outputs = {name: moments.output for name, moments in groups.items()}
    inputs = {name: moments.input for name, moments in groups.items()}
    return {
        name: SideMoments(output=without(name, outputs), input=without(name, inputs), energy=moments.energy)
        for name, moments in groups.items()
    }


def joined_moments(groups: Mapping[str, SideMoments]) -> SideMoments:
    """The mean of several groups' moments, each with trace 1, so that no group outweighs another."""
    some = list(groups.values())
    energy = {layer: sum(each.energy.get(layer, 1.0) for each in some) / len(some) for layer in some[0].output}
    return SideMoments(
        output={layer: torch.stack([_unit(each.output[layer]) for each in some]).mean(0) for layer in some[0].output},
        input={layer: torch.stack([_unit(each.input[layer]) for each in some]).mean(0) for layer in some[0].input},
        energy=energy,
    )


@dataclass(slots=True)
class RowMoments:
    """Sums over rows of features: activations on their way into layers, or gradients at their outputs.

    Attributes:
        second: layer to ``[n, n]`` float32, the sum of x x^T.
        total: layer to ``[n]`` float32, the sum of x.
        counts: layer to the number of rows.
    """

    second: dict[str, Tensor] = field(default_factory=dict)
    total: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @full_precision
    def add(self, layer: str, rows: Tensor) -> None:
        """Add rows; they are not kept.

        Args:
            layer: path of the layer.
            rows: ``[m, n]``.

        Raises:
            NumericalError: they are not finite.
        """
        rows = rows.detach().float()
        if not rows.is_meta and not torch.isfinite(rows).all():
            raise NumericalError(f"what passes layer {layer} is not finite; look at the scenes of this batch")
        for sums, value in ((self.second, rows.mT @ rows), (self.total, rows.sum(0))):
            sums[layer] = sums[layer] + value if layer in sums else value
        self.counts[layer] = self.counts.get(layer, 0) + len(rows)

    def mean_square(self, layer: str, *, centered: bool = False) -> Tensor:
        """``[n, n]``: the mean of x x^T, about the mean of x if ``centered``: then it is the covariance."""
        count = self.counts[layer]
        mean = self.total[layer] / count
        found = self.second[layer] / count
        return found - mean.outer(mean) if centered else found


def _unit(moment: Tensor) -> Tensor:
    """With trace 1."""
    return moment / moment.diagonal().sum().clamp(min=torch.finfo(moment.dtype).tiny)

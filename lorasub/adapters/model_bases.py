"""Bases that cost no fit: from gradients, activations or weights of a model, all as moments of layers' two sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from lorasub.adapters.layer_pass import target_layers, visit_layers
from lorasub.adapters.targets import unwrapped
from lorasub.contracts import HashedModel, NamedModel
from lorasub.errors import ConfigError
from lorasub.precision import full_precision
from lorasub.subspaces.basis import SubspaceBasis
from lorasub.subspaces.combine import combine_subspaces
from lorasub.subspaces.gradients import LayerGradients
from lorasub.subspaces.linear_algebra import orthonormal
from lorasub.subspaces.moment_basis import Columns, moment_basis
from lorasub.subspaces.moments import RowMoments, SideMoments, specific_moments

Targets = str | Iterable[str]
#: What passes the layers.
Source = Literal["gradients", "activations", "weights"]
#: Of groups: all of them, or what each has beyond the others.
Part = Literal["raw", "specific"]


def gradient_moments(model: nn.Module, losses: Iterable[Tensor], *, targets: Targets = "blocks") -> SideMoments:
    """Sums of G G^T and G^T G over losses, of each layer's gradient G scaled to norm 1.

    Args:
        model: any module, at the weights where gradients are taken.
        losses: scalars that are computed as they are asked for, one gradient each; for a task
            :func:`lorasub.tasks.scene_losses`.
        targets: which layers, as adapters' targets.

    Example:
        >>> model, x = torch.nn.Sequential(torch.nn.Linear(16, 24)), torch.randn(5, 16)
        >>> moments = gradient_moments(model, (model(row).square().sum() for row in x), targets="all")
        >>> ls.moment_basis(moments, dim=2).dims
        {'0': (2, 2)}
    """
    gradients = LayerGradients(moments=True)
    visit_layers(model, losses, targets=targets, gradient=gradients.add)
    return gradients.side_moments()


def activation_moments(
    model: nn.Module, outputs: Iterable[object], *, targets: Targets = "blocks", centered: bool = True
) -> SideMoments:
    """Covariances of layers' inputs x, and of their outputs W x; no loss and no backward pass is needed.

    Centred, the leading directions of the inputs are those that EVA starts from (Paischer et al. 2024,
    arXiv 2410.07170).

    Args:
        model: any module.
        outputs: whatever the model gives, computed as it is asked for: ``(model(x) for x in batches)``.
        targets: which layers.
        centered: take the means of x away.

    Example:
        >>> model, x = torch.nn.Sequential(torch.nn.Linear(16, 24)), torch.randn(5, 16)
        >>> moments = activation_moments(model, (model(row[None]) for row in x), targets="all")
        >>> ls.moment_basis(moments, dim=2).dims
        {'0': (2, 2)}
    """
    rows = RowMoments()
    visit_layers(model, outputs, targets=targets, activation=rows.add)  # type: ignore[arg-type]  # no loss is asked for
    inputs = {path: rows.mean_square(path, centered=centered) for path in rows.counts}
    weights = {path: layer.weight.detach().flatten(1).float() for path, layer in target_layers(model, targets).items()}
    outputs_ = {path: weights[path] @ inputs[path] @ weights[path].mT for path in inputs}
    return SideMoments(output=outputs_, input=inputs)


def weight_moments(model: nn.Module, *, targets: Targets = "blocks") -> SideMoments:
    """W W^T and W^T W, whose eigenvectors are the weight's singular vectors (PSV).

    Args:
        model: any module.
        targets: which layers.

    Example:
        >>> moments = weight_moments(torch.nn.Sequential(torch.nn.Linear(16, 24)), targets="all")
        >>> ls.moment_basis(moments, dim=4).dims
        {'0': (4, 4)}
    """
    return SideMoments.of_weights({path: layer.weight for path, layer in target_layers(model, targets).items()})


def curvature_moments(model: nn.Module, losses: Iterable[Tensor], *, targets: Targets = "blocks") -> SideMoments:
    """Mean squares of the gradients at layers' outputs and of their inputs: the two factors of K-FAC.

    The Fisher information of a layer's weight is taken as their Kronecker product (Martens and Grosse 2015,
    arXiv 1503.05671), with the gradients of the losses themselves (the empirical Fisher).

    Args:
        model: any module.
        losses: as for :func:`gradient_moments`.
        targets: which layers.

    Example:
        >>> model, x = torch.nn.Sequential(torch.nn.Linear(16, 24)), torch.randn(5, 16)
        >>> moments = curvature_moments(model, (model(row[None]).square().sum() for row in x), targets="all")
        >>> ls.moment_basis(moments, dim=2).dims
        {'0': (2, 2)}
    """
    errors, activations = RowMoments(), RowMoments()
    visit_layers(model, losses, targets=targets, activation=activations.add, error=errors.add)
    return _curvature(errors, activations)


def gradient_basis(
    model: nn.Module,
    losses: Iterable[Tensor],
    *,
    dim: int | str | None = None,
    budget: int | None = None,
    columns: Columns = "orthonormal",
    targets: Targets = "blocks",
) -> SubspaceBasis:
    """Find where losses pull each layer of a model: the leading eigenvectors of the moments of its gradients.

    Args:
        model: any module.
        losses: scalars that are computed as they are asked for, one gradient each.
        dim: columns of either side, or ``"energy:0.5"``; see :func:`lorasub.subspaces.moment_basis`.
        budget: instead, numbers of M over all layers.
        columns: ``orthonormal``, ``spectrum`` or ``kfac``, see there.
        targets: which layers, as adapters' targets.

    Raises:
        ConfigError: there is no loss, a target matches nothing, or the dimensions do not fit.

    Examples:
        >>> model = torch.nn.Linear(8, 4)
        >>> x, y = torch.randn(16, 8), torch.randn(16, 4)
        >>> losses = (torch.nn.functional.mse_loss(model(x[i:i + 4]), y[i:i + 4]) for i in range(0, 16, 4))
        >>> gradient_basis(model, losses, dim=2, targets="all").dims
        {'': (2, 2)}
    """
    return model_basis(model, {"": losses}, dim=dim, budget=budget, columns=columns, targets=targets)


def model_basis(
    model: nn.Module,
    groups: Mapping[str, Iterable[Tensor]],
    *,
    source: Source = "gradients",
    part: Part = "raw",
    dim: int | str | None = None,
    budget: int | None = None,
    columns: Columns = "orthonormal",
    targets: Targets = "blocks",
) -> SubspaceBasis:
    """Make a basis from what passes the layers of a model on scenes of several attributes.

    Args:
        model: any module, at the weights from which adapters will start.
        groups: attribute to its losses, scalars that are computed as they are asked for; ``activations`` only need
            them to have been computed, ``weights`` need none.
        source: ``gradients``, ``activations`` or ``weights``.
        part: ``raw``: one basis of all groups together. ``specific``: of each group what the others lack, side by side.
        dim: columns of either side, or ``"energy:0.5"``; with ``specific``, a number that the groups share equally.
        budget: instead, numbers of M over all layers.
        columns: ``orthonormal``, ``spectrum`` or ``kfac``; see :func:`lorasub.subspaces.moment_basis`.
        targets: which layers, as adapters' targets.

    Raises:
        ConfigError: there is no loss, a target matches nothing, or the options do not fit together.

    Example:
        >>> model, x = torch.nn.Sequential(torch.nn.Linear(16, 24)), torch.randn(5, 16)
        >>> losses = {"texture": (model(row).square().sum() for row in x)}
        >>> model_basis(model, losses, dim=2, targets="all").dims
        {'0': (2, 2)}
    """
    identity = {**_identity(model), "method": source}
    if part == "specific":
        if columns != "orthonormal" or not isinstance(dim, int) or dim % len(groups):
            raise ConfigError(
                f"specific parts need orthonormal columns and a dim that {len(groups)} groups share equally, not "
                f"dim={dim!r}, columns={columns!r}"
            )
        if source == "weights":
            raise ConfigError("weights are the same for all groups: nothing in them is specific")
        moments_of = gradient_moments if source == "gradients" else activation_moments
        moments = {name: moments_of(model, losses, targets=targets) for name, losses in groups.items()}
        each = {
            name: moment_basis(found, dim=dim // len(groups), attributes=(name,), **identity)
            for name, found in specific_moments(moments).items()
        }
        return combine_subspaces(each)
    losses = _in_turn(groups.values())
    attributes = tuple(name for name in groups if name)
    sizes: dict[str, Any] = {"dim": dim, "budget": budget, "columns": columns, "attributes": attributes}
    if source == "weights":
        return moment_basis(weight_moments(model, targets=targets), **sizes, **identity)
    if source == "activations":
        return moment_basis(activation_moments(model, losses, targets=targets), **sizes, **identity)
    gradients, errors, activations = LayerGradients(moments=True), RowMoments(), RowMoments()
    curved = columns == "kfac"
    count = visit_layers(
        model,
        losses,
        targets=targets,
        gradient=gradients.add,
        activation=activations.add if curved else None,
        error=errors.add if curved else None,
    )
    curvature = _curvature(errors, activations) if curved else None
    options = {"batches": count}
    return moment_basis(gradients.side_moments(), curvature=curvature, options=options, **sizes, **identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientShare:
    """Share of the gradients of some losses that a basis holds.

    Attributes:
        layers: layer to the mean share over the losses, in [0, 1].
        whole: share of the sum of all squared norms: layers and losses with large gradients count for more.
    """

    layers: Mapping[str, float]
    whole: float

    @property
    def mean(self) -> float:
        """Mean over layers, each of which counts alike."""
        return sum(self.layers.values()) / len(self.layers)


def gradient_share(
    model: nn.Module, losses: Iterable[Tensor], bases: Mapping[str, SubspaceBasis], *, targets: Targets = "blocks"
) -> dict[str, GradientShare]:
    """Measure how much of the gradients of losses lies in bases, before anything is trained in them.

    Of a layer's gradient G a basis holds ``||P_U G P_V||_F^2 / ||G||_F^2`` with the projections on its two spans: 1 if
    the first step could go all the way, D_out D_in / (out in) on average for a random basis. What a basis does not hold
    of held-out gradients, training in it cannot do at first; what it holds is no promise of accuracy.

    Args:
        model: the base model.
        losses: on data that no basis was made from.
        bases: by name; they need the layers that targets name.
        targets: which layers.

    Returns:
        name of a basis to what it holds.

    Example:
        >>> model, x = torch.nn.Sequential(torch.nn.Linear(16, 24)), torch.randn(5, 16)
        >>> bases = {"random": ls.random_basis({"0": (24, 16)}, 4)}
        >>> found = gradient_share(model, (model(row).square().sum() for row in x), bases, targets="all")
        >>> list(found)
        ['random']
    """
    spans = {
        name: {
            path: (orthonormal(layer.U).float(), orthonormal(layer.V).float()) for path, layer in basis.layers.items()
        }
        for name, basis in bases.items()
    }
    energies: list[float] = []
    held: dict[str, list[float]] = {name: [] for name in bases}
    paths: list[str] = []

    @full_precision
    def measure(path: str, gradient: Tensor) -> None:
        G = gradient.flatten(1).float()
        paths.append(path)
        energies.append(float(G.square().sum()))
        for name, layers in spans.items():
            U, V = (side.to(G) for side in layers[path])
            held[name].append(float((U.mT @ G @ V).square().sum()))

    visit_layers(model, losses, targets=targets, gradient=measure)
    return {name: _share(paths, each, energies) for name, each in held.items()}


def _share(paths: Sequence[str], held: Sequence[float], energies: Sequence[float]) -> GradientShare:
    layers: dict[str, list[float]] = {}
    for path, part, whole in zip(paths, held, energies, strict=True):
        layers.setdefault(path, []).append(part / whole if whole else 0.0)
    return GradientShare(
        layers={path: sum(each) / len(each) for path, each in layers.items()},
        whole=sum(held) / sum(energies) if sum(energies) else 0.0,
    )


def _in_turn(groups: Iterable[Iterable[Tensor]]) -> Iterator[Tensor]:
    """The losses of one group after those of another."""
    for losses in groups:
        yield from losses


def _curvature(errors: RowMoments, activations: RowMoments) -> SideMoments:
    return SideMoments(
        output={path: errors.mean_square(path) for path in errors.counts},
        input={path: activations.mean_square(path) for path in errors.counts},
    )


def _identity(model: nn.Module) -> dict[str, Any]:
    """The hash of a model's weights and its name, where it has them, as a basis remembers them."""
    model = unwrapped(model)
    return {
        "base_model_hash": model.weights_hash() if isinstance(model, HashedModel) else None,
        "base_model_id": model.model_id if isinstance(model, NamedModel) else None,
    }

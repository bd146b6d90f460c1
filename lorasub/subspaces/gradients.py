"""Gradients of layers at the base model: summed over batches, kept in files, and compared between sets of scenes.

Before anything is fitted, the gradient says where a set of scenes pulls each layer. If two halves of one set do not
pull alike, an adapter that is fitted to it learns noise. Whether sets of one label are more alike than others is tested
exactly: under the null that all sets are of one kind, any choice of as many of them could have carried the label, and
the share of choices that set themselves apart at least as far is the p-value (a permutation test; Good 2005).
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor

from lorasub.errors import ConfigError, NumericalError
from lorasub.files import write_tensors
from lorasub.precision import full_precision
from lorasub.rng import generator
from lorasub.subspaces.layers import layer_kind
from lorasub.subspaces.linear_algebra import one_thread
from lorasub.subspaces.moments import SideMoments


@dataclass(slots=True)
class LayerGradients:
    """Sums over batches of the weight gradients of layers, and if wanted of their second moments.

    Hand :meth:`add` to :func:`lorasub.tasks.gradients.visit_gradients`.

    Args:
        moments: also keep the sums of ``G G^T`` and ``G^T G``, whose leading eigenvectors are the output and the input
            side of a basis from gradients. A layer then takes ``out^2 + in^2`` numbers more.
        unit: count each batch's gradient of a layer with Frobenius norm 1 in the moments, so that no batch outweighs
            the others.

    Attributes:
        total: layer to ``[out, in]`` float32, the sum of the gradients.
        output_moment: layer to ``[out, out]`` float32, the sum of ``G G^T``; empty without ``moments``.
        input_moment: layer to ``[in, in]`` float32, the sum of ``G^T G``; empty without ``moments``.
        counts: layer to the number of gradients that were added.
        energy: layer to the sum of the gradients' squared norms; empty without ``moments``.

    Examples:
        >>> gradients = LayerGradients(moments=True)
        >>> gradients.add("head", torch.ones(3, 2))
        >>> gradients.total["head"].shape, gradients.output_moment["head"].shape
        (torch.Size([3, 2]), torch.Size([3, 3]))
    """

    moments: bool = False
    unit: bool = True
    total: dict[str, Tensor] = field(default_factory=dict)
    output_moment: dict[str, Tensor] = field(default_factory=dict)
    input_moment: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    energy: dict[str, float] = field(default_factory=dict)

    @full_precision
    def add(self, layer: str, gradient: Tensor) -> None:
        """Add one batch's gradient of a layer; it is not kept.

        Args:
            layer: path of the layer.
            gradient: ``[out, in]``; of a convolution ``[out, in, h, w]``, read as ``[out, in h w]``.

        Raises:
            NumericalError: it is not finite.
        """
        gradient = gradient.detach().flatten(1).float()
        if not gradient.is_meta and not torch.isfinite(gradient).all():
            raise NumericalError(f"the gradient of layer {layer} is not finite; look at the scenes of this batch")
        _accumulate(self.total, layer, gradient)
        self.counts[layer] = self.counts.get(layer, 0) + 1
        if self.moments:
            norm = gradient.norm()
            self.energy[layer] = self.energy.get(layer, 0.0) + (0.0 if norm.is_meta else float(norm) ** 2)
            if self.unit:
                gradient = gradient / norm.clamp(min=torch.finfo(torch.float32).tiny)
            _accumulate(self.output_moment, layer, gradient @ gradient.mT)
            _accumulate(self.input_moment, layer, gradient.mT @ gradient)

    def side_moments(self) -> SideMoments:
        """The moments of both sides, from which :func:`lorasub.subspaces.moment_basis` makes a basis."""
        return SideMoments(output=self.output_moment, input=self.input_moment, energy=self.energy)

    def save(self, path: str | os.PathLike[str]) -> StoredGradients:
        """Write the sums of the gradients to a safetensors file, and return them as they are read from it."""
        write_tensors(path, {layer: total.contiguous().cpu() for layer, total in self.total.items()})
        return StoredGradients(path)


class StoredGradients(Mapping[str, Tensor]):
    """Gradients in a file, layer by layer: one layer at a time is in memory.

    Args:
        path: a file that :meth:`LayerGradients.save` has written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = safe_open(os.fspath(path), framework="pt")
        self._names = tuple(self._file.keys())  # type: ignore[no-untyped-call]

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._names:
            raise KeyError(layer)
        tensor: Tensor = self._file.get_tensor(layer)  # type: ignore[no-untyped-call]
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Agreement(NamedTuple):
    """Likeness of two gradients of one layer, or its mean over layers.

    Attributes:
        cosine: of the two as long vectors, in [-1, 1]; 0 for unrelated ones.
        rv_output: RV coefficient (Escoufier 1973) of the output sides, ``<A A^T, B B^T>`` over both norms, in [0, 1].
            It asks for the same directions, whatever their sign or order. Unrelated gradients do not score 0: compare
            it with a placebo.
        rv_input: the same of ``A^T A`` and ``B^T B``.
    """

    cosine: float
    rv_output: float
    rv_input: float


def gradient_agreement(one: Tensor, two: Tensor) -> Agreement:
    """Compares two gradients ``[out, in]`` of one layer; NaN where one of them is zero.

    ``<A A^T, B B^T>`` is computed as ``|A^T B|^2``.
    """
    if not (one.any() and two.any()):
        return Agreement(torch.nan, torch.nan, torch.nan)
    a, b = one / one.norm(), two / two.norm()
    grams = _gram_norm(a) * _gram_norm(b)
    output, inputs = (a.mT @ b).square().sum() / grams, (a @ b.mT).square().sum() / grams
    return Agreement(float((a * b).sum()), float(output), float(inputs))


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSet:
    """The gradients of two halves of one set of scenes.

    Attributes:
        name: for tables, such as ``texture 1``.
        attribute: sets of one attribute are its partitions.
        halves: layer to ``[out, in]``, of two disjoint halves of the set.
    """

    name: str
    attribute: str
    halves: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAgreement:
    """The agreement of two sets of gradients, or of the halves of one.

    Attributes:
        one: name of a set.
        two: name of another, or of the same one: then its halves are compared.
        layers: layer to agreement. Of two sets it is the mean over the four pairs of a half of each, so that it is
            measured on as many scenes as the agreement of halves is.
    """

    one: str
    two: str
    layers: Mapping[str, Agreement]

    @property
    def whole(self) -> Agreement:
        """Mean over all layers, each of which weighs the same."""
        return mean_agreement(self.layers.values())

    def groups(self) -> dict[str, Agreement]:
        """Means over the layers of one kind, such as ``frame_blocks qkv``."""
        kinds = {layer: str(layer_kind(layer)) for layer in self.layers}
        return {
            kind: mean_agreement(self.layers[layer] for layer in kinds if kinds[layer] == kind)
            for kind in dict.fromkeys(kinds.values())
        }


def compare_gradients(sets: Iterable[GradientSet]) -> list[SetAgreement]:
    """Compares the halves of every set, and every set with every other, layer by layer.

    Args:
        sets: gradients of the same layers.
    """
    sets = list(sets)
    pairs = [(i, j) for i in range(len(sets)) for j in range(i, len(sets))]
    found: dict[tuple[int, int], dict[str, Agreement]] = {pair: {} for pair in pairs}
    for layer in sets[0].halves[0] if sets else ():
        halves = [tuple(half[layer] for half in each.halves) for each in sets]
        for i, j in pairs:
            if i == j:
                found[i, j][layer] = gradient_agreement(*halves[i])
            else:
                found[i, j][layer] = mean_agreement(gradient_agreement(a, b) for a in halves[i] for b in halves[j])
    return [SetAgreement(one=sets[i].name, two=sets[j].name, layers=found[i, j]) for i, j in pairs]


def mean_agreement(agreements: Iterable[Agreement]) -> Agreement:
    """Mean of each of the three numbers, without what is NaN."""
    columns = torch.tensor([tuple(one) for one in agreements], dtype=torch.float64)
    return Agreement(*(float(value) for value in columns.nanmean(0)))


def _gram_norm(matrix: Tensor) -> Tensor:
    """``|A A^T|``, which is ``|A^T A|``; the smaller of the two is formed."""
    norm: Tensor = torch.linalg.matrix_norm(
        matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix
    )
    return norm


def _accumulate(sums: dict[str, Tensor], layer: str, value: Tensor) -> None:
    if layer in sums:
        sums[layer] += value
    else:
        sums[layer] = value.clone()


Array = npt.NDArray[np.float64]
#: The gradients of two disjoint halves of a set of scenes: layer to ``[out, in]``.
Halves = tuple[Mapping[str, Tensor], Mapping[str, Tensor]]

#: Choices that are tried; more than these are drawn at random.
MOST_CHOICES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTest:
    """Whether the sets of one label are more alike than with others.

    Attributes:
        own: mean cosine of two sets of the label.
        low: the smallest of these.
        other: mean cosine of a set of the label with one of the others.
        p: share of choices of as many sets that differ from the rest at least as far.
        choices: how many there are.
    """

    own: float
    low: float
    other: float
    p: float
    choices: int


def pull_cosines(sets: Sequence[Halves]) -> Array:
    """Measure how alike sets pull each layer, by the cosine of their gradients, and take the mean over layers.

    Args:
        sets: gradients of the same layers.

    Returns:
        ``[sets, sets]``, in [-1, 1]. Off the diagonal: the mean over the four pairs of a half of either, so that it is
        measured on as many scenes as the diagonal, where the two halves of one set are compared.

    Raises:
        ConfigError: layers differ, or there is no set.
    """
    layers = list(sets[0][0]) if sets else []
    if not layers or any(set(half) != set(layers) for halves in sets for half in halves):
        raise ConfigError("these gradients are not of the same layers; gather all of them with the same targets")
    found = []
    with one_thread():
        for layer in layers:
            rows = torch.stack([half[layer].flatten().double() for halves in sets for half in halves])
            norms = rows.norm(dim=1, keepdim=True)
            rows = torch.where(norms > 0, rows / norms, torch.nan)  # a gradient of zero points nowhere
            gram = (rows @ rows.T).reshape(len(sets), 2, len(sets), 2)
            cosines = gram.mean((1, 3))
            cosines.diagonal().copy_(gram[:, 0, :, 1].diagonal())
            found.append(cosines)
    mean: Array = torch.stack(found).nanmean(0).numpy()
    return mean


def label_test(cosines: Array, carries: Sequence[int], others: Sequence[int], *, seed: int = 0) -> LabelTest:
    """Test whether some sets are more alike among themselves than with others.

    Args:
        cosines: of :func:`pull_cosines`.
        carries: the sets with the label, two at least.
        others: what they are held against.
        seed: of the choices that are drawn, where there are more than :data:`MOST_CHOICES`.

    Raises:
        ConfigError: fewer than two sets carry the label, or there are no others.
    """
    if len(carries) < 2 or not others:
        raise ConfigError(f"{len(carries)} sets carry the label and {len(others)} do not; it takes 2 and 1 at least")
    count, chosen = len(carries), [*carries, *others]
    part = cosines[np.ix_(chosen, chosen)]
    total = math.comb(len(chosen), count)
    if total <= MOST_CHOICES:
        choices = np.array(list(itertools.combinations(range(len(chosen)), count)))
    else:
        rng = generator(seed, "label test")
        drawn = rng.random((MOST_CHOICES - 1, len(chosen))).argsort(1)[:, :count]
        choices = np.concatenate([np.arange(count)[None], drawn])
    member = np.zeros((len(choices), len(chosen)))
    np.put_along_axis(member, choices, 1.0, axis=1)
    off = part - np.diag(part.diagonal())
    own = ((member @ off) * member).sum(1) / (count * (count - 1))
    other = ((member @ off) * (1 - member)).sum(1) / (count * len(others))
    apart = own - other  # the first choice is the label itself
    pairs = part[:count, :count][np.triu_indices(count, 1)]
    return LabelTest(
        own=float(own[0]),
        low=float(pairs.min()),
        other=float(other[0]),
        p=float((apart >= apart[0] - 1e-12).mean()),
        choices=len(choices),
    )

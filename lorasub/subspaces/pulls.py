"""Do sets of scenes pull a model alike? Cosines of their gradients, with an exact test of each label.

The sets that carry a label are held against others: are they more alike among themselves than with those? Under the
null that all of these sets are of one kind, any choice of as many of them could have carried the label. The share of
choices that set themselves apart at least as far is an exact p-value (a permutation test; Good 2005).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lorasub.errors import ConfigError
from lorasub.rng import generator
from lorasub.subspaces.threads import one_thread

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

"""Layers of a model: their updates in factored form, what their paths say, and those that several things cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from lorasub.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LayerKind:
    """Place of a layer in the model.

    Attributes:
        stage: the list of blocks that it is in, such as ``frame_blocks`` or ``global_blocks``; the first name of the
            path where it is in no list.
        depth: number of its block; None outside a list.
        part: its own name, such as ``qkv``, ``proj``, ``fc1`` or ``fc2``.
    """

    stage: str
    depth: int | None
    part: str

    def __str__(self) -> str:
        return f"{self.stage} {self.part}"


def layer_kind(path: str) -> LayerKind:
    """Read ``aggregator.frame_blocks.3.attn.qkv`` as stage frame_blocks, depth 3, part qkv.

    Args:
        path: a module path as in ``named_modules``. The first number in it is the depth.
    """
    names = path.split(".")
    number = next((index for index, name in enumerate(names) if name.isdigit()), None)
    part = next((name for name in reversed(names) if not name.isdigit()), path)
    if not number:
        return LayerKind(names[0], None, part)
    return LayerKind(names[number - 1], int(names[number]), part)


def common_layers(covered: Mapping[str, Mapping[str, tuple[int, int]]], *, strict: bool = True) -> list[str]:
    """Returns the layers that several bases or adapters of one model cover, in the order of the first.

    Args:
        covered: name -> layer path -> (out, in) of the layer's weight.
        strict: whether all must cover the same layers.

    Raises:
        ConfigError: they cover different layers (``strict``) or none in common, or a layer has different shapes.
    """
    (first_name, first), *others = covered.items()
    for name, layers in others:
        different = sorted(set(first).symmetric_difference(layers))
        if strict and different:
            raise ConfigError(
                f"'{name}' and '{first_name}' do not cover the same layers, such as '{different[0]}' ({len(different)} "
                "differ)"
            )
        for path, shape in first.items():
            if layers.get(path, shape) != shape:
                raise ConfigError(
                    f"layer '{path}' has different shapes: {layers[path]} in '{name}' and {shape} in "
                    f"'{first_name}'; these are different models"
                )
    found = [path for path in first if all(path in layers for _, layers in others)]
    if not found:
        raise ConfigError(f"{', '.join(map(repr, covered))} have no layer in common")
    return found


@dataclass(frozen=True, slots=True)
class LowRankUpdate:
    """The update ``scale * B @ A`` of one layer. The product itself is never formed.

    Attributes:
        B: ``(out, r)``, PEFT's ``lora_B``.
        A: ``(r, in)``, PEFT's ``lora_A``. For a convolution, in = channels * kernel height * kernel width.
        scale: PEFT's scaling, ``lora_alpha / r``.
        start: hash of the random ``lora_A`` that the fit started from; None where it is not known.
    """

    B: Tensor
    A: Tensor
    scale: float = 1.0
    start: str | None = None

    def __post_init__(self) -> None:
        if self.B.ndim != 2 or self.A.ndim != 2 or self.B.shape[1] != self.A.shape[0] or self.A.shape[0] == 0:
            raise ConfigError(
                f"a low-rank update needs B (out, r) and A (r, in) with r >= 1, "
                f"not B {tuple(self.B.shape)} and A {tuple(self.A.shape)}"
            )

    @property
    def r(self) -> int:
        """The rank."""
        return self.A.shape[0]


#: The updates of one adapter by layer path. A mapping that reads from a file on access keeps memory at one layer.
AdapterUpdates: TypeAlias = Mapping[str, LowRankUpdate]
#: Wraps the layer paths while they are worked through; a progress bar such as ``tqdm`` fits.
Progress: TypeAlias = Callable[[Sequence[str]], Iterable[str]]

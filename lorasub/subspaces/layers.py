"""Reads a layer's path: the kind of block, its depth and its role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

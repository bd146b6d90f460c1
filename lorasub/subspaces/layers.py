"""What a layer's path says about it: the kind of block, its depth and its role."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerKind:
    """Where a layer stands in the model.

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

"""The space file of the paper's released code: one safetensors file with a pair of frozen matrices per layer.

Its keys put the block's number last: the layer ``aggregator.frame_blocks.0.attn.qkv`` has ``frame_blocks.attn.qkv.0.A``
of shape (k, in) and ``frame_blocks.attn.qkv.0.B`` of shape (out, k). Nothing else is in the file: no attributes, no
base model, no scale.
"""

from __future__ import annotations

import os
import re

from torch import Tensor

from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_tensors, write_tensors
from lorasub.subspaces.basis import LayerSubspace, SubspaceBasis
from lorasub.subspaces.linear_algebra import orthonormality_error

_KEY = re.compile(r"(?P<block>\w+)\.(?P<module>\w+)\.(?P<weight>\w+)\.(?P<index>\d+)")
_PATH = re.compile(r"(?P<block>\w+)\.(?P<index>\d+)\.(?P<module>\w+)\.(?P<weight>\w+)")

#: Float32 columns that were once orthonormal still are to about 1e-6.
_ORTHONORMAL_TOLERANCE = 1e-4


def read_paper_format(path: str | os.PathLike[str], *, prefix: str = "aggregator.") -> SubspaceBasis:
    """Read a space file. The columns stay as they are; where they are not orthonormal the basis is ``scaled``.

    Args:
        path: the safetensors file.
        prefix: what the layer paths of your model have before the block's name: ``aggregator.`` for VGGT, nothing for
            models whose blocks are ``decoder.0`` and so on.

    Returns:
        A basis with ``method="imported"``, without base model hash, since the file has none.

    Raises:
        ArtefactError: the file is damaged, empty, has keys of another kind, or an A without its B.

    Example:
        >>> basis = ls.random_basis({"aggregator.frame_blocks.0.attn.qkv": (24, 16)}, 4)
        >>> ls.write_paper_format(basis, "space.safetensors")
        >>> read_paper_format("space.safetensors").dims
        {'aggregator.frame_blocks.0.attn.qkv': (4, 4)}
    """
    tensors = read_tensors(path)
    layers: dict[str, LayerSubspace] = {}
    for key in sorted({name.rpartition(".")[0] for name in tensors}):
        match = _KEY.fullmatch(key)
        pair = [tensors.pop(f"{key}.{side}", None) for side in "AB"]
        A, B = pair
        if match is None or A is None or B is None or A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1]:
            raise ArtefactError(
                f"{path}: '{key}' is no layer of a space file: it needs '{key}.A' (k, in) and '{key}.B' (out, k), "
                "with a key such as 'frame_blocks.attn.qkv.0'"
            )
        layers[f"{prefix}{match['block']}.{match['index']}.{match['module']}.{match['weight']}"] = LayerSubspace(
            U=B, V=A.T.contiguous()
        )
    if not layers or tensors:
        raise ArtefactError(f"{path} is no space file: {sorted(tensors)[:4] if tensors else 'it is empty'}")
    scaled = any(
        orthonormality_error(columns) > _ORTHONORMAL_TOLERANCE
        for layer in layers.values()
        for columns in (layer.U, layer.V)
    )
    return SubspaceBasis(layers=layers, method="imported", scaled=scaled, options={"space_file": os.fspath(path)})


def write_paper_format(basis: SubspaceBasis, path: str | os.PathLike[str], *, prefix: str = "aggregator.") -> None:
    """Write U and V as they are for the paper's released code, atomically. Singular values and records are left out.

    Args:
        basis: its layers must be ``{prefix}{block}.{number}.{module}.{weight}``, with as many columns in U as in V.
        path: the safetensors file.
        prefix: see :func:`read_paper_format`.

    Raises:
        ConfigError: a layer cannot be expressed in this format.

    Example:
        >>> basis = ls.random_basis({"aggregator.frame_blocks.0.attn.qkv": (24, 16)}, 4)
        >>> write_paper_format(basis, "space.safetensors")
        >>> ls.read_paper_format("space.safetensors").dims
        {'aggregator.frame_blocks.0.attn.qkv': (4, 4)}
    """
    tensors: dict[str, Tensor] = {}
    for layer_path, layer in basis.layers.items():
        match = _PATH.fullmatch(layer_path.removeprefix(prefix))
        if match is None or not layer_path.startswith(prefix):
            raise ConfigError(
                f"layer '{layer_path}' does not fit the space file's keys '{prefix}BLOCK.NUMBER.MODULE.WEIGHT'; "
                "save the basis as a folder instead"
            )
        if layer.d_out != layer.d_in:
            raise ConfigError(
                f"layer '{layer_path}' has {layer.d_out} output and {layer.d_in} input dimensions; a space file has "
                "one number for both: combine with tolerance 0, or save the basis as a folder instead"
            )
        key = f"{match['block']}.{match['module']}.{match['weight']}.{match['index']}"
        tensors[f"{key}.A"], tensors[f"{key}.B"] = layer.V.T, layer.U
    write_tensors(path, tensors)

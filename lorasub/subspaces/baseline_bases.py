"""Bases that need no adapters: controls that a mined basis has to beat, and the ones that come with the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lorasub.errors import ArtefactError, ConfigError
from lorasub.rng import subspace_generator
from lorasub.subspaces.angles import orthonormalised
from lorasub.subspaces.basis import DESCRIPTION_FILE, LayerSubspace, SubspaceBasis
from lorasub.subspaces.layers import Progress
from lorasub.subspaces.linear_algebra import one_thread


def random_basis(
    shapes: Mapping[str, tuple[int, int]],
    dim: int,
    *,
    seed: int = 0,
    base_model_hash: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> SubspaceBasis:
    """Haar-random subspaces.

    Args:
        shapes: layer path -> (out, in).
        dim: columns of U and of V in every layer.
        seed: each layer's columns depend on it and on the layer's path only.
        base_model_hash: of the model that it is meant for.
        dtype: of the columns.

    Raises:
        ConfigError: a layer has fewer than ``dim`` outputs or inputs.

    Example:
        >>> basis = random_basis({"block": (24, 16)}, 4)
        >>> torch.allclose(basis.layers["block"].U.T @ basis.layers["block"].U, torch.eye(4), atol=1e-5)
        True
    """
    layers = {}
    with one_thread():
        for path, (out, in_) in shapes.items():
            _check_dim(path, dim, (out, in_))
            rng = subspace_generator(seed, "random basis", path)
            U, V = (orthonormalised(torch.from_numpy(rng.standard_normal((n, dim)))) for n in (out, in_))
            layers[path] = LayerSubspace(U=U.to(dtype), V=V.to(dtype))
    return SubspaceBasis(
        layers=layers, base_model_hash=base_model_hash, method="random", options={"dim": dim, "seed": seed}
    )


def principal_basis(
    weights: Mapping[str, Tensor],
    dim: int,
    *,
    base_model_hash: str | None = None,
    base_model_id: str | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress = iter,
) -> SubspaceBasis:
    """Principal singular vectors (PSV): the leading singular vectors of the weights themselves.

    Args:
        weights: layer path -> weight (out, in); more axes, as of a convolution, are flattened into the second.
        dim: columns of U and of V in every layer.
        base_model_hash: of the model that the weights are of.
        base_model_id: its name for the basis' card.
        dtype: of the columns.
        progress: wraps the sequence of layer paths. A layer of 4096 x 1024 takes about a second.

    Raises:
        ConfigError: a layer has fewer than ``dim`` outputs or inputs.
        ArtefactError: a weight holds NaN or infinity.

    Example:
        >>> basis = principal_basis({"block": torch.diag(torch.arange(1.0, 7.0))}, 2)
        >>> basis.layers["block"].S
        tensor([6., 5.], dtype=torch.float64)
    """
    layers = {}
    for path in progress(list(weights)):
        weight = weights[path].detach().to("cpu", torch.float64).flatten(start_dim=1)
        _check_dim(path, dim, (weight.shape[0], weight.shape[1]))
        if not torch.isfinite(weight).all():
            raise ArtefactError(f"the weight of layer '{path}' holds NaN or infinity")
        U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
        layers[path] = LayerSubspace(
            U=U[:, :dim].to(dtype).contiguous(), V=Vh[:dim].T.to(dtype).contiguous(), S=S[:dim].clone()
        )
    return SubspaceBasis(
        layers=layers,
        base_model_hash=base_model_hash,
        base_model_id=base_model_id,
        method="principal",
        options={"dim": dim},
    )


def _check_dim(path: str, dim: int, shape: tuple[int, int]) -> None:
    if not 1 <= dim <= min(shape):
        raise ConfigError(f"layer '{path}' of shape {shape} cannot have a basis of {dim} dimensions")


#: One folder for each attribute.
SHIPPED_BASES = Path(__file__).parent / "shipped"
#: One folder for each basis that was made as these, of scenes that differ in nothing but their seed.
SHIPPED_PLACEBOS = Path(__file__).parent / "shipped_placebos"


def shipped_bases(base_model_hash: str | None) -> dict[str, SubspaceBasis]:
    """The packaged bases that were mined on certain weights.

    Args:
        base_model_hash: of the weights of the model whose subspaces are wanted.

    Returns:
        Attribute -> its basis; empty for weights that the package has no bases for, such as a user's own.

    Example:
        >>> shipped_bases(None)  # weights whose hash nobody knows
        {}
    """
    return _of_model(SHIPPED_BASES, base_model_hash)


def shipped_placebos(base_model_hash: str | None) -> dict[str, SubspaceBasis]:
    """The packaged bases of scenes that differ in nothing but their seed, made as :func:`shipped_bases` were.

    Args:
        base_model_hash: of the weights of the model whose subspaces are wanted.

    Returns:
        Number -> basis; empty for weights that the package has none for.
    """
    return _of_model(SHIPPED_PLACEBOS, base_model_hash)


def _of_model(parent: Path, base_model_hash: str | None) -> dict[str, SubspaceBasis]:
    folders = sorted(path.parent for path in parent.glob(f"*/{DESCRIPTION_FILE}"))
    bases = {folder.name: SubspaceBasis.load(folder) for folder in folders} if base_model_hash else {}
    return {name: basis for name, basis in bases.items() if basis.base_model_hash == base_model_hash}

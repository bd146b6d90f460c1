"""Mining from adapter folders; :func:`lorasub.subspaces.mine_updates` itself takes tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasub.adapters.folder import load_adapter_updates
from lorasub.errors import ArtefactError
from lorasub.files import hash_tensors
from lorasub.subspaces import AdapterSource, AdapterUpdates, SideMoments, SubspaceBasis, mine_updates, mine_whitened

#: The folder of an adapter, or of the run that fitted it.
AdapterPath = str | os.PathLike[str]


def read_adapter(path: AdapterPath, *, attribute: str | None = None) -> tuple[AdapterUpdates, AdapterSource]:
    """The updates in an adapter folder (lorasub's or PEFT's) and where they are from.

    Args:
        path: the adapter's folder, or the run's folder with ``adapter/`` in it.
        attribute: what varied in the data that it was fitted on.

    Raises:
        ArtefactError: there is no adapter, or it is damaged.
    """
    folder = adapter_folder(path)
    updates, info = load_adapter_updates(folder)
    source = AdapterSource(
        name=str(path),
        hash=updates_hash(updates),
        base_model_hash=info.base_model_hash,
        attribute=attribute,
        start=info.start,
    )
    return updates, source


def updates_hash(updates: AdapterUpdates) -> str:
    """Returns SHA-256 of an adapter's factors: the identity by which bases name their sources."""
    factors = {f"{path}.A": update.A for path, update in updates.items()}
    return hash_tensors(factors | {f"{path}.B": update.B for path, update in updates.items()})


def adapter_folder(path: AdapterPath) -> Path:
    """``path`` itself where it holds an adapter, else ``path/adapter``.

    Raises:
        ArtefactError: neither does.
    """
    for folder in (Path(path), Path(path) / "adapter"):
        if (folder / "adapter_config.json").is_file() or (folder / "lorasub.json").is_file():
            return folder
    raise ArtefactError(f"there is no adapter at {path}, nor in {Path(path) / 'adapter'}")


def mine_subspace(
    adapters: Sequence[AdapterPath | AdapterUpdates],
    *,
    dim: int | str = 16,
    curvature: SideMoments | None = None,
    **options: Any,
) -> SubspaceBasis:
    """Find the low-rank update that k adapters share, robustly, layer by layer.

    Args:
        adapters: at least two: folders of adapters or of runs, or their updates in memory.
        dim: dimensions to keep, or a rule: ``"energy:0.9"``, ``"gap"``, ``"parallel"``.
        curvature: of the base model's layers (:func:`lorasub.curvature_moments`): updates are whitened by it before
            they are mined (:func:`lorasub.mine_whitened`).
        options: of :func:`lorasub.subspaces.mine_updates`, which explains them and the method.

    Raises:
        ArtefactError: an adapter is missing or damaged, or they belong to different base models.
        ConfigError: the adapters or options do not fit.

    Example:
        >>> def adapter():
        ...     return {"block": ls.LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))}
        >>> basis = mine_subspace([adapter() for _ in range(3)], dim=2)
        >>> basis.dims
        {'block': (2, 2)}
    """
    updates: list[AdapterUpdates] = []
    sources: list[AdapterSource] = []
    for number, adapter in enumerate(adapters):
        if isinstance(adapter, Mapping):
            updates.append(adapter)
            sources.append(AdapterSource(name=f"adapter {number}"))
        else:
            read, source = read_adapter(adapter, attribute=options.get("attribute"))
            updates.append(read)
            sources.append(source)
    if curvature is not None:
        return mine_whitened(updates, curvature, dim=dim, sources=sources, **options)
    return mine_updates(updates, dim=dim, sources=sources, **options)

"""Takes subspaces out of a fitted adapter, equal energy each, and leaves what remains as checkpoints to test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lorasub.adapters.mining import read_adapter
from lorasub.errors import ArtefactError
from lorasub.study.artefacts import BASIS, RUN, Output, Workplace
from lorasub.subspaces import AdapterUpdates, LowRankUpdate, SubspaceBasis, project_out, random_basis

RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Settings of :func:`remove`.

    Attributes:
        adapter: the fit.
        subspaces: attribute -> its mined subspace. A random one of the first one's dimensions is added.
        seed: of the random one.
    """

    adapter: Output
    subspaces: dict[str, Output]
    seed: int = 0


def remove(spec: Remove, place: Workplace) -> dict[str, Any]:
    """Writes ``NAME/run/checkpoints/last.ckpt`` for each subspace, without the same share of the update's energy."""
    run = place.of(spec.adapter) / RUN
    updates, _ = read_adapter(run)
    bases = {name: SubspaceBasis.load(place.of(mined) / BASIS) for name, mined in spec.subspaces.items()}
    bases[RANDOM] = _random_like(next(iter(bases.values())), seed=spec.seed)
    whole = {name: _removed_share(updates, basis, 1.0) for name, basis in bases.items()}
    share = min(whole.values())
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    fractions, reached = {}, {}
    for name, basis in bases.items():
        fractions[name] = _fraction_of_share(updates, basis, share)
        rest = partly_removed(updates, basis, fractions[name])
        reached[name] = 1.0 - _energy(rest) / _energy(updates)
        folder = place.folder / name / RUN / "checkpoints"
        folder.mkdir(parents=True)
        torch.save({**checkpoint, "state_dict": _with(checkpoint["state_dict"], rest)}, folder / "last.ckpt")
    return {"share": share, "whole": whole, "removed": reached, "fractions": fractions}


def partly_removed(updates: AdapterUpdates, basis: SubspaceBasis, fraction: float) -> dict[str, LowRankUpdate]:
    """Returns the adapter without a fraction t of a subspace on either side: (I - t U U^T) D (I - t V V^T).

    Its rank does not grow. Layers that the basis lacks stay as they are.
    """
    found = {}
    for path, update in updates.items():
        if path in basis.layers:
            B, A = update.B.double().cpu(), update.A.double().cpu()
            out = project_out(update, basis.layers[path])
            update = LowRankUpdate(torch.lerp(B, out.B, fraction), torch.lerp(A, out.A, fraction), update.scale)
        found[path] = update
    return found


def _removed_share(updates: AdapterUpdates, basis: SubspaceBasis, fraction: float) -> float:
    return 1.0 - _energy(partly_removed(updates, basis, fraction)) / _energy(updates)


def _fraction_of_share(updates: AdapterUpdates, basis: SubspaceBasis, share: float) -> float:
    """The fraction at which a share of the energy is gone; the share grows with it."""
    from scipy.optimize import brentq

    if _removed_share(updates, basis, 1.0) <= share:
        return 1.0
    return float(brentq(lambda t: _removed_share(updates, basis, t) - share, 0.0, 1.0, xtol=1e-4))


def _energy(updates: Mapping[str, LowRankUpdate]) -> float:
    """The squared Frobenius norm of all layers, without forming a product."""
    total = 0.0
    for update in updates.values():
        B, A = update.B.double(), update.A.double()
        total += update.scale**2 * float(((B.T @ B) * (A @ A.T)).sum())
    if not total:
        raise ArtefactError("the adapter has changed no layer: there is nothing to remove")
    return total


def _with(state: Mapping[str, torch.Tensor], updates: Mapping[str, LowRankUpdate]) -> dict[str, torch.Tensor]:
    found = dict(state)
    for path, update in updates.items():
        for side, factor in (("A", update.A), ("B", update.B)):
            name = f"backbone.{path}.lora_{side}.weight"
            if name not in found or found[name].shape != factor.shape:
                raise ArtefactError(f"the checkpoint has no LoRA of shape {tuple(factor.shape)} as '{name}'")
            found[name] = factor.to(found[name].dtype)
    return found


def _random_like(basis: SubspaceBasis, seed: int) -> SubspaceBasis:
    """Random subspaces of the layers and dimensions of a basis."""
    layers = {}
    for path, layer in basis.layers.items():
        drawn = random_basis({path: layer.shape}, min(max(layer.d_out, layer.d_in), *layer.shape), seed=seed).layers
        layers[path] = type(layer)(U=drawn[path].U[:, : layer.d_out], V=drawn[path].V[:, : layer.d_in])
    return SubspaceBasis(layers=layers, base_model_hash=basis.base_model_hash, method="random")

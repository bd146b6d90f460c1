"""Takes a subspace out of a fitted adapter and leaves what remains as a checkpoint that can be tested."""

from __future__ import annotations

from typing import Any

import torch

from lorasub.adapters.mining import read_adapter
from lorasub.errors import ArtefactError
from lorasub.study.store import BASIS, RUN, OpenStep
from lorasub.subspaces import LowRankUpdate, ProjectedOut, SubspaceBasis, random_basis


def remove(step: OpenStep) -> dict[str, Any]:
    """Write the checkpoint of a fit without a subspace, or without a random one of the same dimensions."""
    run = step.inputs["fit"] / RUN
    updates, _ = read_adapter(run)
    basis = SubspaceBasis.load(step.inputs["basis"] / BASIS)
    if step.config["random"]:
        basis = _random_like(basis, seed=step.config["seed"])
    rest = ProjectedOut(updates, basis)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"]
    before = after = 0.0
    for path, update in updates.items():
        remaining = rest[path]
        before += _energy(update)
        after += _energy(remaining)
        for side, factor in (("A", remaining.A), ("B", remaining.B)):
            name = f"backbone.{path}.lora_{side}.weight"
            if name not in state or state[name].shape != factor.shape:
                raise ArtefactError(f"{run} has no LoRA of shape {tuple(factor.shape)} as '{name}' in its checkpoint")
            state[name] = factor.to(state[name].dtype)
    folder = step.folder / RUN / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(checkpoint, folder / "last.ckpt")
    return {"removed": 1.0 - after / before if before else 0.0}


def _energy(update: LowRankUpdate) -> float:
    """The squared Frobenius norm, without forming the product."""
    B, A = update.B.double(), update.A.double()
    return update.scale**2 * float(((B.T @ B) * (A @ A.T)).sum())


def _random_like(basis: SubspaceBasis, seed: int) -> SubspaceBasis:
    """Random subspaces of the layers and dimensions of a basis."""
    layers = {}
    for path, layer in basis.layers.items():
        drawn = random_basis({path: layer.shape}, min(max(layer.d_out, layer.d_in), *layer.shape), seed=seed).layers
        layers[path] = type(layer)(U=drawn[path].U[:, : layer.d_out], V=drawn[path].V[:, : layer.d_in])
    return SubspaceBasis(layers=layers, base_model_hash=basis.base_model_hash, method="random")

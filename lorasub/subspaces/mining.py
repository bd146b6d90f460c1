"""Mining: the subspace that several adapters of one attribute share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from lorasub.artefacts import common_base
from lorasub.errors import ArtefactError, ConfigError
from lorasub.rng import subspace_generator
from lorasub.subspaces.basis import AdapterSource, LayerSubspace, MiningRecord, SubspaceBasis
from lorasub.subspaces.dimension import DimensionRule, null_spectrum, numerical_rank, pooled_spectrum
from lorasub.subspaces.irls import LowRankFit, RobustLowRank, UpdateCores
from lorasub.subspaces.layers import AdapterUpdates, Progress
from lorasub.subspaces.linear_algebra import one_thread

#: Draws of a null when a rule needs one and none were asked for.
_DEFAULT_NULL_DRAWS = 40


def mine_updates(
    adapters: Sequence[AdapterUpdates],
    *,
    dim: int | str = 16,
    dim_scope: Literal["layer", "global"] = "layer",
    alpha: float = 1.0,
    eps: float = 1e-3,
    tolerance: float = 1e-8,
    max_iterations: int = 100,
    normalize: Literal["none", "frobenius"] = "none",
    null_draws: int = 0,
    seed: int = 0,
    attribute: str | None = None,
    sources: Sequence[AdapterSource] = (),
    base_model_id: str | None = None,
    dtype: torch.dtype = torch.float32,
    progress: Progress = iter,
) -> SubspaceBasis:
    """Find the low-rank update that k adapters share, robustly, layer by layer.

    Per layer, the rank-d matrix L that minimises sum_i (eps^2 + ||L - D_i||_F^2)^(alpha/2) over the updates
    D_i = scale_i B_i A_i, by iteratively re-weighted least squares in float64 (:class:`RobustLowRank`). The (out, in)
    matrices are never formed. The adapters must have started from different random ``lora_A``: a shared start looks
    like a shared subspace.

    Args:
        adapters: k >= 2 adapters with the same layers; ranks and scales may differ.
        dim: d, or a rule: ``"energy:0.9"``, ``"gap"`` or ``"parallel"`` (:class:`DimensionRule`). Rules look at the
            spectrum of the robust mean with unrestricted rank, then the layer is mined with what they chose.
            ``"parallel"`` gives a layer 0 dimensions where nothing exceeds chance.
        dim_scope: let the rule choose per layer, or one number for all layers from their pooled spectrum.
        alpha: in (0, 2]; 2 takes the plain mean, 1 gives an outlying adapter little weight.
        eps: smoothing relative to the layer's root mean square update norm.
        tolerance: relative change of the objective that ends the iteration.
        max_iterations: limit of iterations; ``record.converged`` tells whether it was hit.
        normalize: ``frobenius`` scales every update of a layer to the layer's mean norm first.
        null_draws: size of the null of the spectrum; 0 computes none, except for ``"parallel"``, which takes 40.
        seed: of the null. Every layer has its own stream.
        attribute: what the adapters stand for.
        sources: one per adapter, in order. Their base model hashes must agree.
        base_model_id: name of the base model for the basis' card.
        dtype: of U and V. Everything else stays float64.
        progress: wraps the sequence of layer paths.

    Returns:
        A basis with a :class:`MiningRecord` per layer.

    Raises:
        ConfigError: fewer than two adapters, adapters that started from the same ``lora_A``, layers or shapes that
            differ, a bad option, or more dimensions than the adapters span.
        ArtefactError: NaN or infinity in an adapter, adapters of different base models, or a layer that no adapter
            has changed.
    """
    solver = RobustLowRank(alpha=alpha, eps=eps, tolerance=tolerance, max_iterations=max_iterations)
    rule = DimensionRule.parse(dim)
    _check_choice("dim_scope", dim_scope, ("layer", "global"))
    _check_choice("normalize", normalize, ("none", "frobenius"))
    if null_draws < 0:
        raise ConfigError(f"null_draws={null_draws} must not be negative")
    names = _names(adapters, sources)
    draws = null_draws or (_DEFAULT_NULL_DRAWS if rule.kind == "parallel" else 0)
    miner = _LayerMiner(
        adapters=adapters,
        names=names,
        solver=solver,
        rule=rule,
        normalize=normalize == "frobenius",
        null_draws=draws,
        seed=seed,
        dtype=dtype,
    )
    paths = _common_paths(adapters, names)
    with one_thread():
        if dim_scope == "global" and rule.kind != "fixed":
            miner = miner.with_global_dimension(paths)
        layers = {path: miner.mine(path) for path in progress(paths)}
    return SubspaceBasis(
        layers=layers,
        base_model_hash=common_base((source.name, source.base_model_hash) for source in sources),
        base_model_id=base_model_id,
        attributes=(attribute,) if attribute else (),
        sources=tuple(sources),
        options={
            "dim": dim,
            "dim_scope": dim_scope,
            "alpha": alpha,
            "eps": eps,
            "tolerance": tolerance,
            "max_iterations": max_iterations,
            "normalize": normalize,
            "null_draws": draws,
            "seed": seed,
        },
    )


def adapter_subspace(adapter: AdapterUpdates, *, dim: int | None = None, name: str = "adapter") -> SubspaceBasis:
    """The leading singular directions of a single adapter's own updates, such as to compare it with a mined basis.

    Args:
        adapter: the updates of one adapter.
        dim: directions to keep per layer, at most; None keeps all that are not rounding.
        name: used in messages.

    Raises:
        ConfigError: ``dim`` is below 1.
        ArtefactError: NaN or infinity in the adapter.

    Example:
        >>> def adapter():
        ...     return {"block": ls.LowRankUpdate(B=torch.randn(24, 2), A=torch.randn(2, 16))}
        >>> adapter_subspace(adapter()).dims
        {'block': (2, 2)}
    """
    if dim is not None and dim < 1:
        raise ConfigError(f"dim={dim} must be at least 1")
    layers = {}
    with one_thread():
        for path in adapter:
            updates = _cores([adapter], path, [name])
            U, S, Vh = torch.linalg.svd(updates.cores[0], full_matrices=False)
            d = min(numerical_rank(S), dim or len(S)) if S[0] > 0 else 0
            layers[path] = LayerSubspace(
                U=updates.output.expand(U[:, :d]).float(), V=updates.input.expand(Vh[:d].T).float(), S=S[:d]
            )
    return SubspaceBasis(layers=layers, method="adapter")


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerMiner:
    """Inputs of mining one layer; the adapters are read when a layer's turn comes."""

    adapters: Sequence[AdapterUpdates]
    names: Sequence[str]
    solver: RobustLowRank
    rule: DimensionRule
    normalize: bool
    null_draws: int
    seed: int
    dtype: torch.dtype
    global_dim: int | None = None

    def mine(self, path: str) -> LayerSubspace:
        updates = self._read(path)
        limit = min(updates.cores.shape[1:])
        null = None
        if self.global_dim is not None:
            dim = min(self.global_dim, numerical_rank(self.solver.fit(updates.cores, None).spectrum))
        elif self.rule.kind == "fixed":
            dim = min(int(self.rule.value), *updates.shape)  # a layer narrower than that has no more
        else:
            spectrum, null = self._unrestricted(path, updates)
            dim = self.rule.choose(spectrum, null)
        if dim > limit:
            asked = int(self.rule.value) if self.rule.kind == "fixed" else dim
            raise ConfigError(
                f"layer '{path}': dim={asked} is more than the {limit} dimensions that {len(self.names)} adapters of "
                f"ranks {sorted(set(updates.ranks))} span in a layer of shape {updates.shape}; lower dim or mine more "
                "adapters"
            )
        fit = self.solver.fit(updates.cores, dim)
        if dim > numerical_rank(fit.spectrum):
            raise ConfigError(
                f"layer '{path}': dim={dim}, but the mean update has rank {numerical_rank(fit.spectrum)} only "
                "(are some adapters copies of each other?); lower dim"
            )
        if null is None and self.null_draws:
            null = self._null(path, updates, dim)
        return LayerSubspace(
            U=updates.output.expand(fit.U).to(self.dtype),
            V=updates.input.expand(fit.V).to(self.dtype),
            S=fit.spectrum[:dim],
            record=_record(fit, updates, null),
        )

    def with_global_dimension(self, paths: Sequence[str]) -> _LayerMiner:
        """A miner whose rule has looked at all layers together."""
        spectra, nulls, norms = [], [], []
        for path in paths:
            spectrum, null = self._unrestricted(path, self._read(path))
            spectra.append(spectrum)
            norms.append(torch.linalg.vector_norm(spectrum))
            if null is not None:
                nulls.append(null)
        pooled_null = pooled_spectrum(nulls, norms) if nulls else None
        dim = self.rule.choose(pooled_spectrum(spectra, norms), pooled_null)
        return replace(self, global_dim=dim)

    def _unrestricted(self, path: str, updates: UpdateCores) -> tuple[torch.Tensor, torch.Tensor | None]:
        null = self._null(path, updates, None) if self.null_draws else None
        return self.solver.fit(updates.cores, None).spectrum, null

    def _null(self, path: str, updates: UpdateCores, dim: int | None) -> torch.Tensor:
        rng = subspace_generator(self.seed, "null spectrum", path)
        return null_spectrum(updates, self.solver, dim, draws=self.null_draws, rng=rng)

    def _read(self, path: str) -> UpdateCores:
        updates = _cores(self.adapters, path, self.names)
        norms = updates.norms()
        if not norms.any():
            raise ArtefactError(f"layer '{path}': no adapter has changed it; were they trained?")
        if not self.normalize:
            return updates
        if not norms.all():
            silent = self.names[int(norms.argmin())]
            raise ArtefactError(f"layer '{path}': {silent} has not changed it, so its update cannot be normalised")
        scale = norms.mean() / norms
        return replace(updates, cores=updates.cores * scale[:, None, None])


def _record(fit: LowRankFit, updates: UpdateCores, null: torch.Tensor | None) -> MiningRecord:
    inside = (fit.U.T @ updates.cores @ fit.V).square().sum(dim=(1, 2))
    return MiningRecord(
        spectrum=fit.spectrum,
        null=null,
        weights=fit.weights,
        objective=fit.objective,
        explained=inside / updates.norms().square().clamp_min(torch.finfo(torch.float64).tiny),
        converged=fit.converged,
    )


def _cores(adapters: Sequence[AdapterUpdates], path: str, names: Sequence[str]) -> UpdateCores:
    """Read one layer of every adapter, check it and factor it."""
    updates = [adapter[path] for adapter in adapters]
    shapes = [(update.B.shape[0], update.A.shape[1]) for update in updates]
    for name, update, shape in zip(names, updates, shapes, strict=True):
        if shape != shapes[0]:
            raise ConfigError(
                f"layer '{path}' has shape {shape} in {name} and {shapes[0]} in {names[0]}: these are different models"
            )
        for side, tensor in (("lora_A", update.A), ("lora_B", update.B)):
            if not torch.isfinite(tensor).all():
                raise ArtefactError(f"{name}: {side} of layer '{path}' holds NaN or infinity; was the fit divergent?")
    refuse_equal_starts(zip(names, (update.start for update in updates), strict=True), f" (layer '{path}')")
    return UpdateCores.of(updates)


def refuse_equal_starts(starts: Iterable[tuple[str, str | None]], where: str = "") -> None:
    """A shared start looks like a shared subspace: two adapters of noise overlap almost completely.

    Args:
        starts: name of each adapter, and the hash of its start; None where that is not known.
        where: for the message.

    Raises:
        ConfigError: two are equal.
    """
    first: dict[str, str] = {}
    for name, start in starts:
        if start is not None and start in first:
            raise ConfigError(
                f"{first[start]} and {name} started from the same lora_A{where}, so that they seem to share a "
                "subspace whatever they learned; fit one of them again with another seed"
            )
        if start is not None:
            first[start] = name


def _names(adapters: Sequence[AdapterUpdates], sources: Sequence[AdapterSource]) -> list[str]:
    if len(adapters) < 2:
        raise ConfigError(
            f"mining needs at least two adapters to find what they share, not {len(adapters)}; "
            "adapter_subspace gives the directions of a single one"
        )
    if sources and len(sources) != len(adapters):
        raise ConfigError(f"{len(sources)} sources for {len(adapters)} adapters")
    return [source.name for source in sources] or [f"adapter {index}" for index in range(len(adapters))]


def _common_paths(adapters: Sequence[AdapterUpdates], names: Sequence[str]) -> list[str]:
    expected = set(adapters[0])
    for adapter, name in zip(adapters, names, strict=True):
        if different := sorted(expected.symmetric_difference(adapter)):
            raise ConfigError(
                f"{name} and {names[0]} do not adapt the same layers: {len(different)} differ, such as '{different[0]}'"
            )
    if not expected:
        raise ConfigError("the adapters have no layers")
    return list(adapters[0])


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value!r} is none of {', '.join(choices)}")

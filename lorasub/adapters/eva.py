"""LoRA that starts from a basis, as EVA does from activations (Paischer et al. 2024, arXiv 2410.07170)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from lorasub.adapters.config import BasisSpec, LoRA
from lorasub.adapters.layer import AdapterLayer
from lorasub.adapters.lora import LoRALayer
from lorasub.errors import ConfigError
from lorasub.subspaces.basis import SubspaceBasis


@dataclass(frozen=True, kw_only=True, eq=False)
class EVA(LoRA, BasisSpec):
    """LoRA whose A starts as the first r input directions of a basis; B is zero, so that the first step is the base.

    With a basis from activations (``lorasub mine --from activations``) this is EVA without its sharing out of ranks
    between layers (``rho=1`` in PEFT). With one from gradients A starts where the loss pulls.

    Attributes:
        basis: the basis or the folder of one; every layer needs at least r input directions.
        r: rank.
        lora_alpha: scale times rank; None means 2 r.
        targets: what to adapt.
        exclude: what to leave out.
        dropout: probability in [0, 1) of dropping an input feature on the way into A.
        init: ``default`` only.
        rank_pattern: other ranks for some layers, as in :class:`LoRA`.
        alpha_pattern: other values of ``lora_alpha``, likewise.
    """

    basis: SubspaceBasis | str | Path

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init != "default":
            raise ConfigError(f"EVA: init={self.init!r}; the basis is the start here")

    def check_layers(self, paths: list[str], base_model_hash: str | None) -> None:
        """See :meth:`LoRA.check_layers` and :meth:`BasisSpec.check_layers`."""
        LoRA.check_layers(self, paths, base_model_hash)
        BasisSpec.check_layers(self, paths, base_model_hash)

    def wrap(self, path: str, base_layer: nn.Linear | nn.Conv2d) -> AdapterLayer:
        """See :meth:`LayerSpec.wrap`.

        Raises:
            ConfigError: the basis has fewer input directions than the rank.
        """
        layer = super().wrap(path, base_layer)
        assert isinstance(layer, LoRALayer)
        V = self.loaded_basis.layers[path].V
        if V.shape[1] < layer.r:
            raise ConfigError(f"the basis has {V.shape[1]} input directions here, fewer than the rank {layer.r}")
        layer.start_from(V[:, : layer.r].T)
        return layer

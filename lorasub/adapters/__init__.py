"""Adapters of frozen models: LoRA, projected-subspace LoRA and friends, on any ``nn.Module``."""

from lorasub.adapters.adapter_bank import AdapterBank
from lorasub.adapters.adapter_set import AdapterSet, attached_adapters
from lorasub.adapters.bases import bases_of_checkpoint, parts_of
from lorasub.adapters.config import AdapterSpec, BitFit, FullFineTuning, LayerSpec
from lorasub.adapters.folder import AdapterInfo, load_adapter_updates
from lorasub.adapters.fused import cast_frozen_weights
from lorasub.adapters.inject import inject_adapters, load_adapters
from lorasub.adapters.layer import AdapterLayer
from lorasub.adapters.lora import EVA, LoRA
from lorasub.adapters.lora_bank import LoRABank
from lorasub.adapters.mean_adapter import MeanAdapter
from lorasub.adapters.model_bases import (
    GradientShare,
    activation_moments,
    curvature_moments,
    gradient_basis,
    gradient_moments,
    gradient_share,
    model_basis,
    weight_moments,
)
from lorasub.adapters.peft_layer import PEFT
from lorasub.adapters.projected import PSV, LoRAXS, ProjectedLoRA, RandomBasis
from lorasub.adapters.table import ParameterTable, count_parameters
from lorasub.adapters.truncated import TruncatedFineTuning
from lorasub.adapters.vera import VeRA

__all__ = [
    "EVA",
    "PEFT",
    "PSV",
    "AdapterBank",
    "AdapterInfo",
    "AdapterLayer",
    "AdapterSet",
    "AdapterSpec",
    "BitFit",
    "FullFineTuning",
    "GradientShare",
    "LayerSpec",
    "LoRA",
    "LoRABank",
    "LoRAXS",
    "MeanAdapter",
    "ParameterTable",
    "ProjectedLoRA",
    "RandomBasis",
    "TruncatedFineTuning",
    "VeRA",
    "activation_moments",
    "attached_adapters",
    "bases_of_checkpoint",
    "cast_frozen_weights",
    "count_parameters",
    "curvature_moments",
    "gradient_basis",
    "gradient_moments",
    "gradient_share",
    "inject_adapters",
    "load_adapter_updates",
    "load_adapters",
    "model_basis",
    "parts_of",
    "weight_moments",
]

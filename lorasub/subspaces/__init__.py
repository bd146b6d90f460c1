"""Subspaces of weight updates: mining, measuring, combining. Pure tensors; works with plain torch."""

from lorasub.subspaces.angles import (
    Measurement,
    energy_null,
    overlap_measures,
    phi_null,
    principal_angles,
    random_angles,
)
from lorasub.subspaces.baseline_bases import principal_basis, random_basis, shipped_bases, shipped_placebos
from lorasub.subspaces.basis import AdapterSource, LayerSubspace, MiningRecord, SubspaceBasis
from lorasub.subspaces.combine import LayerSurvival, attribute_survival, combine_subspaces, survival_rows
from lorasub.subspaces.compare import OverlapMatrix, attribute_overlaps, overlap_matrix
from lorasub.subspaces.dimension import DimensionRule, null_spectrum
from lorasub.subspaces.gradients import (
    Agreement,
    GradientSet,
    LayerGradients,
    SetAgreement,
    StoredGradients,
    compare_gradients,
    gradient_agreement,
    mean_agreement,
)
from lorasub.subspaces.held_out import HeldOutExplained, held_out_explained
from lorasub.subspaces.irls import RobustLowRank, UpdateCores
from lorasub.subspaces.joint import (
    CommonSpecific,
    CommonSubspace,
    CommonTest,
    common_directions,
    common_subspace,
    split_common_specific,
)
from lorasub.subspaces.label_null import Placebo, SeedPlacebo, seed_alone, shuffled_labels
from lorasub.subspaces.layers import AdapterUpdates, LayerKind, LowRankUpdate, Progress, layer_kind
from lorasub.subspaces.mining import adapter_subspace, mine_updates
from lorasub.subspaces.moment_basis import moment_basis
from lorasub.subspaces.moments import RowMoments, SideMoments, joined_moments, specific_moments
from lorasub.subspaces.overlap import (
    LayerOverlap,
    OverlapReport,
    OverlapSummary,
    Side,
    SideOverlap,
    subspace_overlap,
    two_sided_energy,
)
from lorasub.subspaces.paper_format import read_paper_format, write_paper_format
from lorasub.subspaces.projection import ExplainedFraction, ProjectedOut, explained_fraction, project_out
from lorasub.subspaces.separation import Separation, attribute_separation
from lorasub.subspaces.whitening import mine_whitened

__all__ = [
    "AdapterSource",
    "AdapterUpdates",
    "Agreement",
    "CommonSpecific",
    "CommonSubspace",
    "CommonTest",
    "DimensionRule",
    "ExplainedFraction",
    "GradientSet",
    "HeldOutExplained",
    "LayerGradients",
    "LayerKind",
    "LayerOverlap",
    "LayerSubspace",
    "LayerSurvival",
    "LowRankUpdate",
    "Measurement",
    "MiningRecord",
    "OverlapMatrix",
    "OverlapReport",
    "OverlapSummary",
    "Placebo",
    "Progress",
    "ProjectedOut",
    "RobustLowRank",
    "RowMoments",
    "SeedPlacebo",
    "Separation",
    "SetAgreement",
    "Side",
    "SideMoments",
    "SideOverlap",
    "StoredGradients",
    "SubspaceBasis",
    "UpdateCores",
    "adapter_subspace",
    "attribute_overlaps",
    "attribute_separation",
    "attribute_survival",
    "combine_subspaces",
    "common_directions",
    "common_subspace",
    "compare_gradients",
    "energy_null",
    "explained_fraction",
    "gradient_agreement",
    "held_out_explained",
    "joined_moments",
    "layer_kind",
    "mean_agreement",
    "mine_updates",
    "mine_whitened",
    "moment_basis",
    "null_spectrum",
    "overlap_matrix",
    "overlap_measures",
    "phi_null",
    "principal_angles",
    "principal_basis",
    "project_out",
    "random_angles",
    "random_basis",
    "read_paper_format",
    "seed_alone",
    "shipped_bases",
    "shipped_placebos",
    "shuffled_labels",
    "specific_moments",
    "split_common_specific",
    "subspace_overlap",
    "survival_rows",
    "two_sided_energy",
    "write_paper_format",
]

"""Lightning callbacks: what is looked at and written down while a task runs."""

from lorasub.callbacks.before_after import BeforeAfter
from lorasub.callbacks.compile_blocks import CompileBlocks
from lorasub.callbacks.encoder_cache import EncoderCache
from lorasub.callbacks.evaluation_figures import EvaluationFigures
from lorasub.callbacks.exports import AdapterExport, BackboneExport, FinalCheckpoint
from lorasub.callbacks.fit_costs import FitCosts
from lorasub.callbacks.prediction_writer import PredictionWriter
from lorasub.callbacks.results_writer import ResultsWriter
from lorasub.callbacks.scene_panels import ScenePanels
from lorasub.callbacks.subspace_overlap import SubspaceOverlap
from lorasub.callbacks.weight_average import WarmWeightAveraging

__all__ = [
    "AdapterExport",
    "BackboneExport",
    "BeforeAfter",
    "CompileBlocks",
    "EncoderCache",
    "EvaluationFigures",
    "FinalCheckpoint",
    "FitCosts",
    "PredictionWriter",
    "ResultsWriter",
    "ScenePanels",
    "SubspaceOverlap",
    "WarmWeightAveraging",
]

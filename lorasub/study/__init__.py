"""The whole experiment: a plan of steps from one YAML, a runner that goes on where it was stopped, and a report."""

from lorasub.study.adapter_specs import AdapterFits, AlternateAdapter, UntilFlat
from lorasub.study.any_version import AnyVersionStore
from lorasub.study.artefacts import Output, Workplace
from lorasub.study.basis_specs import ActivationBasis, Basis, GradientBasis, MeanBasis
from lorasub.study.graph import Graph, Step
from lorasub.study.plan import Cell, Plan, RemovalTest, Variant, plan_study
from lorasub.study.runner import Outcome, Progress, run_graph
from lorasub.study.specs import (
    Ablation,
    Arm,
    Downstream,
    Method,
    Mining,
    Primary,
    Removal,
    Study,
)
from lorasub.study.store import Record, Store
from lorasub.study.training_scenes import TrainingScenes
from lorasub.study.workers import ProcessWorkers, RayWorkers, Workers

__all__ = [
    "Ablation",
    "ActivationBasis",
    "AdapterFits",
    "AlternateAdapter",
    "AnyVersionStore",
    "Arm",
    "Basis",
    "Cell",
    "Downstream",
    "GradientBasis",
    "Graph",
    "MeanBasis",
    "Method",
    "Mining",
    "Outcome",
    "Output",
    "Plan",
    "Primary",
    "ProcessWorkers",
    "Progress",
    "RayWorkers",
    "Record",
    "Removal",
    "RemovalTest",
    "Step",
    "Store",
    "Study",
    "TrainingScenes",
    "UntilFlat",
    "Variant",
    "Workers",
    "Workplace",
    "plan_study",
    "run_graph",
]

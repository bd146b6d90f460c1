"""The whole experiment: a plan of steps from one YAML, a runner that goes on where it was stopped, and a report."""

from lorasub.study.plan import Cell, Plan, RemovalCell, plan_study
from lorasub.study.ray_workers import RayWorkers
from lorasub.study.runner import Outcome, Progress, run_graph
from lorasub.study.settings import Ablation, AdapterFits, Basis, Downstream, Method, Mining, Removal, Study
from lorasub.study.steps import Graph, Step
from lorasub.study.store import Record, Store
from lorasub.study.training_scenes import TrainingScenes
from lorasub.study.workers import ProcessWorkers, ThisProcess, Workers

__all__ = [
    "Ablation",
    "AdapterFits",
    "Basis",
    "Cell",
    "Downstream",
    "Graph",
    "Method",
    "Mining",
    "Outcome",
    "Plan",
    "ProcessWorkers",
    "Progress",
    "RayWorkers",
    "Record",
    "Removal",
    "RemovalCell",
    "Step",
    "Store",
    "Study",
    "ThisProcess",
    "TrainingScenes",
    "Workers",
    "plan_study",
    "run_graph",
]

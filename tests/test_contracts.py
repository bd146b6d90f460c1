"""Contracts are found where they are fulfilled, on every version of Python."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from lorasub import VGGT, GeometryTask, contracts


@pytest.fixture
def task() -> GeometryTask:
    return GeometryTask(VGGT.from_preset("nano"))


def test_the_backbone_of_a_task_is_found(task: GeometryTask) -> None:
    assert contracts.backbone_of(task) is task.backbone
    assert contracts.backbone_of(nn.Linear(2, 2)) is None


@pytest.mark.parametrize("contract", ["BlockModel", "GroupedModel", "NamedModel", "EncoderModel", "SavableModel"])
def test_vggt_fulfils_the_contracts_of_a_model(task: GeometryTask, contract: str) -> None:
    assert isinstance(task.backbone, getattr(contracts, contract))
    assert not isinstance(nn.Linear(2, 2), getattr(contracts, contract))


def test_a_task_fulfils_the_contract_of_an_evaluated_one(task: GeometryTask) -> None:
    assert isinstance(task, contracts.EvaluatedTask)
    assert not isinstance(task.backbone, contracts.EvaluatedTask)


def test_no_contract_asks_for_what_python_3_12_does_not_see(task: GeometryTask) -> None:
    """A submodule is found by ``__getattr__``, which ``isinstance`` with a Protocol no longer calls there."""
    with pytest.raises(AttributeError):
        inspect.getattr_static(task, "backbone")

    @contracts.runtime_checkable
    class WithSubmodule(contracts.Protocol):
        backbone: torch.nn.Module

    assert not isinstance(task, WithSubmodule)  # were it so, contracts would differ between versions

"""Counts trained and frozen parameters, group by group and by kind of adapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lorasub.adapters.targets import adapter_layers, base_parameters, model_groups, select, unwrapped
from lorasub.console import text_table

#: Kind of parameters that are fine-tuned themselves.
FULL = "full"
#: Group of what belongs to no group.
OTHER = "other"


@dataclass(frozen=True, slots=True)
class GroupCount:
    """The parameters of one group of modules.

    Attributes:
        group: its name.
        trainable: kind (``lora``, ``projected``, ``full``) -> number of trained parameters.
        frozen: number of frozen parameters of the base model.
        layers: number of adapted layers.
    """

    group: str
    trainable: Mapping[str, int]
    frozen: int
    layers: int


@dataclass(frozen=True, slots=True)
class ParameterTable:
    """Parameter counts of an adapted model. ``str()`` of it is a table for people.

    Attributes:
        rows: one for each group; every parameter is counted in exactly one.
    """

    rows: tuple[GroupCount, ...]

    @property
    def total(self) -> GroupCount:
        """The sum of all rows."""
        trainable: Counter[str] = Counter()
        for row in self.rows:
            trainable.update(row.trainable)
        return GroupCount(
            group="total",
            trainable=dict(trainable),
            frozen=sum(row.frozen for row in self.rows),
            layers=sum(row.layers for row in self.rows),
        )

    @property
    def trainable(self) -> int:
        """Number of all trained parameters."""
        return sum(self.total.trainable.values())

    def to_dict(self) -> dict[str, Any]:
        """Group -> its counts, with ``total``; plain JSON values."""
        return {
            row.group: {"layers": row.layers, "trainable": dict(row.trainable), "frozen": row.frozen}
            for row in (*self.rows, self.total)
        }

    def __str__(self) -> str:
        kinds = sorted(self.total.trainable)
        return text_table(
            [
                {"group": row.group, "layers": row.layers}
                | {kind: row.trainable.get(kind, 0) for kind in kinds}
                | {"frozen": row.frozen}
                for row in (*self.rows, self.total)
            ]
        )


def count_parameters(model: nn.Module) -> ParameterTable:
    """Count the parameters of a model, adapted or not.

    Groups are those that the model names, or its direct children. Where they overlap (``frame_blocks`` lies in
    ``blocks``) a parameter counts in the smallest group that has it. One that several modules share counts once.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> _ = ls.inject_adapters(model, ls.LoRA(r=2, targets="all"))
        >>> table = count_parameters(model)
        >>> table.trainable, table.total.frozen  # 2 x (8 + 4); 8 x 4 + 4
        (24, 36)
    """
    parameters = base_parameters(model)
    adapters = dict(adapter_layers(model))
    group_of = _smallest_groups(model, [*parameters, *adapters])
    trainable: dict[str, Counter[str]] = {}
    frozen: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    for name, parameter in parameters.items():
        group = group_of.get(name, OTHER)
        kinds = trainable.setdefault(group, Counter())
        if parameter.requires_grad:
            kinds[FULL] += parameter.numel()
        else:
            frozen[group] += parameter.numel()
    for path, layer in adapters.items():
        group = group_of.get(path, OTHER)
        layers[group] += 1
        trainable[group][layer.kind] += sum(p.numel() for p in layer.adapter_parameters().values())
    return ParameterTable(
        tuple(
            GroupCount(group=group, trainable=dict(kinds), frozen=frozen[group], layers=layers[group])
            for group, kinds in trainable.items()
            if kinds or frozen[group]
        )
    )


def _smallest_groups(model: nn.Module, names: list[str]) -> dict[str, str]:
    groups = model_groups(model) or {name: (name,) for name, _ in unwrapped(model).named_children()}
    members = {group: select(names, patterns) for group, patterns in groups.items()}
    group_of: dict[str, str] = {}
    for group in sorted(members, key=lambda group: len(members[group])):
        for name in members[group]:
            group_of.setdefault(name, group)
    return group_of

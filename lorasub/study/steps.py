"""Steps of a study, each known by what it is made from, and the graph that they form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from lorasub.errors import ConfigError
from lorasub.metrics.results import hash_json
from lorasub.study.inputs import named_inputs

#: ``fit`` adapters to attributes; ``mine``, ``split``, ``combine`` and ``overlap`` their subspaces; ``explain`` other
#: adapters by them, ``remove`` one from an adapter; ``try`` learning rates and ``choose`` one; ``tune``: fine-tune;
#: ``test``.
Kind = Literal["fit", "mine", "split", "combine", "overlap", "explain", "remove", "try", "choose", "tune", "test"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One piece of work, done once.

    Attributes:
        kind: what is done.
        name: for people; not part of what the step is.
        config: settings in plain values. A value ``input:ROLE`` stands for something that the input of that role made.
        inputs: role -> key of the step whose result is used.
        code: version of the code that computes it.
        work: how much there is to do, in units that cost about the same within a kind.
    """

    kind: Kind
    name: str
    config: Mapping[str, Any]
    code: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    work: float = 1.0

    @cached_property
    def key(self) -> str:
        """SHA-256 of everything that the result depends on."""
        return hash_json(
            {
                "kind": self.kind,
                "config": self.config,
                "inputs": dict(self.inputs),
                "code": self.code,
                "named": named_inputs(self.config),
            }
        )


class Graph:
    """Steps in an order in which they can be done, each once."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps.values())

    def __getitem__(self, key: str) -> Step:
        return self._steps[key]

    def __contains__(self, key: str) -> bool:
        return key in self._steps

    def add(self, step: Step) -> str:
        """Add a step, unless an equal one is there; its key.

        Raises:
            ConfigError: one of its inputs has not been added.
        """
        for role, key in step.inputs.items():
            if key not in self._steps:
                raise ConfigError(f"step '{step.name}' needs '{role}', which no step before it makes")
        self._steps.setdefault(step.key, step)
        return step.key

    def descendants(self, key: str) -> set[str]:
        """Keys of all steps that need this one, directly or not."""
        found: set[str] = set()
        for step in self:
            if any(parent == key or parent in found for parent in step.inputs.values()):
                found.add(step.key)
        return found

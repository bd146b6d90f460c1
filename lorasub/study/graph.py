"""Steps of a study, each known by what its result depends on, and the graph that they form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lorasub.errors import ConfigError
from lorasub.metrics.results import hash_json
from lorasub.study.artefacts import Output


@dataclass(frozen=True, kw_only=True)
class Step:
    """One piece of work, done once.

    Attributes:
        kind: of work.
        name: for people; not part of what the step is.
        spec: its settings, a dataclass of plain values and of outputs of other steps.
        code: version of the code that computes it.
        named: what the settings name on disk -> SHA-256.
        work: how much there is to do, in units that cost about the same within a kind.
    """

    kind: str
    name: str
    spec: Any
    code: str = ""
    named: Mapping[str, str] = field(default_factory=dict)
    work: float = 1.0

    @cached_property
    def key(self) -> str:
        """SHA-256 of everything that the result depends on."""
        spec = dataclasses.asdict(self.spec)
        return hash_json({"kind": self.kind, "spec": spec, "code": self.code, "named": dict(self.named)})

    @cached_property
    def inputs(self) -> dict[str, Output]:
        """Key -> output that the settings name."""
        return {output.key: output for output in _outputs(self.spec)}


def _outputs(value: Any) -> Iterator[Output]:
    if isinstance(value, Output):
        yield value
    elif dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            yield from _outputs(getattr(value, item.name))
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _outputs(each)


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

    def add(self, step: Step) -> Output:
        """Adds a step, unless an equal one is there; returns what others call its result.

        Raises:
            ConfigError: one of its inputs has not been added.
        """
        if missing := [output for output in step.inputs.values() if output.key not in self._steps]:
            raise ConfigError(f"step '{step.name}' needs a '{missing[0].kind}', which no step before it makes")
        self._steps.setdefault(step.key, step)
        return Output(kind=step.kind, key=step.key)

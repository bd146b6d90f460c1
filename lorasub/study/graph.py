"""Steps of a study, each known by what its result depends on, and the graph that they form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
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
        return hash_json({"kind": self.kind, "spec": asdict(self.spec), "code": self.code, "named": dict(self.named)})

    @cached_property
    def inputs(self) -> set[str]:
        """Keys of the steps whose outputs the settings name."""
        return {output.key for output in _outputs(self.spec)}


def _outputs(value: Any) -> Iterator[Output]:
    if isinstance(value, Output):
        yield value
    elif is_dataclass(value):
        yield from _outputs(vars(value))
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _outputs(each)


class Graph(dict[str, Step]):
    """Key -> step, in an order in which they can be done."""

    def add(self, step: Step) -> Output:
        """Adds a step, unless an equal one is there; returns what others call its result.

        Raises:
            ConfigError: one of its inputs has not been added.
        """
        if missing := step.inputs - self.keys():
            raise ConfigError(f"step '{step.name}' needs the step {min(missing)}, which must be added before it")
        self.setdefault(step.key, step)
        return Output(kind=step.kind, key=step.key)

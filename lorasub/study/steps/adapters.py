"""Reads the adapters that a step is given."""

from __future__ import annotations

import dataclasses
import fnmatch
from dataclasses import dataclass

from lorasub.adapters.mining import read_adapter
from lorasub.errors import ArtefactError
from lorasub.study.artefacts import RUN, Output, Workplace
from lorasub.subspaces import AdapterSource, AdapterUpdates


@dataclass(frozen=True, kw_only=True)
class FittedAdapter:
    """An adapter that another step has fitted.

    Attributes:
        attribute: what varies in its data.
        partition: of the data.
        fit: the step.
        member: whether the step fitted all partitions together.
    """

    attribute: str
    partition: int
    fit: Output
    member: bool = False


@dataclass(frozen=True, kw_only=True)
class FromAdapters:
    """Settings of every step that works on fitted adapters.

    Attributes:
        adapters: of any attributes.
        layers: patterns (``fnmatch``) of the layers that count.
    """

    adapters: tuple[FittedAdapter, ...]
    layers: tuple[str, ...]

    def read(self, place: Workplace) -> tuple[dict[str, list[AdapterUpdates]], dict[str, list[AdapterSource]]]:
        """Returns attribute -> its adapters, restricted to the wanted layers, and attribute -> where they are from."""
        groups: dict[str, list[AdapterUpdates]] = {}
        sources: dict[str, list[AdapterSource]] = {}
        for adapter in self.adapters:
            folder = place.of(adapter.fit) / RUN
            if adapter.member:
                folder = folder / "adapter" / f"adapter_{adapter.partition}"
            updates, source = read_adapter(folder, attribute=adapter.attribute)
            kept = {p: u for p, u in updates.items() if any(fnmatch.fnmatchcase(p, pattern) for pattern in self.layers)}
            if not kept:
                raise ArtefactError(
                    f"none of the {len(updates)} layers of {folder} matches {list(self.layers)}, such as {min(updates)}"
                )
            groups.setdefault(adapter.attribute, []).append(kept)
            # the name says which data it was fitted on; a path would only say where a study was kept
            named = dataclasses.replace(source, name=f"{adapter.attribute}/{adapter.partition}")
            sources.setdefault(adapter.attribute, []).append(named)
        return groups, sources

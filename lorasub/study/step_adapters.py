"""The adapters that a step is given."""

from __future__ import annotations

import dataclasses
import fnmatch

from lorasub.adapters.mining import read_adapter
from lorasub.errors import ArtefactError
from lorasub.study.store import RUN, OpenStep
from lorasub.subspaces import AdapterSource, AdapterUpdates


def step_adapters(step: OpenStep) -> tuple[dict[str, list[AdapterUpdates]], dict[str, list[AdapterSource]]]:
    """Attribute -> its adapters, restricted to the layers that are wanted, and where they are from."""
    groups: dict[str, list[AdapterUpdates]] = {}
    sources: dict[str, list[AdapterSource]] = {}
    for role, folder in step.inputs.items():
        attribute, _, partition = role.rpartition("/")
        member = folder / RUN / "adapter" / f"adapter_{partition}"  # where those of an attribute were fitted together
        updates, source = read_adapter(member if member.is_dir() else folder / RUN, attribute=attribute)
        patterns = step.config["layers"]
        kept = {p: u for p, u in updates.items() if any(fnmatch.fnmatchcase(p, pattern) for pattern in patterns)}
        if not kept:
            raise ArtefactError(
                f"none of the {len(updates)} layers of {folder} matches {patterns}, such as {min(updates)}"
            )
        groups.setdefault(attribute, []).append(kept)
        # the name says which data it was fitted on; a path would only say where a study was kept
        sources.setdefault(attribute, []).append(dataclasses.replace(source, name=role))
    return groups, sources

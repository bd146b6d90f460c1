"""What the built-in architectures' configurations share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Sizes of a network that cannot be changed, only exchanged."""

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields exchanged; it is checked again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

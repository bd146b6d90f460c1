"""The README.md that stands beside a basis, for people and for model hubs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TEMPLATE = """---
library_name: lorasub
tags:
- lora
- subspace
- 3d
{base_line}---

# {title}

Orthonormal bases of weight updates for {layer_count} layers, to fine-tune in with few parameters
([the method](https://arxiv.org/abs/2604.10095)).

| | |
|---|---|
| method | {method} |
| attributes | {attributes} |
| dimensions per layer (output x input) | {dims} |
| adapters mined from | {sources} |
| base model | {base_model} |
| hash of the base weights | `{base_hash}` |
| hash of this basis | `{hash}` |
| made by | lorasub {version} |

```python
import lorasub as ls

basis = ls.SubspaceBasis.load("path/to/this/folder")
task = ls.GeometryTask(backbone=..., adapter=ls.ProjectedLoRA(basis=basis))
```

It fits only the base weights named above. What is derived from a model stays under that model's licence: see the base
model's card before you pass this on.
"""


def basis_card(description: Mapping[str, Any]) -> str:
    """Markdown with YAML front matter, as Hugging Face's hub reads it.

    Args:
        description: :meth:`lorasub.subspaces.SubspaceBasis.to_dict`.
    """
    layers = description["layers"].values()
    dims = [(layer["U"][1], layer["V"][1]) for layer in layers]
    base = description["base_model_id"]
    attributes = ", ".join(description["attributes"])
    return _TEMPLATE.format(
        # JSON strings are YAML strings, whatever a name has in it
        base_line=f"base_model: {json.dumps(base)}\n" if base else "",
        title=f"Subspace basis: {attributes or description['method']}",
        layer_count=len(dims),
        method=description["method"] + (" (columns scaled, not orthonormal)" if description["scaled"] else ""),
        attributes=attributes or "none",
        dims=_range_of(dims),
        sources=len(description["sources"]) or "none",
        base_model=base or "not recorded",
        base_hash=description["base_model_hash"] or "not recorded",
        hash=description["hash"],
        version=description["lorasub_version"],
    )


def _range_of(dims: list[tuple[int, int]]) -> str:
    if not dims:
        return "none"
    low, high = (tuple(pick(side) for side in zip(*dims, strict=True)) for pick in (min, max))
    return " x ".join(str(a) if a == b else f"{a} to {b}" for a, b in zip(low, high, strict=True))

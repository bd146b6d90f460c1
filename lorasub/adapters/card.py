"""The card (README.md) in an adapter's folder, as model hubs show it."""

from __future__ import annotations

import json

from lorasub.adapters.folder import AdapterInfo
from lorasub.adapters.table import ParameterTable


def adapter_card(
    info: AdapterInfo, table: ParameterTable, *, for_peft: bool, weights_license: str | None = None
) -> str:
    """Markdown with the front matter of model cards.

    Args:
        info: what the adapter is.
        table: its parameter counts.
        for_peft: whether PEFT can load the folder.
        weights_license: licence of the base model's weights; None if it is not known.
    """
    front = ["---", "library_name: peft" if for_peft else "library_name: lorasub", "pipeline_tag: image-to-3d"]
    if info.base_model_id:
        front.append(f"base_model: {json.dumps(info.base_model_id)}")
    front += ["tags:", "- lorasub", *(["- lora"] if for_peft else []), "---"]
    load = ["import lorasub", "", 'adapters = lorasub.load_adapters(model, "THIS_FOLDER")']
    if for_peft:
        load += [
            "",
            "# or, with PEFT:",
            "from peft import PeftModel",
            "",
            'model = PeftModel.from_pretrained(model, "THIS_FOLDER")',
        ]
    facts = [
        f"- base model: {info.base_model_id or 'unnamed'}, weights hash `{info.base_model_hash or 'unknown'}`",
        *([f"- licence of the base model's weights: {weights_license}"] if weights_license else []),
        *(f"- frozen matrices that are not in this folder: hash `{basis}`" for basis in sorted(info.basis_hashes)),
        f"- adapted layers: {len(info.layers)}; fully fine-tuned parameters: {len(info.full_parameters)}",
    ]
    return "\n".join(
        [
            *front,
            "",
            "# Adapter",
            "",
            *facts,
            "",
            "The adapter works on these very weights of the base model, whose own licence also covers what is derived",
            "from them.",
            "",
            "```",
            str(table),
            "```",
            "",
            "```python",
            *load,
            "```",
            "",
        ]
    )

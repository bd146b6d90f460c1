"""A study on a backbone whose steps take milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import projected

from lorasub.study import AdapterFits, Basis, Downstream, Method, Mining, Removal, Study

SIZES = {
    "num_scenes": 8,
    "val_scenes": 3,
    "num_views": 2,
    "batch_size": 2,
    "image_size": 28,
    "antialias": False,
    "bases": 2,
    "shadow_samples": 1,
}


@pytest.fixture
def tiny_study(tiny_weights: Path, tmp_path: Path) -> Study:
    def scenes(**more: object) -> dict[str, object]:
        return {"class_path": "SyntheticScenes", "init_args": SIZES | more}

    return Study(
        name="tiny",
        folder=str(tmp_path / "study"),
        backbone={"class_path": "lorasub.VGGT.from_pretrained", "init_args": {"source": str(tiny_weights)}},
        attributes=["lighting", "camera"],
        partitions=4,
        adapters=AdapterFits(
            adapter={"class_path": "LoRA", "init_args": {"r": 2, "targets": "blocks"}}, data=scenes(), steps=2
        ),
        mining=Mining(dim=2, overlap_dim=2, overlap_draws=20),
        bases={"combined": Basis(), "own": Basis(part="common+specific")},
        methods={
            "none": Method(),
            "lora": Method(adapter=[{"class_path": "LoRA", "init_args": {"r": 2}}], learning_rates=[1e-3, 1e-2]),
            "mined": Method(
                adapter=[projected("combined")], sweep={"basis": ["combined", "own"]}, learning_rates=[0.01]
            ),
        },
        downstream={
            "glass": Downstream(
                data=scenes(attribute="transparent"),
                steps=2,
                scenes=[2],
            )
        },
        references=["lora"],
        removal=Removal(),
        seeds=[0, 1],
        trainer={"accelerator": "cpu", "enable_model_summary": False},
    )

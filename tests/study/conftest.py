"""A study on a backbone whose steps take milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import SIZES, projected

from lorasub.study import AdapterFits, Basis, Downstream, GradientBasis, Method, Mining, Removal, Study


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
        bases={
            "combined": Basis(),
            "own": Basis(part="common+specific"),
            "steep": GradientBasis(source="gradients", dim=2, partitions=1, scenes=2),
        },
        methods={
            "none": Method(),
            "lora": Method(adapter=[{"class_path": "LoRA", "init_args": {"r": 2}}], learning_rates=[1e-3, 1e-2]),
            "mined": Method(
                adapter=[projected("combined")], sweep={"basis": ["combined", "own", "steep"]}, learning_rates=[0.01]
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

"""A study that is only planned: nothing of it is ever built."""

from __future__ import annotations

from typing import Any

from lorasub.study import AdapterFits, Basis, Downstream, Method, Mining, Study

SCENES = {"class_path": "SyntheticScenes", "init_args": {"image_size": 28}}
OTHER_SCENES = {"class_path": "SyntheticScenes", "init_args": {"image_size": 28, "attribute": "camera"}}

#: Scenes that take milliseconds.
SIZES: dict[str, Any] = {
    "num_scenes": 8,
    "val_scenes": 3,
    "num_views": 2,
    "batch_size": 2,
    "image_size": 28,
    "antialias": False,
    "bases": 2,
    "shadow_samples": 1,
}


def projected(basis: str) -> dict[str, Any]:
    return {"class_path": "ProjectedLoRA", "init_args": {"basis": basis}}


def small_study(**changed: Any) -> Study:
    settings: dict[str, Any] = {
        "name": "small",
        "backbone": {"class_path": "lorasub.VGGT.from_preset", "init_args": {"name": "nano"}},
        "attributes": ["geometry", "texture"],
        "partitions": 3,
        "adapters": AdapterFits(steps=10),
        "mining": Mining(dim=4),
        "bases": {"combined": Basis(), "alone": Basis(attributes=["texture"]), "all": Basis(attributes=["all"], dim=8)},
        "methods": {
            "none": Method(),
            "lora": Method(adapter=[{"class_path": "LoRA"}], sweep={"r": [1, 4]}),
            "mined": Method(adapter=[projected("combined")], learning_rates=[1e-2]),
            "from_all": Method(adapter=[projected("all")], learning_rates=[1e-2]),
        },
        "downstream": {"room": Downstream(data=SCENES, tests={"other": OTHER_SCENES}, steps=5, scenes=[2, None])},
        "seeds": [0, 1],
    }
    return Study(**(settings | changed))

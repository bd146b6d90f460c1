"""The results of one evaluation, as they are written to and read from ``results.json``."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasub.artefacts import json_writer, write_files
from lorasub.errors import ArtefactError
from lorasub.files import read_json, write_csv

FORMAT = 1
RESULTS_FILE = "results.json"
OVERALL = "overall"


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneResult:
    """Results of one scene.

    Attributes:
        scene: its name.
        frames: names of its views, in order.
        values: result -> value; NaN where nothing was measured.
        weights: result -> what the value counts in the overall mean; 0 where nothing was measured.
        notes: metric -> why something was not measured.
        brightness: mean of each view's pixels, which tells other images under the same names; empty if unknown.
    """

    scene: str
    frames: tuple[str, ...]
    values: dict[str, float]
    weights: dict[str, float]
    notes: dict[str, list[str]] = field(default_factory=dict)
    brightness: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """Results of one test set.

    Attributes:
        protocols: result -> how exactly it was measured; results compare only where these are equal.
        scenes: in the order of the data set.
        whole: results that are no means over scenes, such as an area under a ROC curve.
    """

    protocols: dict[str, str]
    scenes: tuple[SceneResult, ...]
    whole: dict[str, float] = field(default_factory=dict)

    @property
    def overall(self) -> dict[str, float]:
        """Result -> weighted mean over scenes, NaN where nothing was measured; and the results of the whole set."""
        means = {}
        for name in self.protocols:
            measured = [scene for scene in self.scenes if scene.weights.get(name, 0.0) > 0]
            total = math.fsum(scene.weights[name] for scene in measured)
            # no fsum here: it refuses infinities, which a diverged prediction has
            weighted = sum(scene.values[name] * scene.weights[name] for scene in measured)
            means[name] = weighted / total if measured else math.nan
        return {**means, **self.whole}

    @property
    def frames_hash(self) -> str:
        """SHA-256 of the scenes' and views' names: equal for results on the same frames."""
        names = [[scene.scene, list(scene.frames)] for scene in self.scenes]
        return hash_json(names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One evaluation: numbers, and everything that is needed to know what they mean.

    Attributes:
        sets: name of a test set -> its results.
        model: ids and hashes of the backbone's weights and of the adapter, and the checkpoint.
        config: settings of the model and of the data; None if unknown.
        versions: package -> version.
    """

    sets: dict[str, SetResult]
    model: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``results.json`` and, one row a scene and one overall, ``results.csv``.

        Returns:
            The path of the JSON file.
        """
        path = Path(folder) / RESULTS_FILE
        rows = self.rows()
        writers = {
            path.with_suffix(".csv").name: lambda file: write_csv(file, rows),
            path.name: json_writer(self.to_dict()),
        }
        write_files(path.parent, writers)
        return path

    def rows(self) -> list[dict[str, Any]]:
        """Flat rows: set, scene (``overall`` for the means), and one column a result, empty where not measured."""
        rows: list[dict[str, Any]] = []
        for name, found in self.sets.items():
            rows += [{"set": name, "scene": scene.scene, **_known(scene.values)} for scene in found.scenes]
            rows.append({"set": name, "scene": OVERALL, **_known(found.overall)})
        return rows

    def to_dict(self) -> dict[str, Any]:
        """As JSON: numbers that JSON lacks are null (nothing measured) and ``"inf"`` (diverged)."""
        return {
            "format": FORMAT,
            "versions": self.versions,
            "model": self.model,
            "config_hash": None if self.config is None else hash_json(self.config),
            "config": self.config,
            "sets": {
                name: {
                    "protocols": found.protocols,
                    "frames_hash": found.frames_hash,
                    "overall": _encode(found.overall),
                    "whole": _encode(found.whole),
                    "scenes": [
                        {
                            "scene": scene.scene,
                            "frames": list(scene.frames),
                            "values": _encode(scene.values),
                            "weights": scene.weights,
                            **({"notes": scene.notes} if scene.notes else {}),
                            **({"brightness": list(scene.brightness)} if scene.brightness else {}),
                        }
                        for scene in found.scenes
                    ],
                }
                for name, found in self.sets.items()
            },
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Results:
        """Read results.

        Args:
            path: of ``results.json``, or of the run's folder that has it.

        Raises:
            ArtefactError: it is missing, damaged, or of an unknown format.
        """
        path = Path(path)
        if path.is_dir():
            path = path / RESULTS_FILE
            if not path.is_file():
                raise ArtefactError(
                    f"{path.parent} holds no {RESULTS_FILE}; name the folder that `lorasub test` prints last, such as "
                    "runs/geometry/0_test"
                )
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ArtefactError(f"{path} is no results file of format {FORMAT}; `lorasub test` writes such files")
        try:
            sets = {name: _read_set(found) for name, found in content["sets"].items()}
            return cls(sets=sets, model=content["model"], config=content["config"], versions=content["versions"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(f"{path} is damaged: {type(error).__name__} {error}") from error


def hash_json(content: Any) -> str:
    """SHA-256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _read_set(found: Mapping[str, Any]) -> SetResult:
    scenes = tuple(
        SceneResult(
            scene=scene["scene"],
            frames=tuple(scene["frames"]),
            values=_decode(scene["values"]),
            weights={name: float(weight) for name, weight in scene["weights"].items()},
            notes=scene.get("notes", {}),
            brightness=tuple(map(float, scene.get("brightness", ()))),
        )
        for scene in found["scenes"]
    )
    return SetResult(protocols=dict(found["protocols"]), scenes=scenes, whole=_decode(found["whole"]))


def _known(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not math.isnan(value)}


def plain_number(value: float) -> float | str | None:
    """NaN as nothing and infinity as text: JSON has neither."""
    return None if math.isnan(value) else str(value) if math.isinf(value) else value


def _encode(values: Mapping[str, float]) -> dict[str, float | str | None]:
    return {name: plain_number(value) for name, value in values.items()}


def _decode(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}

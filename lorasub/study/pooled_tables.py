"""Several places as one: geometric means over test sets, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lorasub.study.specs import Study
from lorasub.study.table import ROW, summaries


@dataclass(frozen=True, kw_only=True)
class PooledPlaces:
    """The rows of a table over several places.

    Attributes:
        downstream: the task.
        scenes: training scenes; -1 for all.
        counted: the places that count as evidence.
        wanted: all places that are pooled.
        rows: as of :func:`lorasub.study.table.summaries`; ``set`` is :attr:`over_all` or :attr:`over_counted`.
    """

    downstream: str
    scenes: int
    counted: list[str]
    wanted: list[str]
    rows: pd.DataFrame

    @property
    def over_all(self) -> str:
        """Name of the set of all places."""
        return f"all {len(self.wanted)} places"

    @property
    def over_counted(self) -> str:
        """Name of the set of the places that count."""
        return f"the {len(self.counted)} that count"


def pooled_places(own: pd.DataFrame, places: pd.DataFrame, study: Study) -> list[PooledPlaces]:
    """Pools each task's places, for each number of training scenes that has results.

    Args:
        own: outcomes of the study itself.
        places: which of them count, see :func:`lorasub.study.evidence.judge_places`.
        study: names the places.
    """
    found = []
    for name, task in study.downstream.items():
        for scenes in (-1 if count is None else count for count in task.scenes) if task.pooled else ():
            here = own[(own["downstream"] == name) & own["scenes"].isin([0, scenes])]
            if not (here["kind"] == "method").any():
                continue
            judged = places[(places["downstream"] == name) & (places["scenes"] == scenes) & places["counts"]]
            counted = [place for place in task.pooled if place in set(judged["set"])]
            one = PooledPlaces(downstream=name, scenes=scenes, counted=counted, wanted=task.pooled, rows=pd.DataFrame())
            parts = [geometric_means(here, task.pooled, one.over_all)]
            if 1 < len(counted) < len(task.pooled):
                parts.append(geometric_means(here, counted, one.over_counted))
            rows = summaries(pd.concat(parts, ignore_index=True))
            found.append(PooledPlaces(**{**vars(one), "rows": rows}))
    return found


def geometric_means(table: pd.DataFrame, sets: Sequence[str], name: str) -> pd.DataFrame:
    """Returns the rows of a results table over several sets as rows of one; seeds that lack a set are left out."""
    overall = table[(table["scene"] == "") & table["set"].isin(list(sets))]
    keys = [*ROW, "ablation", "method", "result", "seed"]
    grouped = overall.assign(log=np.log(overall["value"])).groupby(keys, sort=False, dropna=False)
    found = grouped.agg(
        log=("log", "mean"), size=("set", "nunique"), trainable=("trainable", "max"), at_edge=("at_edge", "max")
    ).reset_index()
    found = found[found["size"] == len(sets)]
    return found.assign(value=np.exp(found["log"]), set=name, validation=False, scene="").drop(columns=["log", "size"])

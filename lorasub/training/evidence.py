"""Scores models that do not look at the images on synthetic scenes, before an adapter is fitted."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule

from lorasub.backbones import Backbone
from lorasub.data import SceneBank, SyntheticScenes
from lorasub.structures import SceneBatch
from lorasub.tasks.no_look import NoLookScores, score_without_looking

log = logging.getLogger(__name__)
#: Presets that adapters are named after.
_ATTRIBUTES = ("geometry", "texture", "camera", "lighting")


def rendered_scenes(
    data: SyntheticScenes, count: int, *, held_out: bool = False, batch: int = 4, device: torch.device | str = "cpu"
) -> Iterator[SceneBatch]:
    """The first scenes of a data module, a few at a time, without a trainer.

    Args:
        data: whose scenes.
        count: how many.
        held_out: those of validation instead of training.
        batch: scenes at a time; the last batch may have fewer.
        device: where they are rendered.
    """
    sampler = data.val_sampler if held_out else data.train_sampler
    for first in range(0, count, batch):
        described = sampler.sample(range(first, min(first + batch, count)))
        yield data.on_after_batch_transfer(described.to(device), 0)


def no_look_scores(
    data: SyntheticScenes,
    backbone: Backbone | None = None,
    *,
    training: int = 24,
    held_out: int = 16,
    device: torch.device | str = "cpu",
) -> NoLookScores:
    """Score the mean of training scenes, a plane, and a backbone on held-out scenes of a data module.

    Args:
        data: the set.
        backbone: scored as it is, on the same device.
        training: scenes that the mean is taken over.
        held_out: scenes that are scored.
        device: where scenes are rendered.
    """
    return score_without_looking(
        rendered_scenes(data, training, device=device),
        list(rendered_scenes(data, held_out, held_out=True, device=device)),
        backbone,
    )


def warn_of_solved_sets(data: LightningDataModule, *, device: torch.device | str = "cpu") -> None:
    """Warn if an attribute's set that an adapter is about to be fitted to can be solved without looking.

    Args:
        data: of the fit; other data than synthetic scenes is not looked at.
        device: where scenes are rendered.
    """
    members = data.members if isinstance(data, SceneBank) else [data]
    for member in members:
        if not isinstance(member, SyntheticScenes) or member.train_sampler.attribute not in _ATTRIBUTES:
            continue
        scores = no_look_scores(member, training=12, held_out=6, device=device)
        if scores.solved:
            sampler = member.train_sampler
            log.warning(
                "the scenes of '%s' (design %s, partition %d) are solved without looking: their mean depth map has "
                "AbsRel %.3f. An adapter learns that map, and not the attribute; see `lorasub audit %s`",
                *(sampler.attribute, sampler.design, sampler.partition, scores.best, sampler.attribute),
            )

"""Every kind of adapter can be named in YAML and on the command line."""

from __future__ import annotations

import pytest
import yaml
from jsonargparse import ArgumentParser

import lorasub as ls


class Task:
    def __init__(self, adapter: ls.AdapterSpec | list[ls.AdapterSpec] | None = None) -> None:
        self.adapter = adapter


def parse(*arguments):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Task, "model")
    return parser.instantiate(parser.parse_args(list(arguments))).model.adapter


def test_one_by_class_path():
    text = yaml.safe_dump({"class_path": "lorasub.LoRA", "init_args": {"r": 4, "targets": ["heads", "*.qkv"]}})
    assert parse("--model.adapter", text) == ls.LoRA(r=4, targets=("heads", "*.qkv"))
    assert parse("--model.adapter", text, "--model.adapter.r", "8").r == 8
    assert parse("--model.adapter", "lorasub.PSV", "--model.adapter.dim", "3") == ls.PSV(dim=3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["lorasub.LoRAXS", "--model.adapter.dim", "4"], ls.LoRAXS(dim=4)),
        (["lorasub.BitFit", "--model.adapter.targets", "all"], ls.BitFit(targets="all")),
        (["lorasub.VeRA", "--model.adapter.r", "8", "--model.adapter.seed", "2"], ls.VeRA(r=8, seed=2)),
        (["lorasub.TruncatedFineTuning", "--model.adapter.r", "2"], ls.TruncatedFineTuning(r=2)),
    ],
)
def test_one_by_words(words, expected):
    assert parse("--model.adapter", *words) == expected


def test_a_mean_adapter_by_words():
    assert parse("--model.adapter", "lorasub.MeanAdapter", "--model.adapter.basis", "runs/mean").basis == "runs/mean"


def test_several():
    text = yaml.safe_dump(
        [
            {"class_path": "lorasub.ProjectedLoRA", "init_args": {"basis": "runs/basis", "targets": "blocks"}},
            {"class_path": "lorasub.LoRA", "init_args": {"targets": "heads", "rank_pattern": {"qkv": 3}}},
            {"class_path": "lorasub.RandomBasis", "init_args": {"dim": 2, "seed": 5, "targets": "encoder"}},
            {"class_path": "lorasub.FullFineTuning", "init_args": {"targets": "a", "exclude": ["b"]}},
        ]
    )
    projected, lora, random, full = parse("--model.adapter", text)
    assert projected.basis == "runs/basis"
    assert lora == ls.LoRA(targets="heads", rank_pattern={"qkv": 3})
    assert random == ls.RandomBasis(dim=2, seed=5, targets="encoder")
    assert full == ls.FullFineTuning(targets="a", exclude=("b",))


@pytest.mark.parametrize(
    "arguments", [("lorasub.LoRA", "--model.adapter.rnak", "3"), ("lorasub.LoRA", "--model.adapter.r", "0")]
)
def test_mistakes_are_refused(arguments):
    with pytest.raises(Exception, match=r"rnak|r=0"):
        parse("--model.adapter", *arguments)

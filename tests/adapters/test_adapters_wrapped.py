"""Adapters of compiled, parallel and checkpointed models: their files are those of the plain model, both ways."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DistributedDataParallel

from lorasub.adapters import (
    FullFineTuning,
    LoRA,
    RandomBasis,
    attached_adapters,
    count_parameters,
    inject_adapters,
    load_adapters,
)
from lorasub.adapters.folder import load_adapter_updates


class Net(nn.Module):
    """Two blocks with a group for them, as a backbone has."""

    groups: ClassVar = {"blocks": ("blocks",)}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(2))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def compiled(model: Net) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def checkpointed(model: Net) -> nn.Module:
    model.blocks[0] = checkpoint_wrapper(model.blocks[0])
    model.blocks[1] = torch.compile(model.blocks[1], backend="eager")  # type: ignore[assignment]
    return model


WRAPPERS: dict[str, Callable[[Net], nn.Module]] = {
    "compile": compiled,
    "DataParallel": nn.DataParallel,
    "both": lambda model: compiled(nn.DataParallel(model)),  # type: ignore[arg-type]
    "blocks": checkpointed,
}


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of one, for DDP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def moved(model: nn.Module, targets: str = "blocks") -> torch.Tensor:
    """Inject, change the adapters, and give the output for a fixed input."""
    torch.manual_seed(1)
    adapters = inject_adapters(model, LoRA(r=2, targets=targets))
    for number, parameter in enumerate(adapters.trainable_parameters().values()):
        generator = torch.Generator().manual_seed(number)
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return model(X).detach()


X = torch.linspace(-1, 1, 24).reshape(3, 8)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapped_model_saves_and_loads_what_the_plain_one_does(kind: str, tmp_path: Path) -> None:
    plain, wrapped = Net(), WRAPPERS[kind](Net())
    expected, found = moved(plain), moved(wrapped)
    torch.testing.assert_close(found, expected)
    assert str(count_parameters(wrapped)) == str(count_parameters(plain))
    for model, folder in ((plain, "plain"), (wrapped, "wrapped")):
        adapters = attached_adapters(model)
        assert adapters is not None
        adapters.save(tmp_path / folder)
    for name in ("adapter_model.safetensors", "adapter_config.json", "lorasub.json", "README.md"):
        assert (tmp_path / "wrapped" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    for model in (Net(), WRAPPERS[kind](Net())):
        load_adapters(model, tmp_path / "wrapped")
        torch.testing.assert_close(model(X).detach(), expected)


def test_ddp_and_full_fine_tuning(alone: None, tmp_path: Path) -> None:
    model = DistributedDataParallel(Net())
    adapters = inject_adapters(model, [RandomBasis(dim=2, targets="blocks"), FullFineTuning(targets="head")])
    assert set(adapters.layers) == {"blocks.0.0", "blocks.1.0"}
    assert set(adapters.full_parameters) == {"head.weight", "head.bias"}
    adapters.save(tmp_path)
    other = inject_adapters(Net(), [RandomBasis(dim=2, targets="blocks"), FullFineTuning(targets="head")])
    other.load(tmp_path)
    assert {name for name, p in adapters.unload(merge=True).named_parameters() if p.requires_grad} == {
        name for name, _ in Net().named_parameters()
    }


PREFIXES = [
    ("base_model.model._orig_mod.", "weight"),
    ("base_model.model.module.", "weight"),
    ("base_model.model.base_model.model.", "weight"),
    ("module.base_model.model.", "weight"),
    ("_orig_mod.base_model.model.", "default.weight"),
    ("base_model.model._fsdp_wrapped_module.", "default.weight"),
    ("base_model.model.module._orig_mod.", "default.weight"),
    ("", "default.weight"),
]


@pytest.mark.parametrize(("prefix", "suffix"), PREFIXES)
@pytest.mark.parametrize("inside", ["", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module."])
def test_files_of_other_tools_load(prefix: str, suffix: str, inside: str, tmp_path: Path) -> None:
    """Names as PEFT, accelerate and trainers leave them when they save a wrapped model."""
    model = Net()
    expected = moved(model, "all")
    adapters = attached_adapters(model)
    assert adapters is not None
    adapters.save(tmp_path)
    (tmp_path / "lorasub.json").unlink()  # no other tool writes it
    file = tmp_path / "adapter_model.safetensors"
    tensors = {
        name.replace("base_model.model.", prefix)
        .replace("blocks.0.", f"blocks.0.{inside}")
        .replace("weight", suffix): t
        for name, t in load_file(file).items()
    }
    save_file(tensors, file)
    other = Net()
    load_adapters(other, tmp_path)
    torch.testing.assert_close(other(X).detach(), expected)


def test_patterns_for_wrapped_names_are_understood(tmp_path: Path) -> None:
    torch.manual_seed(1)
    inject_adapters(Net(), LoRA(r=2, targets="all", rank_pattern={"head": 3})).save(tmp_path)
    (tmp_path / "lorasub.json").unlink()
    file, settings = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    save_file({n.replace("model.model.", "model.model._orig_mod."): t for n, t in load_file(file).items()}, file)
    config = json.loads(settings.read_text())
    config["rank_pattern"] = {"^_orig_mod\\.head": 3}
    settings.write_text(json.dumps(config))
    assert load_adapter_updates(tmp_path)[0]["head"].r == 3


def test_a_model_that_calls_a_part_of_its_own_module_keeps_it(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = Net()

    adapters = inject_adapters(Outer(), LoRA(r=2, targets="all"))
    assert "module.head" in adapters.layers
    adapters.save(tmp_path)
    assert "module.head" in load_adapters(Outer(), tmp_path).layers
    inject_adapters(Outer(), LoRA(r=2, targets="all")).load(tmp_path)

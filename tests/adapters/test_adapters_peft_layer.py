"""PEFT's own layers behind our interface, against PEFT on the whole model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lorasub.adapters import PEFT, LoRA, inject_adapters, load_adapter_updates
from lorasub.errors import ArtefactError, ConfigError

peft = pytest.importorskip("peft")

DORA = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "use_dora": True}
KINDS = {
    "dora": DORA,
    "lora": {"peft_type": "LORA", "r": 3, "lora_alpha": 6},
    "loha": {"peft_type": "LOHA", "r": 3, "alpha": 6},
    "lokr": {"peft_type": "LOKR", "r": 3, "alpha": 6},
    "oft": {"peft_type": "OFT", "oft_block_size": 2},
    "adalora": {"peft_type": "ADALORA", "init_r": 4, "target_r": 2, "lora_alpha": 6},
}


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4)).double()


def moved(adapters: Any) -> None:
    """As if it had been trained."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapters.trainable_parameters().values():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 6, dtype=torch.float64)


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_it_starts_as_the_base_model_and_computes_what_peft_computes(config: dict[str, Any], x: torch.Tensor) -> None:
    model, plain = network(), network()
    adapters = inject_adapters(model, PEFT(config=config, targets="all"))
    torch.testing.assert_close(model(x), plain(x))
    moved(adapters)
    assert not torch.allclose(model(x), plain(x), atol=1e-3)

    settings = {key: value for key, value in config.items() if key != "peft_type"}
    settings |= {"total_step": 100} if config["peft_type"] == "ADALORA" else {}
    kind = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(config["peft_type"])]
    reference = peft.get_peft_model(network(), kind(**settings, target_modules=["0", "2"])).double()
    theirs = dict(reference.base_model.model.named_parameters())
    with torch.no_grad():
        for name, parameter in adapters.trainable_parameters().items():
            theirs[name.replace("peft_layer.", "")].copy_(parameter)
    torch.testing.assert_close(model(x), reference(x))


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_merging_switching_off_and_taking_out(config: dict[str, Any], x: torch.Tensor) -> None:
    model, plain = network(), network()
    adapters = inject_adapters(model, PEFT(config=config, targets="all"))
    moved(adapters)
    adapted = model(x)
    adapters.merge()
    torch.testing.assert_close(model(x), adapted)
    adapters.unmerge()
    with adapters.disabled():
        assert torch.equal(model(x), plain(x))
    torch.testing.assert_close(model(x), adapted)
    for path, update in adapters.updates().items():
        change = adapters.layers[path].delta_weight()
        torch.testing.assert_close(update.scale * update.B @ update.A, change)
    adapters.unload()
    assert torch.equal(model(x), plain(x))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_only_what_peft_adds_is_trained() -> None:
    adapters = inject_adapters(network(), PEFT(config=DORA, targets="0"))
    # A (3, 6), B (8, 3) and a magnitude for each of the 8 outputs
    assert adapters.table().trainable == 3 * 6 + 8 * 3 + 8
    named = {name for name, p in adapters.model.named_parameters() if p.requires_grad}
    assert named == set(adapters.trainable_parameters())


def test_it_is_saved_and_loaded_beside_other_adapters(tmp_path: Path, x: torch.Tensor) -> None:
    def adapted() -> tuple[nn.Module, Any]:
        model = network()
        return model, inject_adapters(model, [PEFT(config=DORA, targets="0"), LoRA(r=2, targets="2")])

    model, adapters = adapted()
    moved(adapters)
    adapters.save(tmp_path / "adapter")
    other, loaded = adapted()
    loaded.load(tmp_path / "adapter")
    assert torch.equal(other(x), model(x))
    with pytest.raises(ArtefactError, match="no low-rank updates"):
        load_adapter_updates(tmp_path / "adapter")


def test_gradients_reach_every_trained_tensor(x: torch.Tensor) -> None:
    model = network()
    adapters = inject_adapters(model, PEFT(config=DORA, targets="all"))
    moved(adapters)
    model(x).square().sum().backward()
    assert all(float(p.grad.abs().max()) > 0 for p in adapters.trainable_parameters().values())
    copy.deepcopy(model)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"r": 2}, "peft_type"),
        ({"peft_type": "LORA", "target_modules": ["0"]}, "target_modules"),
        ({"peft_type": "LORA", "init_lora_weights": "pissa"}, "pissa"),
        ({"peft_type": "LORA", "rank": 2}, "PEFT refuses"),
    ],
)
def test_what_would_not_be_what_it_says_is_refused(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        inject_adapters(network(), PEFT(config=config, targets="all"))


def test_oft_of_convolutions_is_refused_where_peft_is_wrong() -> None:
    """It unfolds and folds the input, which sums patches that overlap."""
    spec = PEFT(config=KINDS["oft"], targets="all")
    with pytest.raises(ConfigError, match="overlapping patches"):
        inject_adapters(nn.Sequential(nn.Conv2d(4, 6, 3)), spec)
    model, x = nn.Sequential(nn.Conv2d(4, 6, 1)).double(), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    before = model(x)
    adapters = inject_adapters(model, spec)
    torch.testing.assert_close(model(x), before)
    moved(adapters)
    after = model(x)
    adapters.merge()
    torch.testing.assert_close(model(x), after)

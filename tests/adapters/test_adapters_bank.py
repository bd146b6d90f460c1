"""A bank of adapters against the same adapters alone."""

from __future__ import annotations

import pytest
import torch
from adapter_toys import TOYS
from torch import nn

import lorasub as ls
from lorasub.errors import ArtefactError, ConfigError

COUNT, SEEDS = 3, (11, 5, 8)


def model() -> nn.Module:
    return TOYS["transformer"].model().double()


def inputs(scenes: int = 2) -> torch.Tensor:
    """Equal groups of scenes, one for each adapter."""
    shape = TOYS["transformer"].input().shape[1:]
    return torch.randn(COUNT * scenes, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def bank(**changes) -> ls.AdapterBank:
    adapters = ls.inject_adapters(model(), ls.LoRABank(**{"count": COUNT, "r": 2, "targets": "all"} | changes))
    assert isinstance(adapters, ls.AdapterBank)
    return adapters


def alone(seed: int, **changes) -> ls.AdapterSet:
    plain = model()
    torch.manual_seed(seed)
    return ls.inject_adapters(plain, ls.LoRA(**{"r": 2, "targets": "all"} | changes))


def test_each_adapter_starts_as_a_lora_of_its_seed_and_global_numbers_are_untouched():
    before = torch.get_rng_state()
    together = bank(seeds=SEEDS, rank_pattern={"head": 3})
    assert torch.equal(torch.get_rng_state(), before)
    for index, seed in enumerate(SEEDS):
        single = alone(seed, rank_pattern={"head": 3}).state_dict()
        with together.only(index):
            own = together.state_dict()
        assert own.keys() == single.keys()
        assert all(torch.equal(own[name], value) for name, value in single.items())


def test_without_seeds_all_are_drawn_from_the_global_state_one_after_the_other():
    torch.manual_seed(4)
    together = bank()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    for index in range(COUNT):
        plain = model()
        torch.set_rng_state(state)
        single = ls.inject_adapters(plain, ls.LoRA(r=2, targets="all")).state_dict()
        state = torch.get_rng_state()
        with together.only(index):
            assert all(torch.equal(together.state_dict()[name], value) for name, value in single.items())


@pytest.mark.parametrize("max_norm", [None, 0.02])
def test_training_finds_the_adapters_of_separate_runs(max_norm):
    """Ten steps of AdamW, with and without clipping, in float64, to 1e-9."""
    x, together = inputs(), bank(seeds=SEEDS)
    optimizer = torch.optim.AdamW(together.trainable_parameters().values(), lr=0.02, weight_decay=0.1)
    singles = [alone(seed) for seed in SEEDS]
    optimizers = [torch.optim.AdamW(one.trainable_parameters().values(), lr=0.02, weight_decay=0.1) for one in singles]
    clipped = 0
    for _ in range(10):
        optimizer.zero_grad()
        losses = together.model(x).square().flatten(1).mean(1)
        losses.unflatten(0, (COUNT, -1)).mean(1).sum().backward()
        norms = together.clip_gradients(max_norm) if max_norm else None
        optimizer.step()
        for index, (single, own) in enumerate(zip(singles, optimizers, strict=True)):
            own.zero_grad()
            single.model(x.chunk(COUNT)[index]).square().mean().backward()
            if norms is not None:
                norm = torch.nn.utils.clip_grad_norm_(single.trainable_parameters().values(), max_norm)
                torch.testing.assert_close(norms[index], norm, rtol=1e-9, atol=0)
                clipped += bool(norm > max_norm)
            own.step()
    assert clipped > 0 or max_norm is None
    for index, single in enumerate(singles):
        with together.only(index):
            for name, value in single.state_dict().items():
                torch.testing.assert_close(together.state_dict()[name], value, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(together.model(x), single.model(x), rtol=1e-9, atol=1e-9)


def test_what_one_group_says_changes_no_other_adapter():
    together, x = bank(seeds=SEEDS), inputs()
    with torch.no_grad():
        for parameter in together.trainable_parameters().values():
            parameter += 0.1
    together.model(x).chunk(COUNT)[1].square().sum().backward()
    for name, parameter in together.trainable_parameters().items():
        assert parameter.grad is not None, name
        assert parameter.grad[[0, 2]].eq(0).all(), name
        assert parameter.grad[1].ne(0).any(), name


def test_one_of_a_bank_is_an_ordinary_lora(perturb, tmp_path):
    together, x = bank(seeds=SEEDS), inputs()
    perturb(together)
    base, count = model()(x), together.table().trainable
    outputs = together.model(x).detach().chunk(COUNT)
    with together.only(1):
        torch.testing.assert_close(together.model(x).detach().chunk(COUNT)[1], outputs[1])
        assert together.table().trainable * COUNT == count
        together.save(tmp_path / "one")
        together.merge()
        torch.testing.assert_close(together.model(x).detach().chunk(COUNT)[1], outputs[1])
    torch.testing.assert_close(torch.cat(outputs), together.model(x).detach())  # merging was undone
    plain = ls.load_adapters(model(), tmp_path / "one")
    assert plain.updates().keys() == together.layers.keys()
    torch.testing.assert_close(plain.model(x).detach().chunk(COUNT)[1], outputs[1])
    with together.disabled():
        torch.testing.assert_close(together.model(x), base)


def test_one_can_be_left_in_the_weights():
    together, x = bank(seeds=SEEDS), inputs()
    with torch.no_grad():
        for parameter in together.trainable_parameters().values():
            parameter += 0.1
    with together.only(2):
        expected = together.model(x).detach()
        plain = together.unload(merge=True)
    assert not any(isinstance(module, ls.AdapterLayer) for module in plain.modules())
    torch.testing.assert_close(plain(x).detach(), expected)


def test_every_adapter_has_a_folder_and_they_come_back(perturb, tmp_path):
    together = bank(seeds=SEEDS)
    perturb(together)
    together.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_0", "adapter_1", "adapter_2"]
    other = bank(seeds=(1, 2, 3))
    other.load(tmp_path)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in together.state_dict().items())
    for index in range(COUNT):
        updates, info = ls.load_adapter_updates(tmp_path / f"adapter_{index}")
        assert info.base_model_hash == together.base_model_hash
        with together.only(index):
            for path, update in together.updates().items():
                assert torch.equal(updates[path].A, update.A)
                assert torch.equal(updates[path].B, update.B)
                assert updates[path].scale == update.scale


def test_a_damaged_folder_changes_nothing(perturb, tmp_path):
    together = bank(seeds=SEEDS)
    perturb(together)
    together.save(tmp_path)
    (tmp_path / "adapter_2" / "adapter_model.safetensors").write_bytes(b"")
    other = bank(seeds=(1, 2, 3))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ArtefactError, match="adapter_2"):
        other.load(tmp_path)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in before.items())


def test_peft_loads_one_of_a_bank(perturb, tmp_path):
    peft = pytest.importorskip("peft")
    together, x = bank(seeds=SEEDS), inputs()
    perturb(together)
    together.save(tmp_path)
    theirs = peft.PeftModel.from_pretrained(model(), str(tmp_path / "adapter_1"))
    torch.testing.assert_close(theirs(x).chunk(COUNT)[1], together.model(x).chunk(COUNT)[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"count": 2, "seeds": [1]}, "1 seeds for 2"),
        ({"count": 2, "dropout": 0.1}, "one by one"),
        ({"count": 2, "init": "pissa"}, "one by one"),
        ({"count": 2, "r": 0}, "rank"),
    ],
)
def test_settings_that_make_no_bank(settings, message):
    with pytest.raises(ConfigError, match=message):
        ls.LoRABank(**settings)


def test_what_a_bank_cannot_do_is_told():
    with pytest.raises(ConfigError, match="Linear layers only"):
        ls.inject_adapters(TOYS["conv"].model(), ls.LoRABank(count=2, targets="all"))
    specs = [ls.LoRABank(count=2, targets="head"), ls.LoRA(targets="blocks")]
    with pytest.raises(ConfigError, match="the only adapter"):
        ls.inject_adapters(model(), specs)
    together = bank()
    with pytest.raises(ConfigError, match="3 equal groups"):
        together.model(inputs()[:4])
    for ask in (together.updates, together.merge):
        with pytest.raises(ConfigError, match="only"):
            ask()
    with pytest.raises(ConfigError, match="no adapter 3"), together.only(3):
        pass
    with together.only(0):
        together.merge()
        with pytest.raises(ConfigError, match="unmerge"), together.only(1):
            pass

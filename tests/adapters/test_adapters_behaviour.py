"""What every kind of adapter does on every kind of model: toy models x kinds x behaviours."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from adapter_toys import KINDS
from torch import nn

import lorasub as ls
from lorasub.errors import ArtefactError, ConfigError, NumericalError


def base_tensors(model):
    """The base model's tensors by their own names, whether adapted or not."""
    adapters = ls.attached_adapters(model)
    own = set(adapters.state_dict()) if adapters else set()
    return {
        name.replace(".base_layer.", "."): tensor.clone()
        for name, tensor in model.state_dict().items()
        if name not in own and ".lora_" not in name and not name.startswith("again.")
    }


def assert_same_tensors(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_step_zero_is_the_base_model(toy, spec):
    model, x = toy.model(), toy.input()
    expected = model(x)
    ls.inject_adapters(model, spec)
    assert torch.equal(model(x), expected)


def test_only_adapter_parameters_train(toy, spec, train):
    model, x = toy.model(), toy.input()
    before = base_tensors(model)
    adapters = ls.inject_adapters(model, spec)
    trainable = adapters.trainable_parameters()
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in trainable.values()}
    started = {name: p.detach().clone() for name, p in trainable.items()}
    train(model, x)
    assert [name for name, p in trainable.items() if torch.equal(p, started[name])] == []
    assert_same_tensors(base_tensors(model), before)


def test_every_trainable_parameter_gets_a_gradient(toy, spec, perturb):
    """Else DistributedDataParallel would need find_unused_parameters."""
    model, x = toy.model(), toy.input()
    adapters = ls.inject_adapters(model, spec)
    perturb(adapters)
    model(x).square().sum().backward()
    for name, parameter in adapters.trainable_parameters().items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_output_is_that_of_the_summed_weights(toy, spec, perturb):
    model, x = toy.model(), toy.input()
    adapters = ls.inject_adapters(model, spec)
    perturb(adapters)
    reference = toy.model()
    for path, update in adapters.updates().items():
        weight = reference.get_submodule(path).weight
        weight.data += (update.scale * update.B @ update.A).reshape(weight.shape)
    torch.testing.assert_close(model(x), reference(x), rtol=1e-4, atol=1e-5)
    assert (model(x) - toy.model()(x)).abs().max() > 1e-3


def test_merge_keeps_the_output_and_unmerge_the_bits(toy, spec, perturb):
    model, x = toy.model(), toy.input()
    adapters = ls.inject_adapters(model, spec)
    perturb(adapters)
    before, output = base_tensors(model), model(x)
    deviations = adapters.merge(safe=True)
    assert adapters.merged
    assert deviations.keys() == adapters.layers.keys()
    assert 0 < max(deviations.values()) < 1e-6
    torch.testing.assert_close(model(x), output, rtol=1e-4, atol=1e-5)
    merged = base_tensors(model)
    assert adapters.merge() == deviations
    assert_same_tensors(base_tensors(model), merged)
    adapters.unmerge()
    adapters.unmerge()
    assert not adapters.merged
    assert_same_tensors(base_tensors(model), before)
    assert torch.equal(model(x), output)


@pytest.mark.parametrize("merged", [False, True])
def test_disabled_is_the_base_model_and_restores(toy, spec, perturb, merged):
    model, x = toy.model(), toy.input()
    expected = model(x)
    adapters = ls.inject_adapters(model, spec)
    perturb(adapters)
    if merged:
        adapters.merge()
    output = model(x)
    first = next(iter(adapters.layers.values()))
    with adapters.disabled():
        assert torch.equal(model(x), expected)
        with adapters.disabled():
            assert torch.equal(model(x), expected)
        assert torch.equal(model(x), expected)
    assert torch.equal(model(x), output)
    with pytest.raises(KeyError), adapters.disabled():
        raise KeyError
    assert torch.equal(model(x), output)
    assert adapters.merged is merged
    first.enabled = False
    with adapters.disabled():
        pass
    assert not first.enabled


@pytest.mark.parametrize("merge", [False, True])
def test_unload_gives_the_plain_model_back(toy, spec, perturb, merge):
    model, x = toy.model(), toy.input()
    model.get_submodule(toy.layers[0]).weight.requires_grad_(False)
    names = list(model.state_dict())
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    expected = model(x)
    adapters = ls.inject_adapters(model, spec)
    perturb(adapters)
    if merge:
        expected = model(x)
    assert adapters.unload(merge=merge) is model
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5 if merge else 0)
    assert list(model.state_dict()) == names
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained
    assert ls.attached_adapters(model) is None
    assert not any(isinstance(module, ls.AdapterLayer) for module in model.modules())


def test_state_dict_round_trip_is_strict(toy, spec, perturb):
    first, second, x = toy.model(), toy.model(), toy.input()
    adapters, others = ls.inject_adapters(first, spec), ls.inject_adapters(second, spec)
    perturb(adapters)
    state = {name: tensor.clone() for name, tensor in adapters.state_dict().items()}
    others.load_state_dict(state)
    assert torch.equal(second(x), first(x))
    name = next(iter(adapters.trainable_parameters()))
    for broken, word in (
        ({k: v for k, v in state.items() if k != name}, f"missing {name}"),
        (state | {"nowhere.M": torch.zeros(1)}, "unexpected nowhere.M"),
        (state | {name: torch.zeros(7, 7)}, r"\(7, 7\)"),
    ):
        kept = {k: v.clone() for k, v in others.state_dict().items()}
        with pytest.raises(ArtefactError, match=word):
            others.load_state_dict({k: v + 1 if v.ndim else v for k, v in broken.items()})
        assert_same_tensors(others.state_dict(), kept)


def test_loading_while_merged_merges_what_was_loaded(toy, spec, perturb):
    first, second, x = toy.model(), toy.model(), toy.input()
    adapters, others = ls.inject_adapters(first, spec), ls.inject_adapters(second, spec)
    perturb(adapters)
    others.merge()
    others.load_state_dict(adapters.state_dict())
    torch.testing.assert_close(second(x), first(x), rtol=1e-4, atol=1e-5)
    others.unmerge()
    assert_same_tensors(base_tensors(second), base_tensors(toy.model()))


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_stand_alone(toy, spec, perturb, copy_of):
    model, x = toy.model(), toy.input()
    perturb(ls.inject_adapters(model, spec))
    output = model(x)
    other = copy_of(model)
    adapters = ls.attached_adapters(other)
    assert torch.equal(other(x), output)
    assert adapters.model is other
    perturb(adapters)
    assert not torch.equal(other(x), output)
    assert torch.equal(model(x), output)
    assert not torch.equal(model(x), adapters.unload()(x))


def test_bases_of_an_artefact_are_shared_and_not_stored(toy):
    basis = toy.basis()
    sets = [ls.inject_adapters(toy.model(), ls.ProjectedLoRA(basis=basis, targets="all")) for _ in range(2)]
    for adapters in sets:
        for path, layer in adapters.layers.items():
            assert layer.Q_out.data_ptr() == basis.layers[path].U.data_ptr()
            assert layer.Q_in.data_ptr() == basis.layers[path].V.data_ptr()
        assert not [name for name in adapters.model.state_dict() if "Q_" in name]
        assert set(adapters.state_dict()) == {f"{path}.M" for path in toy.layers}


def test_bases_without_an_artefact_are_stored(toy, perturb):
    """Singular vectors may come out with other signs elsewhere: what was trained on must come back, not be redrawn."""
    model, x = toy.model(), toy.input()
    adapters = ls.inject_adapters(model, ls.PSV(dim=2, targets="all"))
    perturb(adapters)
    state = {name: -tensor if "Q_in" in name else tensor for name, tensor in adapters.state_dict().items()}
    others = ls.inject_adapters(toy.model(), ls.PSV(dim=2, targets="all"))
    others.load_state_dict(state)
    others.load_state_dict({k: -v if k.endswith(".M") else v for k, v in others.state_dict().items()})
    torch.testing.assert_close(others.model(x), model(x))


def test_unsafe_values_are_not_merged(toy):
    model = toy.model()
    adapters = ls.inject_adapters(model, ls.LoRA(r=2, targets="all"))
    before = base_tensors(model)
    last = toy.layers[-1]
    with torch.no_grad():
        adapters.layers[last].lora_B.weight.fill_(float("nan"))
    with pytest.raises(NumericalError, match=last):
        adapters.merge(safe=True)
    assert not adapters.merged
    assert_same_tensors(base_tensors(model), before)


def test_full_fine_tuning(toy, train):
    model, x = toy.model(), toy.input()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    adapters = ls.inject_adapters(model, ls.FullFineTuning())
    assert torch.equal(model(x), toy.model()(x))
    assert adapters.table().trainable == sum(p.numel() for p in toy.model().parameters())
    train(model, x)
    assert [name for name, p in model.named_parameters() if torch.equal(before[name], p)] == []
    other = ls.inject_adapters(toy.model(), ls.FullFineTuning())
    other.load_state_dict(adapters.state_dict())
    assert torch.equal(other.model(x), model(x))
    with pytest.raises(ConfigError, match="cannot be disabled"), adapters.disabled():
        pass
    with pytest.raises(ConfigError, match="unloaded without merge"):
        adapters.unload()
    assert adapters.unload(merge=True) is model


def test_a_module_at_two_places_has_one_adapter():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.list = nn.ModuleList([self.a, nn.Linear(3, 3), self.a])

    model = Twice()
    adapters = ls.inject_adapters(model, ls.LoRA(targets="all"))
    assert set(adapters.layers) == {"a", "list.1"}
    assert model.a is model.list[0] is model.list[2] is adapters.layers["a"]
    adapters.unload()
    assert isinstance(model.list[2], nn.Linear)


def test_tied_weights_are_not_merged():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    adapters = ls.inject_adapters(model, ls.LoRA(targets="0"))
    with pytest.raises(ConfigError, match="tied"):
        adapters.merge()


@pytest.mark.parametrize("kind", ["lora", "projected"])
def test_traces_without_a_graph_break(transformer, perturb, kind):
    """torch.compile sees one graph; the backend that runs it as it is needs no compiler."""
    model, x = transformer.model(), transformer.input()
    perturb(ls.inject_adapters(model, KINDS[kind](transformer)))
    torch._dynamo.reset()
    traced = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.ddp
@pytest.mark.parametrize("kind", ["lora", "mixed"])
def test_distributed_data_parallel_needs_no_search_for_unused_parameters(transformer, perturb, kind):
    model, x = transformer.model(), transformer.input()
    adapters = ls.inject_adapters(model, KINDS[kind](transformer))
    perturb(adapters)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
        for _ in range(2):  # a parameter without a gradient is noticed at the start of the second step
            parallel(x).square().mean().backward()
        assert ls.attached_adapters(parallel) is adapters
    finally:
        torch.distributed.destroy_process_group()

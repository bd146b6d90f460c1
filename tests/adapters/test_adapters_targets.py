"""What names mean, what injection refuses, and the parameter counts of the paper."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

import lorasub as ls
from lorasub.errors import ArtefactError, ConfigError
from lorasub.subspaces import write_paper_format


def adapted(toy, targets, exclude=()):
    return set(ls.inject_adapters(toy.model(), ls.LoRA(r=1, targets=targets, exclude=exclude)).layers)


BLOCK = {"attn.qkv", "attn.proj", "mlp.0", "mlp.2"}


@pytest.mark.parametrize(
    ("targets", "exclude", "expected"),
    [
        ("all", (), {f"blocks.{i}.{name}" for i in (0, 1) for name in BLOCK} | {"head"}),
        ("all", "blocks", {"head"}),
        ("blocks", "first", {f"blocks.1.{name}" for name in BLOCK}),
        ("qkv", (), {"blocks.0.attn.qkv", "blocks.1.attn.qkv"}),
        ("*.qkv", "blocks.0", {"blocks.1.attn.qkv"}),
        ("*.attn", (), {f"blocks.{i}.attn.{name}" for i in (0, 1) for name in ("qkv", "proj")}),
        (["head", "blocks.[!0].mlp.?"], (), {"head", "blocks.1.mlp.0", "blocks.1.mlp.2"}),
        (("first", "qkv"), ("*.mlp", "*.proj"), {"blocks.0.attn.qkv", "blocks.1.attn.qkv"}),
    ],
)
def test_targets(transformer, targets, exclude, expected):
    assert adapted(transformer, targets, exclude) == expected


def test_nothing_matched_lists_what_there_is(transformer):
    for bad in ({"targets": "decoder"}, {"targets": "all", "exclude": "decoder"}, {"targets": ["all", "decoder"]}):
        with pytest.raises(ConfigError, match=r"'decoder' matches nothing.*blocks, qkv, head.*blocks\.0") as caught:
            ls.inject_adapters(transformer.model(), ls.LoRA(**bad))
        assert "Transformer" in str(caught.value)
    with pytest.raises(ConfigError, match="none of which can be adapted"):
        ls.inject_adapters(transformer.model(), ls.LoRA(targets="*.norm"))
    with pytest.raises(ConfigError, match="all are excluded"):
        ls.inject_adapters(transformer.model(), ls.LoRA(targets="qkv", exclude="blocks"))


@pytest.mark.parametrize(
    "second", [ls.PSV(dim=1, targets="qkv"), ls.FullFineTuning(targets="first"), ls.LoRA(targets="all", r=1)]
)
def test_two_specs_do_not_meet(transformer, second):
    model = transformer.model()
    names = list(model.state_dict())
    with pytest.raises(ConfigError, match=r"both target layer 'blocks\.0\.attn\.qkv'; exclude it in one"):
        ls.inject_adapters(model, [ls.LoRA(targets="blocks.0.attn"), second])
    assert list(model.state_dict()) == names
    assert all(p.requires_grad for p in model.parameters())
    assert ls.attached_adapters(model) is None


def test_a_model_is_adapted_once(transformer):
    model = transformer.model()
    adapters = ls.inject_adapters(model, ls.LoRA())
    with pytest.raises(ConfigError, match="already carries adapters"):
        ls.inject_adapters(model, ls.LoRA(targets="head"))
    adapters.unload()
    ls.inject_adapters(model, ls.LoRA(targets="head"))


def test_no_adapters_at_all_freeze_the_model(transformer):
    model = transformer.model()
    adapters = ls.inject_adapters(model, [])
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert adapters.trainable_parameters() == {}


@pytest.mark.parametrize("specs", ["lora", [ls.LoRA(), None]])
def test_only_specs_are_taken(transformer, specs):
    with pytest.raises(ConfigError, match=r"needs adapters such as LoRA"):
        ls.inject_adapters(transformer.model(), specs)


def test_adapters_are_found_below_wrappers(transformer):
    model = transformer.model()
    wrapper = nn.ModuleDict({"net": nn.Sequential(model)})
    assert ls.attached_adapters(wrapper) is None
    adapters = ls.inject_adapters(model, ls.LoRA())
    assert ls.attached_adapters(wrapper) is adapters
    wrapper["second"] = transformer.model()
    ls.inject_adapters(wrapper["second"], ls.LoRA())
    with pytest.raises(ConfigError, match="2 modules"):
        ls.attached_adapters(wrapper)


def test_ranks_and_alphas_by_pattern(transformer):
    spec = ls.LoRA(
        r=2, targets="all", rank_pattern={r"blocks\.0\..*": 4, "qkv": 3}, alpha_pattern={"head": 10.0, "proj": 1}
    )
    layers = ls.inject_adapters(transformer.model(), spec).layers
    found = {path: (layer.r, layer.scale) for path, layer in layers.items()}
    assert found["blocks.0.attn.qkv"] == (4, 2.0)
    assert found["blocks.1.attn.qkv"] == (3, 2.0)
    assert found["blocks.0.attn.proj"] == (4, 0.25)
    assert found["blocks.1.mlp.0"] == (2, 2.0)
    assert found["head"] == (2, 5.0)
    with pytest.raises(ConfigError, match="'kqv' matches none of the 9 layers"):
        ls.inject_adapters(transformer.model(), ls.LoRA(targets="all", rank_pattern={"kqv": 3}))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: ls.LoRA(r=0), "r=0"),
        (lambda: ls.LoRA(r=2.5), "r=2.5"),
        (lambda: ls.LoRA(lora_alpha=-1), "lora_alpha=-1"),
        (lambda: ls.LoRA(dropout=1.0), "dropout"),
        (lambda: ls.LoRA(init="psa"), "init='psa'; it can be default, pissa"),
        (lambda: ls.LoRA(targets=()), "targets"),
        (lambda: ls.LoRA(rank_pattern={"qkv": 0}), "qkv=0"),
        (lambda: ls.LoRA(alpha_pattern={"qkv": 0}), "qkv=0"),
        (lambda: ls.PSV(dim=0), "dim"),
        (lambda: ls.RandomBasis(scale=0), "scale"),
        (lambda: ls.ProjectedLoRA(basis="x", dropout=-0.1), "dropout"),
        (lambda: ls.FullFineTuning(exclude=("",)), "exclude"),
    ],
)
def test_settings_are_checked(make, word):
    with pytest.raises(ConfigError, match=word):
        make()


def test_a_basis_must_have_the_layers_and_the_base(transformer):
    model, basis = transformer.model(), transformer.basis()
    small = ls.SubspaceBasis(layers={path: basis.layers[path] for path in transformer.layers[1:3]})
    with pytest.raises(ConfigError, match=r"basis lacks 7 of the 9 layers .*blocks\.0\.attn\.qkv"):
        ls.inject_adapters(model, ls.ProjectedLoRA(basis=small, targets="all"))
    other = ls.SubspaceBasis(layers=basis.layers, base_model_hash="0123456789abcdef")
    with pytest.raises(ArtefactError, match="hash 0123456789ab, but the base model here has hash") as caught:
        ls.inject_adapters(model, ls.ProjectedLoRA(basis=other))
    adapters = ls.inject_adapters(model, ls.ProjectedLoRA(basis=basis))
    assert adapters.base_model_hash[:12] in str(caught.value)
    wrong = dict(basis.layers) | {"head": basis.layers["blocks.0.mlp.0"]}
    with pytest.raises(ArtefactError, match=r"layer 'head'.*U needs 3 rows"):
        ls.inject_adapters(transformer.model(), ls.ProjectedLoRA(basis=ls.SubspaceBasis(layers=wrong), targets="all"))


def test_a_projected_start(transformer, perturb, tmp_path):
    model, x, basis = transformer.model(), transformer.input(), transformer.basis(3, 3)
    lora = ls.inject_adapters(model, ls.LoRA(r=2, targets="all"))
    perturb(lora)
    lora.save(tmp_path)
    for start in (tmp_path, lora.updates()):
        projected = ls.inject_adapters(
            transformer.model(), ls.ProjectedLoRA(basis=basis, targets="all", init_from=start)
        )
        for path, layer in projected.layers.items():
            U, V = basis.layers[path].U, basis.layers[path].V
            nearest = U @ U.T @ lora.layers[path].delta_weight(torch.float32) @ V @ V.T
            torch.testing.assert_close(layer.delta_weight(torch.float32), nearest, atol=1e-6, rtol=1e-4)
        assert not torch.equal(projected.model(x), transformer.model()(x))
    lora.unload()
    only_head = ls.inject_adapters(model, ls.LoRA(targets="head"))
    with pytest.raises(ConfigError, match="init_from lacks 8"):
        ls.inject_adapters(transformer.model(), ls.ProjectedLoRA(basis=basis, init_from=only_head.updates()))
    only_head.unload()
    model.head.weight.data += 1
    with pytest.raises(ArtefactError, match="belongs to the base model"):
        ls.inject_adapters(model, ls.ProjectedLoRA(basis=basis, targets="all", init_from=tmp_path))


def test_space_files_of_the_paper_are_bases(tmp_path):
    class Vggt(nn.Module):
        def __init__(self):
            super().__init__()
            block = nn.ModuleDict({"attn": nn.ModuleDict({"qkv": nn.Linear(6, 18)})})
            self.aggregator = nn.ModuleDict({"frame_blocks": nn.ModuleList([block])})

    path = "aggregator.frame_blocks.0.attn.qkv"
    U, V = torch.randn(18, 4), torch.randn(6, 4)
    write_paper_format(ls.SubspaceBasis(layers={path: ls.LayerSubspace(U=U, V=V)}), tmp_path / "space.safetensors")
    model = Vggt()
    adapters = ls.inject_adapters(model, ls.ProjectedLoRA(basis=tmp_path / "space.safetensors", targets="all"))
    layer = adapters.layers[path]
    nn.init.normal_(layer.M)
    x = torch.randn(3, 6)
    # the released code's layer: lora_A = A, lora_B = B after M, lora_alpha = 2 r
    expected = layer.base_layer(x) + 2 * x @ V @ layer.M.T @ U.T
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


# -- counts -----------------------------------------------------------------------------------------------------------


def test_the_table_counts_every_parameter_once(transformer):
    model = transformer.model()
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    adapters = ls.inject_adapters(
        model, [ls.PSV(dim=3, targets="qkv"), ls.LoRA(r=2, targets="*.mlp"), ls.FullFineTuning(targets="head")]
    )
    table = adapters.table()
    rows = {row.group: row for row in table.rows}
    assert set(rows) == {"first", "qkv", "blocks", "head", "other"}
    assert rows["qkv"].trainable == {"projected": 2 * 9}
    assert rows["first"].trainable == {"lora": 2 * 2 * 24}
    assert rows["first"].layers == 2
    assert rows["head"].trainable == {"full": 27}
    assert rows["other"].frozen == sizes["token"]
    assert table.total.trainable == {"projected": 18, "lora": 192, "full": 27}
    assert table.trainable == sum(p.numel() for p in adapters.trainable_parameters().values())
    assert table.total.frozen == sum(sizes.values()) - 27
    assert json.loads(json.dumps(table.to_dict()))["total"]["trainable"]["lora"] == 192
    text = str(table).splitlines()
    assert text[0].split() == ["group", "layers", "full", "lora", "projected", "frozen"]
    assert text[-1].split()[:5] == ["total", "6", "27", "192", "18"]


def vggt():
    backbones = pytest.importorskip("lorasub.backbones")
    with torch.device("meta"):
        return backbones.VGGT(backbones.VGGTConfig(heads=("camera", "depth")))


BILLION = [
    (ls.FullFineTuning(exclude="encoder"), {"full": 853_568_756}, 0),
    (ls.LoRA(r=16, targets="all", exclude="encoder"), {"lora": 16_336_192}, 242),
    (ls.LoRA(r=64, targets="all", exclude="encoder"), {"lora": 65_344_768}, 242),
    (ls.LoRA(r=256, targets="all", exclude="encoder"), {"lora": 261_379_072}, 242),
    (ls.LoRA(r=16), {"lora": 12_582_912}, 192),
    (ls.LoRA(r=16, targets="heads"), {"lora": 3_753_280}, 50),
    ([ls.RandomBasis(dim=16), ls.LoRA(r=16, targets="heads")], {"projected": 192 * 16**2, "lora": 3_753_280}, 242),
    (ls.PSV(dim=64), {"projected": 192 * 64**2}, 192),
]


@pytest.mark.parametrize(("spec", "trainable", "layers"), BILLION)
def test_the_counts_of_the_paper(spec, trainable, layers):
    adapters = ls.inject_adapters(vggt(), spec)
    total = adapters.table().total
    assert (total.trainable, total.layers) == (trainable, layers)
    assert sum(p.numel() for p in adapters.trainable_parameters().values()) == sum(trainable.values())


def test_the_counts_of_the_published_checkpoint(golden):
    """The same numbers from the checkpoint's own names and shapes, without any model."""
    shapes = json.loads((golden / "vggt_1b_state_dict.json").read_text())
    kept = {
        name: shape
        for name, shape in shapes.items()
        if name.startswith(("aggregator.frame_blocks", "aggregator.global_blocks", "camera_head", "depth_head"))
    }
    # Linear and Conv2d have weights of two and four axes; resize_layers 0 and 1 are transposed convolutions
    weights = {
        name.removesuffix(".weight"): shape
        for name, shape in kept.items()
        if name.endswith(".weight")
        and len(shape) > 1
        and not name.startswith(("depth_head.resize_layers.0", "depth_head.resize_layers.1"))
    }
    adapters = ls.inject_adapters(vggt(), ls.LoRA(r=16, targets=["blocks", "heads"]))
    found = {path: list(layer.base_layer.weight.shape) for path, layer in adapters.layers.items()}
    assert found == weights
    count = sum(16 * (shape[0] + math.prod(shape[1:])) for shape in weights.values())
    assert adapters.table().trainable == count == 16_336_192


def test_real_weights_keep_their_hash(transformer):
    """The hash is that of the plain model, whatever is injected, trained or merged."""
    model = transformer.model()
    adapters = ls.inject_adapters(model, ls.LoRA(targets="all", init="pissa", r=3))
    before = adapters.base_model_hash
    for parameter in adapters.trainable_parameters().values():
        parameter.data += 1
    adapters.merge()
    assert adapters.base_model_hash == before
    adapters.unload()
    assert ls.inject_adapters(model, ls.LoRA(targets="head")).base_model_hash == before
    ls.attached_adapters(model).unload()
    model.head.weight.data[0, 0] += 1e-3
    assert ls.inject_adapters(model, ls.LoRA(targets="head")).base_model_hash != before


def test_a_small_vggt_trains_every_adapter():
    """The real forward pass: every adapter is used, and the first step is the base model."""
    backbones = pytest.importorskip("lorasub.backbones")
    model = backbones.VGGT.from_preset("nano", heads=("camera", "depth"))
    images = torch.rand(1, 2, 3, 56, 42)
    with torch.no_grad():
        before = model(images)
    spec = [ls.RandomBasis(dim=4), ls.LoRA(r=2, targets=["camera_head", "depth_head"])]
    adapters = ls.inject_adapters(model, spec)
    after = model(images)
    assert torch.equal(after.depth, before.depth)
    assert torch.equal(after.pose_encoding, before.pose_encoding)
    with torch.no_grad():
        for parameter in adapters.trainable_parameters().values():
            parameter += 0.01
    after = model(images)
    (after.depth.sum() + after.depth_conf.sum() + sum(pose.sum() for pose in after.pose_encodings)).backward()
    assert [name for name, p in adapters.trainable_parameters().items() if p.grad is None] == []

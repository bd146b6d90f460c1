"""Toy models with every shape of layer that adapters meet, and the kinds of adapters to put on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lorasub as ls


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 10)
        self.norm = nn.LayerNorm(10)
        self.fc2 = nn.Linear(10, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.norm(self.fc1(x))))


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 2))
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding="same", bias=False), nn.ReLU(), nn.Conv2d(8, 6, 1))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((-1, -2)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.attn = Attention()
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm(x))
        return x + self.mlp(x)


class Transformer(nn.Module):
    groups: ClassVar = {"blocks": ("blocks.*",), "qkv": ("*.attn.qkv",), "head": ("head",), "first": ("blocks.0.*",)}
    model_id = "toy-transformer"

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Shared(nn.Module):
    """One and the same Linear at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.between = nn.Linear(6, 6)
        self.again = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.again(torch.tanh(self.between(self.first(x))))


@dataclass(frozen=True)
class Toy:
    """A model of fixed weights, an input for it, and the layers of it that can be adapted."""

    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    layers: tuple[str, ...]

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(11)
            return self.build().eval()

    def input(self) -> Tensor:
        return torch.randn(self.input_shape, generator=torch.Generator().manual_seed(5))

    def mean(self) -> ls.SubspaceBasis:
        """Updates of rank 2 as a basis with singular values."""
        layers = self.basis(2, 2).layers
        S = torch.tensor([3.0, 0.5])
        return ls.SubspaceBasis(layers={path: dataclasses.replace(layer, S=S) for path, layer in layers.items()})

    def basis(self, d_out: int = 2, d_in: int = 3) -> ls.SubspaceBasis:
        generator = torch.Generator().manual_seed(3)
        weights = {path: self.model().get_submodule(path).weight.flatten(1) for path in self.layers}
        return ls.SubspaceBasis(
            layers={
                path: ls.LayerSubspace(
                    U=torch.linalg.qr(torch.randn(weight.shape[0], d_out, generator=generator))[0].contiguous(),
                    V=torch.linalg.qr(torch.randn(weight.shape[1], d_in, generator=generator))[0].contiguous(),
                )
                for path, weight in weights.items()
            }
        )


TOYS = {
    "mlp": Toy(Mlp, (4, 6), ("fc1", "fc2")),
    "conv": Toy(ConvNet, (2, 3, 8, 9), ("stem", "body.0", "body.2", "head")),
    "transformer": Toy(
        Transformer,
        (2, 5, 8),
        (
            *(f"blocks.{i}.{name}" for i in range(2) for name in ("attn.qkv", "attn.proj", "mlp.0", "mlp.2")),
            "head",
        ),
    ),
    "shared": Toy(Shared, (4, 6), ("first", "between")),
}

Specs = ls.AdapterSpec | list[ls.AdapterSpec]
KINDS: dict[str, Callable[[Toy], Specs]] = {
    "lora": lambda toy: ls.LoRA(r=2, targets="all"),
    "pissa": lambda toy: ls.LoRA(r=3, targets="all", init="pissa"),
    "projected": lambda toy: ls.ProjectedLoRA(basis=toy.basis(), targets="all"),
    "psv": lambda toy: ls.PSV(dim=3, targets="all"),
    "random": lambda toy: ls.RandomBasis(dim=2, seed=4, targets="all"),
    "lora_xs": lambda toy: ls.LoRAXS(dim=3, targets="all"),
    "vera": lambda toy: ls.VeRA(r=5, targets="all"),
    "truncated": lambda toy: ls.TruncatedFineTuning(r=2, targets="all"),
    "eva": lambda toy: ls.EVA(basis=toy.basis(), r=2, targets="all"),
    "mean": lambda toy: ls.MeanAdapter(basis=toy.mean(), targets="all"),
    "mixed": lambda toy: [
        ls.ProjectedLoRA(basis=toy.basis(3, 2), targets=toy.layers[0], scale=1.5),
        ls.LoRA(r=2, targets=list(toy.layers[1:])),
    ],
}

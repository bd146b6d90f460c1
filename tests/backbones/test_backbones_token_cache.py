"""Tokens of a frozen encoder from a cache: the same answers to half precision, bounded, never stale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lorasub import VGGT
from lorasub.backbones.token_cache import TokenCache
from lorasub.errors import ConfigError


@pytest.fixture
def encoded(tiny: VGGT, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each run of the (frozen) encoder saw."""
    tiny.aggregator.patch_embed.requires_grad_(False)
    counts: list[int] = []
    tiny.aggregator.patch_embed.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    return counts


def test_each_image_is_encoded_once_and_answers_stay(tiny: VGGT, images: Tensor, encoded: list[int]) -> None:
    expected = tiny(images)
    with tiny.cached_encoder() as cache:
        first, again = tiny(images), tiny(images)
        other = images.clone()
        other[1, 2] += 1e-6  # one image of eight, hardly changed
        tiny(other)
        tiny(images[:, [0, 0]])
    assert encoded == [8, 8, 1]
    assert (cache.hits, cache.misses) == (8 + 7 + 4, 9)
    assert torch.equal(first.depth, again.depth)
    torch.testing.assert_close(first.depth, expected.depth, rtol=5e-3, atol=0)
    torch.testing.assert_close(first.pose_encoding, expected.pose_encoding, rtol=5e-3, atol=5e-3)
    tiny(images)
    assert encoded[-1] == 8  # outside of the block nothing is kept


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_works_under_autocast(tiny: VGGT, images: Tensor, encoded: list[int], dtype: torch.dtype) -> None:
    """Autocast to bfloat16 on a CPU refuses to stack float16 tensors, which is what the cache keeps."""
    with torch.autocast("cpu", dtype), tiny.cached_encoder():
        first, again = tiny(images), tiny(images)
    assert encoded == [8]
    assert torch.equal(first.depth, again.depth)


def test_gradients_of_what_trains_stay(tiny: VGGT, images: Tensor, encoded: list[int]) -> None:
    weight = tiny.aggregator.frame_blocks[0].attn.qkv.weight

    def gradient() -> Tensor:
        (found,) = torch.autograd.grad(tiny(images).depth.log().square().mean(), weight)
        return found

    expected = gradient()
    with tiny.cached_encoder():
        gradient()
        found = gradient()
    assert encoded == [8, 8]
    assert (found - expected).norm() < 5e-3 * expected.norm()


def test_an_encoder_that_trains_is_never_cached(tiny: VGGT, images: Tensor, encoded: list[int]) -> None:
    tiny.aggregator.patch_embed.norm.weight.requires_grad_(True)
    with tiny.cached_encoder() as cache:
        tiny(images)
        tiny(images)
    assert encoded == [8, 8]
    assert cache.hits + cache.misses == len(cache) == 0


@torch.no_grad()
def test_keys_tell_content_size_weights_and_precision_apart() -> None:
    images = torch.rand(1, 3, 14, 28)
    cache, other = TokenCache("a"), TokenCache("b")
    found = [
        *cache.keys(images, torch.float32),
        *cache.keys(images, torch.bfloat16),
        *other.keys(images, torch.float32),
        *cache.keys(images.reshape(1, 3, 28, 14), torch.float32),
        *cache.keys(images.flip(-1), torch.float32),
        *cache.keys(-images, torch.float32),  # a sign bit alone
        *cache.keys(torch.zeros_like(images), torch.float32),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        assert cache.keys(images, torch.float32) == [found[1]]
    assert len(set(found)) == len(found)
    assert cache.keys(torch.cat((images, images)).clone(), torch.float32) == [found[0]] * 2
    # files of one machine are read on another: the key of an image of zeros is a constant
    assert TokenCache("a").keys(torch.zeros(1, 3, 14, 28), torch.float32) == [found[-1]]


@torch.no_grad()
def test_memory_is_bounded_and_what_is_kept_stays(tiny: VGGT, images: Tensor, encoded: list[int]) -> None:
    one = 3 * 5 * 32 * 2  # tokens of 21 x 35 pixels, 32 channels, half precision
    with tiny.cached_encoder(memory_mb=3.5 * one / 2**20) as cache:
        for _ in range(3):
            tiny(images)
    assert encoded == [8, 5, 5]
    assert (len(cache), cache.memory_bytes) == (3, 3 * one)
    assert sum(tokens.untyped_storage().nbytes() for tokens in cache._tokens.values()) == 3 * one
    assert "25%" in cache.report()


@torch.no_grad()
def test_the_disk_serves_later_runs_and_other_weights_miss(
    tiny: VGGT, images: Tensor, encoded: list[int], tmp_path: Path
) -> None:
    with tiny.cached_encoder(folder=tmp_path):
        expected = tiny(images).depth
    with tiny.cached_encoder(folder=tmp_path, memory_mb=0) as cache:
        assert torch.equal(tiny(images).depth, expected)
    assert (encoded, len(cache), cache.hits) == ([8], 0, 8)

    victim, *_ = sorted(tmp_path.glob("*/*.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-9])  # cut short
    with tiny.cached_encoder(folder=tmp_path):
        torch.testing.assert_close(tiny(images).depth, expected, rtol=1e-3, atol=0)
    assert encoded == [8, 1]

    tiny.aggregator.patch_embed.norm.weight.mul_(1.5)
    with tiny.cached_encoder(folder=tmp_path):
        tiny(images)
    assert encoded == [8, 1, 8]


@torch.no_grad()
def test_the_disk_is_bounded(tiny: VGGT, images: Tensor, encoded: list[int], tmp_path: Path) -> None:
    with tiny.cached_encoder(folder=tmp_path, disk_mb=3000 / 2**20):
        tiny(images)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) <= 3200  # the last file's header
    with pytest.raises(ConfigError, match="-1"):
        TokenCache("a", memory_mb=-1)


@torch.no_grad()
def test_tokens_beyond_half_precision_are_not_cached(tiny: VGGT, images: Tensor, encoded: list[int]) -> None:
    tiny.aggregator.patch_embed.norm.weight.mul_(1e6)
    expected = tiny(images).depth
    with tiny.cached_encoder() as cache:
        assert torch.equal(tiny(images).depth, expected)
    assert len(cache) == 0

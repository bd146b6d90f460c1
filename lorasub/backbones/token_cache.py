"""Patch tokens of images that a frozen encoder has seen before.

While an encoder is frozen, an image's tokens never change. They are kept in half precision, on the CPU and if wanted on
disk, under what they depend on: the content of the image, the encoder's weights, and the precision of autocast.

What is handed out has always gone through half precision, also the first time: so a result does not depend on whether
the cache was warm, but for the rounding of the encoder itself, which sees images in other batches then.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import hash_tensors, read_tensors, write_tensors

logger = logging.getLogger(__name__)

MEGABYTE = 2**20
#: Multipliers of an image's 32-bit words are drawn from this seed; files on disk depend on it.
_SEED = 20104


class TokenCache:
    """Tokens by image. When it is full, what is in it stays: in shuffled epochs, giving up old ones would gain nothing.

    Args:
        encoder_hash: identity of the encoder's weights.
        memory_mb: limit of what is kept in main memory.
        folder: where to keep tokens on disk, too. Several processes and several runs may share it; a damaged file is
            made again. None: nowhere.
        disk_mb: limit of what the folder holds before this process stops writing to it.

    Attributes:
        hits: images whose tokens were found.
        misses: images that had to be encoded.
        memory_bytes: what is kept in main memory.
        disk_bytes: what the folder held at the start, and what was written since.

    Raises:
        ConfigError: a negative limit.
    """

    def __init__(
        self,
        encoder_hash: str,
        *,
        memory_mb: float = 1024.0,
        folder: str | os.PathLike[str] | None = None,
        disk_mb: float = 10240.0,
    ) -> None:
        if memory_mb < 0 or disk_mb < 0:
            raise ConfigError(f"a token cache of {memory_mb} MB of memory and {disk_mb} MB of disk is impossible")
        self.encoder_hash = encoder_hash
        self.memory_limit, self.disk_limit = memory_mb * MEGABYTE, disk_mb * MEGABYTE
        self.folder = None if folder is None else Path(folder).expanduser()
        self.hits = self.misses = self.memory_bytes = self.disk_bytes = 0
        if self.folder is not None and self.folder.is_dir():
            self.disk_bytes = sum(file.stat().st_size for file in self.folder.glob("*/*.safetensors"))
        self._tokens: dict[str, Tensor] = {}
        self._multipliers: dict[tuple[int, torch.device], Tensor] = {}
        self._overflow = False

    def __len__(self) -> int:
        return len(self._tokens)

    def encode(self, images: Tensor, encode: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
        """Tokens ``[N, P, C]`` of images ``[N, 3, H, W]``.

        Args:
            images: in [0, 1].
            encode: makes the tokens of those images that are not known.
            dtype: of the encoder's weights, and of the result.
        """
        keys = self.keys(images, dtype)
        known = {key: tokens for key in keys if (tokens := self._find(key)) is not None}
        # an image may come twice in a batch
        first = {key: index for index, key in reversed(list(enumerate(keys))) if key not in known}
        self.hits += len(keys) - len(first)
        self.misses += len(first)
        if first:
            half = encode(images[list(first.values())]).to(torch.float16)
            if not torch.isfinite(half).all():
                self._say_overflow()
                return encode(images).to(dtype)
            for key, tokens in zip(first, half.cpu(), strict=True):
                known[key] = tokens
                self._keep(key, tokens)
        with torch.autocast(images.device.type, enabled=False):  # autocast to bfloat16 would refuse float16 tensors
            return torch.stack([known[key] for key in keys]).to(images.device, non_blocking=True).to(dtype)

    def keys(self, images: Tensor, dtype: torch.dtype) -> list[str]:
        """One key for each image ``[N, 3, H, W]``, 128 bits of its content and whatever else its tokens depend on.

        The content enters by two sums of products, modulo 2^64, of the image's 32-bit words with random odd 64-bit
        numbers (multilinear hashing, Lemire & Kaser 2014): computed where the image is, in any order.
        """
        words = images.to(torch.float32).flatten(1).contiguous().view(torch.int32).to(torch.int64)
        multipliers = self._multipliers_for(words.shape[1], images.device)
        sums = torch.stack([(words * row).sum(1) for row in multipliers], dim=1).tolist()
        device_type = images.device.type
        mixed = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
        precision = torch.get_autocast_dtype(device_type) if mixed else dtype
        context = f"{self.encoder_hash}|{tuple(images.shape[1:])}|{precision}"
        return [hashlib.sha256(f"{context}|{one}|{two}".encode()).hexdigest()[:40] for one, two in sums]

    def report(self) -> str:
        """One line on how it did."""
        share = self.hits / max(self.hits + self.misses, 1)
        text = (
            f"encoder tokens: {share:.0%} of {self.hits + self.misses} images came from the cache, which holds "
            f"{self.memory_bytes / MEGABYTE:.0f} of {self.memory_limit / MEGABYTE:.0f} MB"
        )
        return text if self.folder is None else f"{text}, and {self.disk_bytes / MEGABYTE:.0f} MB in {self.folder}"

    def _multipliers_for(self, count: int, device: torch.device) -> Tensor:
        if (count, device) not in self._multipliers:
            generator = torch.Generator().manual_seed(_SEED)
            limits = torch.iinfo(torch.int64)
            drawn = torch.randint(limits.min, limits.max, (2, count), generator=generator, dtype=torch.int64)
            self._multipliers[count, device] = (drawn | 1).to(device)
        return self._multipliers[count, device]

    def _find(self, key: str) -> Tensor | None:
        if key in self._tokens:
            return self._tokens[key]
        if self.folder is None or not (path := self._path(self.folder, key)).is_file():
            return None
        try:
            tokens = read_tensors(path)["tokens"]
        except (ArtefactError, KeyError):
            path.unlink(missing_ok=True)
            return None
        self._keep_in_memory(key, tokens)
        return tokens

    def _keep(self, key: str, tokens: Tensor) -> None:
        self._keep_in_memory(key, tokens)
        if self.folder is not None and self.disk_bytes + tokens.nbytes <= self.disk_limit:
            path = self._path(self.folder, key)
            write_tensors(path, {"tokens": tokens})
            self.disk_bytes += path.stat().st_size

    def _keep_in_memory(self, key: str, tokens: Tensor) -> None:
        if self.memory_bytes + tokens.nbytes <= self.memory_limit:
            self._tokens[key] = tokens.clone()  # not a view that keeps its whole batch alive
            self.memory_bytes += tokens.nbytes

    def _say_overflow(self) -> None:
        if not self._overflow:
            logger.warning("an encoder's tokens do not fit into half precision; such images are not cached")
            self._overflow = True

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.safetensors"


class CachesTokens(Protocol):
    """A module that looks an image's tokens up where a cache is attached to it."""

    token_cache: TokenCache | None


@contextlib.contextmanager
def attached_cache(
    module: CachesTokens,
    encoder: Mapping[str, Tensor],
    *,
    memory_mb: float,
    folder: str | os.PathLike[str] | None,
    disk_mb: float,
) -> Iterator[TokenCache]:
    """Within the block, a module has a new cache.

    Args:
        module: has it.
        encoder: the weights that tokens depend on.
        memory_mb: see :class:`TokenCache`.
        folder: likewise.
        disk_mb: likewise.
    """
    weights = {name: tensor.float() for name, tensor in encoder.items()}
    before = module.token_cache
    module.token_cache = TokenCache(hash_tensors(weights), memory_mb=memory_mb, folder=folder, disk_mb=disk_mb)
    try:
        yield module.token_cache
    finally:
        module.token_cache = before


def encode_views(
    images: Tensor,
    encode: Callable[[Tensor], Tensor],
    *,
    trains: bool,
    cache: TokenCache | None,
    dtype: torch.dtype,
) -> Tensor:
    """Tokens ``[B, S, P, C]`` of images ``[B, S, 3, H, W]``.

    An encoder that is frozen as a whole runs without recording gradients, and only on images that are not in the cache.

    Args:
        images: in [0, 1].
        encode: ``[N, 3, H, W]`` to ``[N, P, C]``.
        trains: whether any parameter of the encoder, or of adapters in it, requires gradients.
        cache: where tokens are looked up and kept; None for nowhere.
        dtype: of the encoder's weights.
    """
    trains = images.requires_grad or trains
    views = images.flatten(0, 1)
    with torch.set_grad_enabled(torch.is_grad_enabled() and trains):
        tokens = encode(views) if cache is None or trains else cache.encode(views, encode, dtype)
    return torch.unflatten(tokens, 0, images.shape[:2])

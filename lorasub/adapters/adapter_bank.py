"""The adapters of a bank: trained together, then looked at, saved and loaded one by one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorasub.adapters.adapter_set import AdapterSet, attached_adapters
from lorasub.adapters.lora_bank import LoRABankLinear
from lorasub.errors import ConfigError, LorasubError


class AdapterBank(AdapterSet):
    """The adapters that a :class:`~lorasub.LoRABank` put into a model.

    As a whole it can be trained, switched off, and kept in checkpoints; everything that is about one adapter (its
    outputs on any batch, its updates, merging, tables) is asked for within :meth:`only`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.count = self._bank_layers()[0].count

    @contextlib.contextmanager
    def only(self, index: int) -> Iterator[None]:
        """Within the block the model carries adapter ``index`` alone, and this set is that of an ordinary LoRA.

        Its tensors are those of the bank, so what is loaded within stays. Merging is undone at the end; to keep one
        adapter in the weights, and to give up the others, call ``unload(merge=True)`` within.

        Args:
            index: the adapter, from 0.

        Raises:
            ConfigError: there is no such adapter, or one is merged already.
        """
        if not 0 <= index < self.count:
            raise ConfigError(f"there is no adapter {index} in a bank of {self.count}; they count from 0")
        if any(layer.merged for layer in self.layers.values()):
            raise ConfigError("an adapter of the bank is merged; unmerge() it before another is chosen")
        layers = self._bank_layers()
        before = layers[0].index
        for layer in layers:
            layer.index = index
        try:
            yield
        finally:
            if attached_adapters(self.model) is self:
                self.unmerge()
            for layer in layers:
                layer.index = before

    @property
    def starts_of_all(self) -> list[dict[str, str]]:
        """The starts of each adapter."""
        found = []
        for index in range(self.count):
            with self.only(index):
                found.append(self.starts)
        return found

    def draw_starts(self, identities: Sequence[str]) -> None:
        """See :meth:`AdapterSet.draw_starts`: each adapter starts as it would alone."""
        for index, identity in enumerate(identities):
            with self.only(index):
                super().draw_starts([identity])

    @torch.no_grad()
    def clip_gradients(self, max_norm: float) -> Tensor:
        """Scale the gradients of each adapter down to the norm that they may have, as if it were trained alone.

        Args:
            max_norm: the largest L2 norm of all gradients of one adapter.

        Returns:
            ``[n]``, the norms before, one for each adapter.
        """
        gradients = [p.grad for p in self.trainable_parameters().values() if p.grad is not None]
        if not gradients:
            return torch.zeros(self.count)
        norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
        norm: Tensor = torch.linalg.vector_norm(norms, dim=0)
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
        for gradient in gradients:
            gradient.mul_(factor[:, None, None])
        return norm

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write every adapter as a folder of its own, ``adapter_0``, ``adapter_1``, ..., each an ordinary LoRA.

        Within :meth:`only`: that adapter alone, into ``folder`` itself.

        Returns:
            the folder.
        """
        if self._chosen():
            return super().save(folder)
        for index in range(self.count):
            with self.only(index):
                super().save(Path(folder) / f"adapter_{index}")
        return Path(folder)

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Load what :meth:`save` wrote; within :meth:`only` one adapter, from any folder with a LoRA that fits.

        Raises:
            ArtefactError: a folder is missing or damaged or does not fit; nothing is changed then.
        """
        if self._chosen():
            super().load(folder)
            return
        before = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        try:
            for index in range(self.count):
                with self.only(index):
                    super().load(Path(folder) / f"adapter_{index}")
        except LorasubError:
            self.load_state_dict(before)
            raise

    def _chosen(self) -> bool:
        return self._bank_layers()[0].index is not None

    def _bank_layers(self) -> list[LoRABankLinear]:
        return [layer for layer in self.layers.values() if isinstance(layer, LoRABankLinear)]

"""All adapters of one model, as one thing: switch, merge, count, save and load them together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lorasub.adapters.attention import AdaptedAttention, take_adapter
from lorasub.adapters.fused import FactorCasts
from lorasub.adapters.layer import AdapterLayer
from lorasub.adapters.lora import LoRALinear
from lorasub.adapters.projected import ProjectedLinear
from lorasub.adapters.saving import load_into, save_adapters
from lorasub.adapters.table import ParameterTable, count_parameters
from lorasub.adapters.targets import base_modules, base_parameters, shorten, unwrapped
from lorasub.contracts import NamedModel
from lorasub.errors import ArtefactError, ConfigError, NumericalError
from lorasub.subspaces.basis import SubspaceBasis
from lorasub.subspaces.layers import LowRankUpdate

#: Attribute of the adapted module under which its set is kept.
_ATTRIBUTE = "_lorasub_adapters"


class AdapterSet:
    """The adapters of a model; :func:`lorasub.inject_adapters` makes it, :func:`lorasub.attached_adapters` finds it.

    Attributes:
        model: the adapted model, without what stands around it (compiled, parallel, sharded).
        layers: layer path -> adapter layer. Paths are those of the model before injection.
        base_model_id: name of the base model, None if it has none.
        base_model_hash: hash of the base model's weights, None on the meta device.
        bases: bases from other files that projected layers rest on, by the name of their folder.
    """

    #: How many adapters are trained at once; more than one in an :class:`~lorasub.adapters.AdapterBank`.
    count: int = 1

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, AdapterLayer],
        full_parameters: dict[str, nn.Parameter],
        *,
        base_model_hash: str | None,
        trained_before: frozenset[str],
    ) -> None:
        self.model = model = unwrapped(model)
        self.layers = layers
        self._full_names = tuple(full_parameters)
        self.base_model_id = model.model_id if isinstance(model, NamedModel) else None
        self.base_model_hash = base_model_hash
        self.bases: dict[str, SubspaceBasis] = {}
        self._trained_before = trained_before
        factored = [layer for layer in layers.values() if isinstance(layer, LoRALinear | ProjectedLinear)]
        self._casts = FactorCasts(model, factored)
        setattr(model, _ATTRIBUTE, self)

    def __repr__(self) -> str:
        return f"AdapterSet of {type(self.model).__name__}, {len(self.layers)} layers\n{self.table()}"

    # -- tensors ------------------------------------------------------------------------------------------------------

    @property
    def full_parameters(self) -> dict[str, nn.Parameter]:
        """Name -> parameter that is fine-tuned itself."""
        if not self._full_names:
            return {}
        # asked for anew each time: sharding puts other parameters in their places, compiling other names
        parameters = base_parameters(self.model)
        return {name: parameters[name] for name in self._full_names}

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name: ``blocks.0.attn.qkv.lora_A.weight``, ``blocks.0.attn.qkv.M``, ..."""
        own = {
            f"{path}.{name}": parameter
            for path, layer in self.layers.items()
            for name, parameter in layer.adapter_parameters().items()
        }
        return own | self.full_parameters

    def updates(self) -> dict[str, LowRankUpdate]:
        """Layer path -> its update in factored form, detached: what mining takes."""
        return {path: layer.update() for path, layer in self.layers.items()}

    @property
    def starts(self) -> dict[str, str]:
        """Layer path -> hash of the random ``lora_A`` that it started from, for layers that started from one."""
        return {path: layer.start for path, layer in self.layers.items() if layer.start is not None}

    def set_starts(self, starts: Mapping[str, str]) -> None:
        """Takes over the starts of adapters that were loaded; what they do not name has no known start."""
        for path, layer in self.layers.items():
            layer.start = starts.get(path)

    def draw_starts(self, identities: Sequence[str]) -> None:
        """Draws random starts anew, as a function of those that were drawn and of the data to be trained on.

        So two adapters that were made from one seed start differently as soon as their data differ, and the same fit
        starts the same whenever it is repeated. Adapters that were trained or loaded stay as they are.

        Args:
            identities: what the data is, for each adapter; an empty one leaves the start as it is.
        """
        (identity,) = identities
        if identity and self.layers and all(layer.at_start() for layer in self.layers.values() if layer.start):
            for path, layer in self.layers.items():
                if layer.start is not None:
                    layer.draw_start("start", layer.start, identity, path)

    def regularization(self) -> Tensor | None:
        """The mean of what layers add to the loss, over those that do; None where none does."""
        found = [term for layer in self.layers.values() if (term := layer.regularization()) is not None]
        return torch.stack(found).mean() if found else None

    def table(self) -> ParameterTable:
        """Trained and frozen parameters for each group of the model."""
        return count_parameters(self.model)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that bring these adapters back on the same base: trained ones, and frozen ones of no other file."""
        frozen = {
            f"{path}.{name}": tensor
            for path, layer in self.layers.items()
            for name, tensor in layer.frozen_state().items()
        }
        return {name: p.detach() for name, p in self.trainable_parameters().items()} | frozen

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put stored tensors in place. All are checked before the first is changed.

        Raises:
            ArtefactError: tensors are missing, unexpected or of another shape.
        """
        own = self.state_dict()
        problems = []
        if missing := sorted(own.keys() - state.keys()):
            problems.append(f"missing {shorten(missing)}")
        if unexpected := sorted(state.keys() - own.keys()):
            problems.append(f"unexpected {shorten(unexpected)}")
        misshaped = [
            f"'{name}' is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
            for name in sorted(own.keys() & state.keys())
            if own[name].shape != state[name].shape
        ]
        if misshaped:
            problems.append(f"of another shape: {shorten(misshaped)}")
        if problems:
            raise ArtefactError(f"these tensors do not fit the adapters: {'; '.join(problems)}")
        with self._unmerged():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    # -- switching ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Within the block the model is the base model; afterwards each layer is as it was before, also after errors.

        Raises:
            ConfigError: parameters are fully fine-tuned; their old values are not kept.
        """
        self._refuse_full("disabled")
        before = {path: layer.enabled for path, layer in self.layers.items()}
        with self._unmerged():
            try:
                for layer in self.layers.values():
                    layer.enabled = False
                yield
            finally:
                for path, layer in self.layers.items():
                    layer.enabled = before[path]

    @property
    def merged(self) -> bool:
        """Whether all updates are in the base weights."""
        return bool(self.layers) and all(layer.merged for layer in self.layers.values())

    def merge(self, *, safe: bool = False) -> dict[str, float]:
        """Add every update to its base weight, in float64, rounded once. Merging twice does nothing more.

        Until :meth:`unmerge` the old weights are kept in main memory and ``model.state_dict()`` has the merged ones.

        Args:
            safe: check that all merged weights are finite; if not, nothing is merged.

        Returns:
            layer path -> the largest absolute rounding error of its merged weight.

        Raises:
            NumericalError: ``safe``, and a weight would hold NaN or infinity.
            ConfigError: an adapted weight is tied to another module, which would be changed along with it.
        """
        self._refuse_tied()
        done = []
        deviations = {}
        for path, layer in self.layers.items():
            if not layer.merged:
                done.append(layer)
            try:
                deviations[path] = layer.merge(safe=safe)
            except NumericalError as error:
                for earlier in done:
                    earlier.unmerge()
                raise NumericalError(f"layer '{path}': {error}") from error
        return deviations

    def unmerge(self) -> None:
        """Put the old base weights back, bit for bit."""
        for layer in self.layers.values():
            layer.unmerge()

    def unload(self, *, merge: bool = False) -> nn.Module:
        """Take all wrappers out again, and restore which parameters were trainable before.

        Args:
            merge: leave the updates in the weights.

        Returns:
            the plain model: the one that was adapted, of the same structure as before.

        Raises:
            ConfigError: parameters are fully fine-tuned and ``merge`` is not set; their old values are not kept.
        """
        if merge:
            self.merge()
        else:
            self._refuse_full("unloaded without merge=True")
            self.unmerge()
        for parent in list(self.model.modules()):
            if isinstance(parent, AdaptedAttention):
                take_adapter(parent)
            for name, child in list(parent._modules.items()):
                if isinstance(child, AdapterLayer):
                    setattr(parent, name, child.base_layer)
        for name, parameter in base_parameters(self.model).items():
            parameter.requires_grad_(name in self._trained_before)
        self._casts.detach()
        delattr(self.model, _ATTRIBUTE)
        return self.model

    @contextlib.contextmanager
    def _unmerged(self) -> Iterator[None]:
        merged = [layer for layer in self.layers.values() if layer.merged]
        for layer in merged:
            layer.unmerge()
        try:
            yield
        finally:
            for layer in merged:
                layer.merge()

    def _refuse_full(self, what: str) -> None:
        if self.full_parameters:
            raise ConfigError(
                f"full fine-tuning changed {len(self.full_parameters)} base parameters themselves and keeps no copy, "
                f"so they cannot be {what}; keep a second base model instead"
            )

    def _refuse_tied(self) -> None:
        owners: dict[int, list[str]] = {}
        for path, module in base_modules(self.model).items():
            for parameter in module.parameters(recurse=False):
                owners.setdefault(id(parameter), []).append(path)
        for path, layer in self.layers.items():
            if len(paths := owners[id(layer.base_layer.weight)]) > 1:
                raise ConfigError(f"the weight of '{path}' is tied ({', '.join(paths)} share it) and cannot be merged")

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write an adapter folder (see :mod:`lorasub.adapters.folder`).

        Args:
            folder: made if missing; an adapter in it is replaced only when the new one is complete.

        Returns:
            the folder.
        """
        return save_adapters(self, folder)

    def load(self, folder: str | os.PathLike[str]) -> None:
        """Load what :meth:`save`, or PEFT, wrote into these adapters, strictly.

        Raises:
            ArtefactError: the folder is damaged; it belongs to another base model or basis; its layers, kinds, scales,
                names or shapes are not those of these adapters.
        """
        load_into(self, folder)


def attached_adapters(module: nn.Module) -> AdapterSet | None:
    """The adapters of ``module`` or of anything below it (a backbone in a task, in a DDP wrapper, ...).

    Raises:
        ConfigError: several modules below it are adapted; ask one of them.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> adapters = ls.inject_adapters(model, ls.LoRA(r=2, targets="all"))
        >>> attached_adapters(torch.nn.Sequential(model)) is adapters
        True
    """
    found = [vars(child)[_ATTRIBUTE] for child in module.modules() if _ATTRIBUTE in vars(child)]
    if len(found) > 1:
        raise ConfigError(f"{len(found)} modules below {type(module).__name__} carry adapters; ask one of them")
    return found[0] if found else None

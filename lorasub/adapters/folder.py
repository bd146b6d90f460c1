"""The folder of an adapter: PEFT's own two files, a card, and what PEFT's files cannot say.

``adapter_model.safetensors`` and ``adapter_config.json`` are a plain LoRA that PEFT loads, projected and PiSSA adapters
included (their update is one, without loss). ``lorasub.json`` names the base model and the basis by their hashes and
says what each layer really is; ``lorasub.safetensors`` holds the tensors in which such layers are trained. Fully
fine-tuned parameters are no LoRA: with them in it the adapter is in ``lorasub.safetensors`` alone, and PEFT finds
nothing, rather than half of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lorasub.adapters.peft_format import CONFIG_FILE, WEIGHTS_FILE, read_peft
from lorasub.adapters.targets import plain_names
from lorasub.artefacts import ArtefactFormat, Writer, json_writer, tensors_writer
from lorasub.errors import ArtefactError
from lorasub.files import hash_file, read_tensors
from lorasub.subspaces.layers import LowRankUpdate

INFO_FILE, NATIVE_FILE = "lorasub.json", "lorasub.safetensors"
FORMAT = ArtefactFormat(name="lorasub-adapter", noun="adapter", version=1, description=INFO_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInfo:
    """Kind of one adapter layer.

    Attributes:
        kind: ``lora``, ``projected`` or ``peft``.
        scale: factor of its update.
        basis_hash: hash of the basis artefact that it is relative to; None where it has none.
    """

    kind: str
    scale: float
    basis_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterInfo:
    """Description of an adapter folder, without its tensors.

    Attributes:
        layers: layer path -> what it is.
        full_parameters: names of parameters that were fine-tuned themselves.
        base_model_id: name of the base model, None if unknown.
        base_model_hash: hash of its weights; None for adapters that PEFT saved.
        files: name of each file beside the description and the card -> SHA-256 of its bytes.
        starts: layer path -> hash of the random ``lora_A`` that it started from, where there was one.
    """

    layers: Mapping[str, LayerInfo]
    full_parameters: tuple[str, ...] = ()
    base_model_id: str | None = None
    base_model_hash: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, str] = field(default_factory=dict)

    @property
    def start(self) -> str | None:
        """One hash of all starts; None where none is known."""
        text = "|".join(f"{path}:{start}" for path, start in sorted(self.starts.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16] if text else None

    @property
    def basis_hashes(self) -> set[str]:
        """The bases that layers are relative to."""
        return {layer.basis_hash for layer in self.layers.values() if layer.basis_hash is not None}


def write_folder(
    folder: str | os.PathLike[str],
    info: AdapterInfo,
    *,
    card: str,
    native: Mapping[str, Tensor],
    plain: tuple[Mapping[str, Tensor], Mapping[str, Any]] | None,
) -> Path:
    """Write an adapter folder; an error on the way, a full disk included, leaves an older adapter in it whole.

    Args:
        folder: made if missing.
        info: what ``lorasub.json`` says; its ``files`` are filled in here.
        card: text of the card.
        native: the tensors of ``lorasub.safetensors``; without any there is no such file.
        plain: tensors and config for PEFT, None where the adapter is not a LoRA.

    Returns:
        the folder.
    """
    folder = Path(folder)
    files: dict[str, Writer] = {NATIVE_FILE: tensors_writer(native, {"format": "pt"})} if native else {}
    if plain is not None:
        files[WEIGHTS_FILE] = tensors_writer(plain[0], {"format": "pt"})
        files[CONFIG_FILE] = json_writer(plain[1])
    FORMAT.write(folder, asdict(info), files, card)
    for name in {NATIVE_FILE, WEIGHTS_FILE, CONFIG_FILE} - set(files):
        (folder / name).unlink(missing_ok=True)  # of an adapter of another kind that was here before
    return folder


def read_info(folder: str | os.PathLike[str]) -> AdapterInfo | None:
    """Read and check ``lorasub.json`` and that the tensor files are those it describes.

    Returns:
        None where the folder has no such file, as PEFT's own have not.

    Raises:
        ArtefactError: there is no adapter, or it is damaged, or of a newer format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtefactError(f"there is no adapter at {folder}: no such folder")
    if not (folder / INFO_FILE).exists():
        if (folder / CONFIG_FILE).exists():
            return None
        raise ArtefactError(f"{folder} holds no adapter: neither {INFO_FILE} nor {CONFIG_FILE} is there")
    content = FORMAT.read(folder)
    try:
        return AdapterInfo(
            layers={
                plain: LayerInfo(**content["layers"][path]) for path, plain in plain_names(content["layers"]).items()
            },
            full_parameters=tuple(plain_names(content["full_parameters"]).values()),
            base_model_id=content["base_model_id"],
            base_model_hash=None if content["base_model_hash"] is None else str(content["base_model_hash"]),
            files=content["files"],
            starts=dict(content.get("starts", {})),  # adapters of earlier versions do not tell
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"{folder / INFO_FILE} lacks or garbles a field ({error}); save the adapter again"
        ) from error


def read_native(folder: str | os.PathLike[str], info: AdapterInfo) -> dict[str, Tensor]:
    """The tensors of ``lorasub.safetensors``, none if there is no such file."""
    tensors = read_tensors(Path(folder) / NATIVE_FILE) if NATIVE_FILE in info.files else {}
    return {plain: tensors[name] for name, plain in plain_names(tensors).items()}


def load_adapter_updates(folder: str | os.PathLike[str]) -> tuple[dict[str, LowRankUpdate], AdapterInfo]:
    """Read the updates of any LoRA folder, saved by lorasub or by PEFT, without a model: the input of mining.

    Returns:
        layer path -> its update, and what the folder says about itself.

    Raises:
        ArtefactError: there is no adapter, it is damaged, or it is not low-rank.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4))
        >>> folder = ls.inject_adapters(model, ls.LoRA(r=2, targets="all")).save("adapter")
        >>> updates, info = load_adapter_updates(folder)
        >>> updates["0"].A.shape, updates["0"].B.shape, updates["0"].scale
        (torch.Size([2, 8]), torch.Size([4, 2]), 2.0)
    """
    folder = Path(folder)
    info = read_info(folder)
    if info is not None and WEIGHTS_FILE not in info.files and not info.full_parameters:
        kinds = ", ".join(sorted({layer.kind for layer in info.layers.values()}))
        raise ArtefactError(
            f"{folder} holds layers of kind {kinds}, which are no low-rank updates; inject the adapters it was made "
            "with and call load() on the result"
        )
    if info is not None and WEIGHTS_FILE not in info.files:
        raise ArtefactError(
            f"{folder} holds {len(info.full_parameters)} fully fine-tuned parameters, which are no low-rank updates"
        )
    updates, config = read_peft(folder)
    if info is None:
        info = AdapterInfo(
            layers={path: LayerInfo(kind="lora", scale=update.scale) for path, update in updates.items()},
            base_model_id=config.get("base_model_name_or_path"),
            files={WEIGHTS_FILE: hash_file(folder / WEIGHTS_FILE)},
        )
    if set(updates) != set(info.layers):
        raise ArtefactError(f"{folder}: {INFO_FILE} and {WEIGHTS_FILE} name different layers; save the adapter again")
    return {path: replace(update, start=info.starts.get(path)) for path, update in updates.items()}, info


def trained_parameters(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Counts what was trained: layer path, or name of a parameter that was fine-tuned itself -> numbers.

    Raises:
        ArtefactError: there is no adapter, or it is damaged.
    """
    info = read_info(folder)
    native = {} if info is None else read_native(folder, info)
    layers = {} if info is None else info.layers
    counts: dict[str, int] = {}
    for name, tensor in native.items():
        path = next((path for path in _containers(name) if path in layers), name)
        if not name[len(path) + 1 :].startswith(_NOT_TRAINED):
            counts[path] = counts.get(path, 0) + tensor.numel()
    if info is None or WEIGHTS_FILE in info.files:
        for path, update in load_adapter_updates(folder)[0].items():
            counts.setdefault(path, update.A.numel() + update.B.numel())
    return counts


#: Tensors of layers that are kept with them, but frozen.
_NOT_TRAINED = ("Q_out", "Q_in", "start_A", "start_B")


def _containers(name: str) -> list[str]:
    """All beginnings of a dotted name, the longest first."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]

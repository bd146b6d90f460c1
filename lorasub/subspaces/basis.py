"""The basis of a subspace of weight updates: per layer two sets of columns, and how and from what they were found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lorasub.artefacts import ArtefactFormat, tensors_writer
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import hash_tensors, read_tensors
from lorasub.structures import shapes_of
from lorasub.subspaces.card import basis_card
from lorasub.subspaces.layers import LowRankUpdate
from lorasub.subspaces.linear_algebra import orthonormality_error

TENSORS_FILE, DESCRIPTION_FILE = "basis.safetensors", "basis.json"
FORMAT = ArtefactFormat(name="lorasub-basis", noun="basis", version=1, description=DESCRIPTION_FILE)

#: Columns written in float32 are orthonormal to about 1e-6; half precision would be 1e-3 and is refused.
_ORTHONORMAL_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSource:
    """An adapter that a basis was mined from.

    Attributes:
        name: what a person calls it, usually its folder.
        hash: SHA-256 of its tensors or file.
        base_model_hash: hash of the weights that it was fitted on.
        attribute: the attribute whose variation it learned.
        start: hash of the random numbers that it started from; None where it is not known.
    """

    name: str
    hash: str | None = None
    base_model_hash: str | None = None
    attribute: str | None = None
    start: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningRecord:
    """Record of mining one layer's subspace. All float64.

    Attributes:
        spectrum: ``(m,)`` all singular values of the weighted mean update C, descending.
        null: ``(3, m)`` 5th, 50th and 95th percentile of each singular value when the adapters share nothing (same
            singular values, random singular vectors); None where it was not computed.
        weights: ``(k,)`` the adapters' final weights, summing to 1. A small one marks an outlier.
        objective: ``(iterations,)`` the minimised sum after each iteration; never rises.
        explained: ``(k,)`` the fraction of each adapter's squared norm that lies in the subspace, in [0, 1].
        converged: False where the iteration limit ended the search.
    """

    spectrum: Tensor
    null: Tensor | None = None
    weights: Tensor
    objective: Tensor
    explained: Tensor
    converged: bool = True

    @property
    def beyond_chance(self) -> int | None:
        """Number of leading singular values above the null's 95th percentile; None without a null."""
        if self.null is None:
            return None
        above = (self.spectrum > self.null[2]).long()
        return int(above.cumprod(0).sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "spectrum": self.spectrum.tolist(),
            "null": None if self.null is None else self.null.tolist(),
            "weights": self.weights.tolist(),
            "objective": self.objective.tolist(),
            "explained": self.explained.tolist(),
            "converged": self.converged,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        tensors = {
            name: torch.tensor(content[name], dtype=torch.float64)
            for name in ("spectrum", "weights", "objective", "explained")
        }
        null = None if content["null"] is None else torch.tensor(content["null"], dtype=torch.float64)
        return cls(**tensors, null=null, converged=bool(content["converged"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSubspace:
    """The subspace of one layer's weight updates.

    Attributes:
        U: ``(out, d_out)`` orthonormal columns on the output side.
        V: ``(in, d_in)`` orthonormal columns on the input side. For a convolution, in = channels * kernel height *
            kernel width, in the order of the flattened weight.
        S: ``(d,)`` singular values of the mined update, descending; None where the columns are not singular vectors.
        U_attributes: the attribute that each column of U came from; empty where all have one origin.
        V_attributes: the same for V.
        record: how it was mined; None for a basis that was not.
    """

    U: Tensor
    V: Tensor
    S: Tensor | None = None
    U_attributes: tuple[str, ...] = ()
    V_attributes: tuple[str, ...] = ()
    record: MiningRecord | None = None

    def __repr__(self) -> str:
        return shapes_of(self)

    def __post_init__(self) -> None:
        if self.U.ndim != 2 or self.V.ndim != 2:
            raise ConfigError(
                f"a subspace needs U (out, d_out) and V (in, d_in), not U {tuple(self.U.shape)} and "
                f"V {tuple(self.V.shape)}"
            )
        for side, columns in (("U", self.U), ("V", self.V)):
            if columns.shape[1] > columns.shape[0]:
                raise ConfigError(f"{side} has {columns.shape[1]} columns in only {columns.shape[0]} dimensions")
        if self.S is not None and not self.S.shape == (self.d_out,) == (self.d_in,):
            raise ConfigError(f"S has shape {tuple(self.S.shape)} for U {tuple(self.U.shape)}, V {tuple(self.V.shape)}")
        for name, count in (("U_attributes", self.d_out), ("V_attributes", self.d_in)):
            if getattr(self, name) and len(getattr(self, name)) != count:
                raise ConfigError(f"{name} names {len(getattr(self, name))} columns of {count}")

    @property
    def d_out(self) -> int:
        """Dimensions on the output side. 0 where nothing was found."""
        return self.U.shape[1]

    @property
    def d_in(self) -> int:
        """Dimensions on the input side. 0 where nothing was found."""
        return self.V.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the layer's weight."""
        return self.U.shape[0], self.V.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubspaceBasis:
    """Subspaces of the layers of one model.

    Attributes:
        layers: layer path (as in ``named_modules`` of the backbone) -> its subspace.
        base_model_hash: hash of the weights that the adapters were fitted on (:func:`lorasub.files.hash_tensors`).
        base_model_id: name of that model for people, such as a hub id.
        method: ``mined``, ``combined``, ``common``, ``specific``, ``random``, ``principal`` or ``imported``.
        attributes: the attributes that it stands for, in order.
        sources: the adapters that it was mined from.
        options: the settings that made it, plain JSON values.
        scaled: the columns carry the square roots of the singular values, as in the paper, and are not orthonormal.
    """

    layers: Mapping[str, LayerSubspace]
    base_model_hash: str | None = None
    base_model_id: str | None = None
    method: str = "mined"
    attributes: tuple[str, ...] = ()
    sources: tuple[AdapterSource, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    scaled: bool = False

    def __repr__(self) -> str:
        return shapes_of(self)

    @property
    def dims(self) -> dict[str, tuple[int, int]]:
        """Layer path -> (d_out, d_in)."""
        return {path: (layer.d_out, layer.d_in) for path, layer in self.layers.items()}

    def mean_dims(self) -> dict[str, Any]:
        """Returns the number of ``layers`` and the means over them of either side's dimensions."""
        out, into = zip(*self.dims.values(), strict=True)
        return {"layers": len(self.layers), "mean_d_out": sum(out) / len(out), "mean_d_in": sum(into) / len(into)}

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Layer path -> (out, in) of its weight."""
        return {path: layer.shape for path, layer in self.layers.items()}

    @property
    def name(self) -> str:
        """A short name for tables: the attributes joined by ``+``, else the method."""
        return "+".join(self.attributes) or self.method

    def hash(self) -> str:
        """SHA-256 over all U and V: the identity that a projected adapter remembers."""
        return hash_tensors(
            {f"{path}.{side}": getattr(layer, side) for path, layer in self.layers.items() for side in "UV"}
        )

    def updates(self) -> dict[str, LowRankUpdate]:
        """Layer path -> the update U S V^T that was mined.

        Raises:
            ConfigError: a layer has no singular values, as in bases that stand for no update.
        """
        found = {}
        for path, layer in self.layers.items():
            if layer.S is None:
                raise ConfigError(
                    f"layer '{path}' of the basis '{self.name}' has no singular values, so it stands for no update; "
                    "take a basis that was mined from adapters"
                )
            found[path] = LowRankUpdate(B=layer.U * layer.S.to(layer.U), A=layer.V.T)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything but the columns themselves, as plain JSON values: the content of ``basis.json``."""
        return {
            **FORMAT.header(),
            "hash": self.hash(),
            "method": self.method,
            "attributes": list(self.attributes),
            "scaled": self.scaled,
            "base_model_id": self.base_model_id,
            "base_model_hash": self.base_model_hash,
            "sources": [
                {name: value for name, value in asdict(source).items() if name != "start" or value is not None}
                for source in self.sources
            ],
            "options": dict(self.options),
            "layers": {path: _layer_to_dict(layer) for path, layer in self.layers.items()},
        }

    def tensors(self) -> dict[str, Tensor]:
        """The columns and singular values, by ``path.U``, ``path.V`` and ``path.S``: the content of the tensor file."""
        found: dict[str, Tensor] = {}
        for path, layer in self.layers.items():
            found |= {f"{path}.U": layer.U, f"{path}.V": layer.V}
            if layer.S is not None:
                found[f"{path}.S"] = layer.S
        return found

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``basis.safetensors``, ``basis.json`` and a card.

        All files are complete under temporary names before the first takes its place, so that a full disk or an error
        leaves an older basis in the folder as it was.

        Args:
            folder: made if missing.

        Returns:
            The folder.
        """
        description = self.to_dict()
        files = {TENSORS_FILE: tensors_writer(self.tensors())}
        return FORMAT.write(Path(folder), description, files, card=basis_card(description))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote, strictly.

        Raises:
            ArtefactError: a file is missing, truncated or edited; a layer is missing, unexpected, of a wrong shape or
                not orthonormal; the format is newer than this version of lorasub.
        """
        folder = Path(folder)
        description = FORMAT.read(folder)
        return cls.from_parts(description, read_tensors(folder / TENSORS_FILE), where=str(folder / TENSORS_FILE))

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], tensors: dict[str, Tensor], *, where: str) -> Self:
        """Join what :meth:`to_dict` and :meth:`tensors` gave, strictly.

        Args:
            description: plain values.
            tensors: the columns; they are taken out.
            where: the file that the tensors are from, for messages.

        Raises:
            ArtefactError: as :meth:`load`.
        """
        try:
            basis = cls(
                layers={
                    path: _layer_from_dict(path, content, tensors, where)
                    for path, content in description["layers"].items()
                },
                base_model_hash=description["base_model_hash"],
                base_model_id=description["base_model_id"],
                method=description["method"],
                attributes=tuple(description["attributes"]),
                sources=tuple(AdapterSource(**source) for source in description["sources"]),
                options=description["options"],
                scaled=description["scaled"],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ArtefactError):
                raise
            raise ArtefactError(
                f"the description of {where} lacks or garbles a field ({type(error).__name__}: {error}); make it again"
            ) from error
        if tensors:
            raise ArtefactError(f"{where} holds tensors that {DESCRIPTION_FILE} does not name: {sorted(tensors)[:4]}")
        if not basis.scaled:
            for path, layer in basis.layers.items():
                _check_orthonormal(path, layer, where)
        if basis.hash() != description["hash"]:
            raise ArtefactError(
                f"{where} is not the file that {DESCRIPTION_FILE} describes (hash "
                f"{basis.hash()[:12]}, expected {str(description['hash'])[:12]}): one of them was edited, or a save "
                "was interrupted; make the basis again"
            )
        return basis


def is_basis_folder(path: str | os.PathLike[str]) -> bool:
    """Returns whether a folder holds a basis."""
    return (Path(path) / DESCRIPTION_FILE).is_file()


def _layer_to_dict(layer: LayerSubspace) -> dict[str, Any]:
    return {
        "U": list(layer.U.shape),
        "V": list(layer.V.shape),
        "S": layer.S is not None,
        "U_attributes": list(layer.U_attributes),
        "V_attributes": list(layer.V_attributes),
        "record": None if layer.record is None else layer.record.to_dict(),
    }


def _layer_from_dict(path: str, content: Mapping[str, Any], tensors: dict[str, Tensor], file: str) -> LayerSubspace:
    """Takes the layer's tensors out of ``tensors``, so that what is left over is unexpected."""
    found: dict[str, Tensor] = {}
    for name in ("U", "V", "S") if content["S"] else ("U", "V"):
        if f"{path}.{name}" not in tensors:
            raise ArtefactError(f"{file} lacks {name} of layer '{path}', which {DESCRIPTION_FILE} names")
        found[name] = tensors.pop(f"{path}.{name}")
        if name != "S" and list(found[name].shape) != content[name]:
            raise ArtefactError(
                f"{file}: {name} of layer '{path}' has shape {list(found[name].shape)}, "
                f"{DESCRIPTION_FILE} says {content[name]}"
            )
    try:
        return LayerSubspace(
            **found,
            U_attributes=tuple(content["U_attributes"]),
            V_attributes=tuple(content["V_attributes"]),
            record=None if content["record"] is None else MiningRecord.from_dict(content["record"]),
        )
    except ConfigError as error:
        raise ArtefactError(f"{file}: layer '{path}': {error}") from error


def _check_orthonormal(path: str, layer: LayerSubspace, file: str) -> None:
    for side, columns in (("U", layer.U), ("V", layer.V)):
        if (error := orthonormality_error(columns)) > _ORTHONORMAL_TOLERANCE:
            raise ArtefactError(
                f"{file}: the columns of {side} of layer '{path}' are not orthonormal (off by {error:.1e})"
            )

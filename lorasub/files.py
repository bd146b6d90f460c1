"""Writing files so that nothing is ever half-written, and reading them so that damage is told in words.

Tensors live in safetensors files, descriptions in JSON; nothing here unpickles.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import json
import math
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lorasub.errors import ArtefactError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes when it does not.

    The parent folder is made if it is missing. On any error, a full disk included, the old file is still there whole.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; what we publish follows the user's umask like any other file
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, atomically, see :func:`plain`."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write flat rows as CSV with a line of names, atomically.

    Args:
        path: of the file.
        rows: name -> value. The columns are all names that occur, in the order in which they first do; what a row lacks
            stays empty.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file, with or without a byte order mark.

    Raises:
        ArtefactError: the file is missing or is not JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is not valid JSON (byte {error.start} is not UTF-8)") from error
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ArtefactError(f"{path} is not valid JSON (nested too deeply)") from error
    except json.JSONDecodeError as error:
        raise ArtefactError(f"{path} is not valid JSON ({json_fault(error)})") from error


def json_fault(error: json.JSONDecodeError) -> str:
    """Say what is wrong with a JSON text; that it ends too early only if it does."""
    if not error.doc.strip():
        return "the file is empty"
    cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
    return f"{error}; it ends too early: is the file truncated?" if cut else str(error)


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a safetensors file, atomically. They are detached, made contiguous and moved to the CPU."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata=dict(metadata or {}))


def read_tensors(path: str | os.PathLike[str], *, finite: bool = True) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file.

    Args:
        path: the file.
        finite: refuse files with NaN or infinity in them.

    Raises:
        ArtefactError: the file is missing, truncated, not safetensors, or holds non-finite values.
    """
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                tensors[name] = file.get_tensor(name)
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ArtefactError(f"{path} {_no_safetensors(Path(path), error)}") from error
    if finite:
        for name, tensor in tensors.items():
            # torch asks no 8-bit float whether it is finite
            number = tensor.float() if tensor.itemsize == 1 else tensor
            if tensor.is_floating_point() and not torch.isfinite(number).all():
                raise ArtefactError(f"{path}: tensor '{name}' holds NaN or infinity")
    return tensors


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the string metadata of a safetensors file, without its tensors.

    Raises:
        ArtefactError: as :func:`read_tensors`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ArtefactError(f"{path} {_no_safetensors(Path(path), error)}") from error


def _no_safetensors(path: Path, error: SafetensorError) -> str:
    """Why a file could not be read, and how to go on."""
    if fault := content_fault(path) or foreign_kind(path):
        return f"is no safetensors file: {fault}"
    if unknown := re.search(r"unknown variant `(\w+)`", str(error)):
        return (
            f"holds numbers of a kind that the installed safetensors does not know ({unknown[1]}); install a newer one"
        )
    return f"is not a whole safetensors file ({error}); copy or make it again"


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and contents, independent of order, device and file format.

    This is the identity of a model's weights: adapters and bases carry the hash of the base that they belong to.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(value: Any) -> Any:
    """Returns a result as JSON has it, however its parts are nested.

    Dataclasses and mappings become objects, lists and tuples become lists, and NaN and infinity become None.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def content_fault(path: Path) -> str | None:
    """Say that a file is empty, or only stands for the real one (Git LFS, a web page); None if neither."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return None
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "the file is a Git LFS pointer; fetch what it stands for with 'git lfs pull'"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "the file is a web page; download it again"
    return None


#: First bytes of files of other tools, and what these are.
_KINDS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras, MATLAB)",
    b"GGUF": "a GGUF file (llama.cpp)",
    b"\x93NUMPY": "a numpy array",
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"\xfd7zXZ": "compressed with xz: unpack it",
    b"BZh": "compressed with bzip2: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it",
    b"7z\xbc\xaf": "an archive (7z): unpack it",
}


def foreign_kind(path: str | os.PathLike[str]) -> str | None:
    """Return what a file is that another tool wrote; None if it may hold tensors of torch."""
    with Path(path).open("rb") as file:
        head = file.read(512)
    kind = next((words for magic, words in _KINDS.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        kind = "an archive (tar): unpack it"
    elif Path(path).suffix.lower() == ".onnx":
        kind = "an ONNX program, not weights"
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            kind = "an archive of numpy arrays"
        elif not any(name.endswith("data.pkl") for name in names):
            kind = "an archive (zip) of other files: unpack it"
    return None if kind is None else f"the file is {kind}"

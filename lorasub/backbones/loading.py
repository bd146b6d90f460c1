"""Published weights into a model: where they lie, what is in them, and whether they fit. Nothing is unpickled."""

from __future__ import annotations

import fnmatch
import logging
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import content_fault, foreign_kind, read_tensors

logger = logging.getLogger(__name__)

#: File names looked for in a folder or a hub repository, the best first.
WEIGHT_FILES = ("model.safetensors", "model.pt", "pytorch_model.bin")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
#: How many names a message lists.
_LISTED = 5


def find_weights(source: str | os.PathLike[str]) -> Path:
    """The weights file that ``source`` stands for.

    Args:
        source: a ``.safetensors`` or ``.pt`` file, a folder with one of :data:`WEIGHT_FILES`, or a hub id
            (``owner/name``), which is downloaded into the hub's own cache.

    Raises:
        ConfigError: there is no such file or folder, or the hub is needed and cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        found = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
        if not found:
            raise ConfigError(f"folder {path} holds no weights; expected one of {', '.join(WEIGHT_FILES)}")
        return found[0]
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and path.suffix not in (".safetensors", ".pt"):
        return _download(source)
    raise ConfigError(f"no weights at {source}: there is no such file or folder, and it is no hub id (owner/name)")


def _download(hub_id: str) -> Path:
    """The best weights file of a hub repository, from the local cache if it is there."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ConfigError(
            f"'{hub_id}' is no local file or folder; to get it from the hub: pip install 'lorasub[hub]'"
        ) from error
    unreachable: LocalEntryNotFoundError | None = None
    for name in WEIGHT_FILES:
        try:
            return Path(hf_hub_download(hub_id, name))
        except LocalEntryNotFoundError as error:  # not in the cache, and no network to look further
            unreachable = error
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise ConfigError(
                f"'{hub_id}' is no local file or folder and the hub refuses it: {_first_line(error)}"
            ) from error
    if unreachable is not None:
        raise ConfigError(
            f"'{hub_id}' is no local file or folder, is not in the hub's cache, and the hub cannot be reached; "
            f"download its {WEIGHT_FILES[0]} where there is a network and pass the file's path"
        ) from unreachable
    raise ConfigError(f"hub repository '{hub_id}' holds none of {', '.join(WEIGHT_FILES)}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a weights file, by name. They stay on disk until they are used (memory-mapped) if they can.

    A ``.pt`` file may hold the tensors themselves or have them under ``model`` or ``state_dict``, as training
    checkpoints do.

    Raises:
        ArtefactError: the file is damaged or holds something else.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path, finite=False)
    if fault := content_fault(path) or foreign_kind(path):
        raise ArtefactError(f"{path} is no file of PyTorch: {fault}")
    archive = zipfile.is_zipfile(path)  # files of torch before 1.6 are none, and cannot be mapped
    if archive and any("/code/" in name for name in zipfile.ZipFile(path).namelist()):
        raise ArtefactError(
            f"{path} is a TorchScript program, not weights; take its state_dict() where it was made, and save that"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        raise ArtefactError(f"{path} {_refused(error)}") from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise ArtefactError(
            f"{path} is no whole PyTorch file of plain tensors ({_first_line(error)}); copy it again, or convert it "
            "to safetensors"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ArtefactError(f"{path} holds no mapping of names to tensors; expected a model's state dict")
    return content


def assign_weights(
    model: nn.Module, tensors: Mapping[str, Tensor], *, source: str | os.PathLike[str], ignore: Sequence[str] = ()
) -> None:
    """Make ``tensors`` the model's own, without a copy where they are float32 already.

    The model may stand on the meta device, so that a big one is never held twice.

    Args:
        model: takes the tensors; floating point becomes float32.
        tensors: by the model's own names.
        source: where they come from, for messages.
        ignore: ``fnmatch`` patterns of names in ``tensors`` that the model is right not to have.

    Raises:
        ArtefactError: a tensor is missing, left over, of the wrong shape, or not finite. The model is then unchanged.
    """
    expected = model.state_dict()
    left_over = [name for name in tensors if name not in expected]
    ignored = {name for name in left_over if any(fnmatch.fnmatchcase(name, pattern) for pattern in ignore)}
    if ignored:
        logger.debug("%s: %d tensors of parts that this model does not have are ignored", source, len(ignored))
    problems = _listing("missing", [name for name in expected if name not in tensors])
    problems += _listing("left over", [name for name in left_over if name not in ignored])
    shapes = {n: (tuple(tensors[n].shape), tuple(t.shape)) for n, t in expected.items() if n in tensors}
    wrong = [f"{name} {found} instead of {wanted}" for name, (found, wanted) in shapes.items() if found != wanted]
    problems += _listing("of the wrong shape", wrong)
    if problems:
        raise ArtefactError(f"{source} does not fit this model: {'; '.join(problems)}")
    for name in expected:
        # NaN and infinity both show in the extremes; one pass, 20 times as fast as isfinite over all
        if not all(torch.isfinite(extreme) for extreme in tensors[name].aminmax()):
            raise ArtefactError(f"{source}: tensor '{name}' holds NaN or infinity")
    model.load_state_dict({name: tensors[name].float() for name in expected}, strict=True, assign=True)


def _refused(error: pickle.UnpicklingError) -> str:
    """Why a file was not unpickled, and how to go on."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None:
        return "is damaged, or no file of PyTorch; copy it again"
    return (
        f"holds more than tensors and plain values ({found[1]}), which is not unpickled, since that can run code. "
        "Where you trust it: load it with torch.load(path, weights_only=False), and save its tensors as safetensors"
    )


def _first_line(error: Exception) -> str:
    """Returns the first line of a message that other libraries spread over many."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _listing(what: str, names: Iterable[str]) -> list[str]:
    """One phrase that counts and lists ``names``; none if there are none."""
    names = list(names)
    if not names:
        return []
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return [f"{len(names)} {what}: {', '.join(names[:_LISTED])}{rest}"]

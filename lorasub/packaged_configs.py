"""The configs that come with the package: found by name, wherever it is installed."""

from __future__ import annotations

from pathlib import Path

from lorasub.console import meant
from lorasub.errors import ConfigError

_PACKAGE = Path(__file__).parent


def config_folder() -> Path:
    """Returns the folder of the configs: within an installed package, or at the top of a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Returns the names of all configs, such as ``geometry`` and ``study/smoke``."""
    folder = config_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def find_config(given: str) -> Path:
    """Returns the file that a value of ``--config`` means: a file of the user's, else one that comes with the package.

    Args:
        given: a path, or a name such as ``geometry``. ``configs/geometry.yaml`` is found outside of a checkout, too.

    Raises:
        ConfigError: there is neither.
    """
    path = Path(given)
    if path.is_file():
        return path
    name, names = given.removeprefix("configs/").removesuffix(".yaml"), config_names()
    if name in names:
        return config_folder() / f"{name}.yaml"
    hint = meant(name, names).removesuffix("?")
    raise ConfigError(f"there is no config {given}{hint}; `lorasub configs` lists those that come with the package")

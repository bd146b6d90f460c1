"""Reference bases that come with the package: what each attribute's subspace looks like on the shipped backbone."""

from __future__ import annotations

from pathlib import Path

from lorasub.subspaces.basis import DESCRIPTION_FILE, SubspaceBasis

#: One folder for each attribute.
SHIPPED_BASES = Path(__file__).parent / "shipped"
#: One folder for each basis that was made as these, of scenes that differ in nothing but their seed.
SHIPPED_PLACEBOS = Path(__file__).parent / "shipped_placebos"


def shipped_bases(base_model_hash: str | None) -> dict[str, SubspaceBasis]:
    """The packaged bases that were mined on certain weights.

    Args:
        base_model_hash: of the weights of the model whose subspaces are wanted.

    Returns:
        Attribute -> its basis; empty for weights that the package has no bases for, such as a user's own.

    Example:
        >>> shipped_bases(None)  # weights whose hash nobody knows
        {}
    """
    return _of_model(SHIPPED_BASES, base_model_hash)


def shipped_placebos(base_model_hash: str | None) -> dict[str, SubspaceBasis]:
    """The packaged bases of scenes that differ in nothing but their seed, made as :func:`shipped_bases` were.

    Args:
        base_model_hash: of the weights of the model whose subspaces are wanted.

    Returns:
        Number -> basis; empty for weights that the package has none for.
    """
    return _of_model(SHIPPED_PLACEBOS, base_model_hash)


def _of_model(parent: Path, base_model_hash: str | None) -> dict[str, SubspaceBasis]:
    folders = sorted(path.parent for path in parent.glob(f"*/{DESCRIPTION_FILE}"))
    bases = {folder.name: SubspaceBasis.load(folder) for folder in folders} if base_model_hash else {}
    return {name: basis for name, basis in bases.items() if basis.base_model_hash == base_model_hash}

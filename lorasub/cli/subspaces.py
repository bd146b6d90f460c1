"""``mine``, ``overlap``, ``split`` and ``combine``: from fitted adapters to one basis."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lorasub.adapters.mining import adapter_folder, mine_subspace, read_adapter
from lorasub.artefacts import common_base
from lorasub.cli.arguments import add_out, check_out, named_paths, options_of, progress, show, verb_parser
from lorasub.cli.model_bases import SOURCES, curvature_of, from_model, mine_model
from lorasub.console import text_table
from lorasub.errors import ConfigError
from lorasub.figures import angle_histogram, depth_profile, overlap_heatmap, save_figure, spectra_figure, spectra_rows
from lorasub.files import write_json
from lorasub.subspaces import (
    AdapterSource,
    AdapterUpdates,
    OverlapMatrix,
    SubspaceBasis,
    adapter_subspace,
    attribute_overlaps,
    attribute_survival,
    combine_subspaces,
    mine_updates,
    overlap_matrix,
    split_common_specific,
    survival_rows,
)
from lorasub.subspaces.mining import refuse_equal_starts

Grouping = Literal["all", "stage", "part", "kind", "depth", "layer"]

_MINE = "lorasub mine runs/geometry/0 runs/geometry/1 runs/geometry/2 --dim 16 --out runs/geometry/basis"
_OVERLAP = (
    "lorasub overlap geometry=runs/geometry/0,runs/geometry/1 texture=runs/texture/0,runs/texture/1 --out overlap"
)
_SPLIT = "lorasub split geometry=runs/geometry/0,runs/geometry/1 texture=runs/texture/0,runs/texture/1 --out parts"
_COMBINE = "lorasub combine geometry=runs/geometry/basis texture=runs/texture/basis --out runs/combined"


def run(verb: str, arguments: Sequence[str]) -> None:
    """Run one of the four verbs."""
    {"mine": mine, "overlap": overlap, "split": split, "combine": combine}[verb](arguments)


def mine(arguments: Sequence[str]) -> None:
    """Mine the subspace that several adapters share, or make a basis from a model itself."""
    if from_model(arguments):
        basis, out, as_json = mine_model(arguments)
        show_basis(basis, basis.save(out), as_json=as_json)
        return
    parser = verb_parser("mine", "Find the subspace that several adapters share, layer by layer.", _MINE)
    parser.add_argument("adapters", nargs="+", type=str, help="folders of adapters, or of the runs that fitted them")
    parser.add_argument(
        "--from",
        type=Literal["adapters"],
        default="adapters",
        help=f"what to mine from; or {', '.join(SOURCES)} of a model (lorasub mine --from gradients --help)",
    )
    parser.add_argument(
        "--whiten",
        type=str,
        default=None,
        help="config of a fit: updates are whitened by what passes the layers of its model on some of its scenes",
    )
    add_out(parser, "folder for the basis and its spectra")
    added = parser.add_function_arguments(
        mine_updates, skip={"adapters", "sources", "base_model_id", "dtype", "progress"}
    )
    parsed = parser.parse_args(list(arguments))
    check_out(parsed)
    curvature = curvature_of(parsed.whiten, list(read_adapter(parsed.adapters[0])[0])) if parsed.whiten else None
    basis = mine_subspace(parsed.adapters, curvature=curvature, progress=progress, **options_of(parsed, added))
    folder = basis.save(parsed.out)
    save_figure(spectra_figure(basis), folder / "spectra.png", spectra_rows(basis))
    show_basis(basis, folder, as_json=parsed.json)


def overlap(arguments: Sequence[str]) -> None:
    """Measure how far subspaces overlap, against chance."""
    parser = verb_parser("overlap", "Measure how far subspaces overlap, against what chance would give.", _OVERLAP)
    parser.add_argument(
        "subspaces",
        nargs="+",
        type=str,
        help="NAME=PATH of a basis or an adapter each; or NAME=PATH,PATH,... of adapters each, which also gives the "
        "overlap within every attribute",
    )
    add_out(parser, "folder for JSON, CSV and figures", required=False)
    parser.add_argument("--by", type=Grouping, default="all")
    parser.add_argument("--dim", type=int, default=16, help="dimensions of subspaces that are taken from adapters")
    parser.add_argument("--draws", type=int, default=500, help="random pairs behind each null")
    parser.add_argument("--seed", type=int, default=0, help="of the nulls and of the splits into halves")
    parsed = parser.parse_args(list(arguments))
    check_out(parsed)
    named = named_paths(parsed.subspaces)
    common: dict[str, Any] = {"draws": parsed.draws, "seed": parsed.seed, "progress": progress}
    if all(len(paths) > 1 for paths in named.values()):
        groups, _ = _read_groups(named)
        matrix = attribute_overlaps(groups, dim=parsed.dim, **common)
    else:
        read = {name: _read_one(name, paths, parsed.dim) for name, paths in named.items()}
        refuse_equal_starts((source.name, source.start) for _, source in read.values() if source is not None)
        matrix = overlap_matrix({name: basis for name, (basis, _) in read.items()}, **common)
    if parsed.out:
        _write_overlaps(matrix, Path(parsed.out))
    show(matrix.to_dict(), text_table(matrix.rows(parsed.by)), as_json=parsed.json)


def split(arguments: Sequence[str]) -> None:
    """Split attributes' subspaces into what all share and what is each one's own."""
    parser = verb_parser("split", "Split attributes into a common subspace and one of each attribute's own.", _SPLIT)
    parser.add_argument("groups", nargs="+", type=str, help="NAME=PATH,PATH,... of at least two adapters each")
    add_out(parser, "folder for raw/NAME, common and specific/NAME")
    added = parser.add_function_arguments(split_common_specific, skip={"adapters", "sources", "progress"})
    parsed = parser.parse_args(list(arguments))
    check_out(parsed)
    groups, sources = _read_groups(named_paths(parsed.groups))
    parts = split_common_specific(groups, sources=sources, progress=progress, **options_of(parsed, added))
    folder = Path(parsed.out)
    parts.common.basis.save(folder / "common")
    rows = [_dimensions("common", parts.common.basis)]
    for kind, bases in (("raw", parts.raw), ("specific", parts.specific)):
        for name, basis in bases.items():
            basis.save(folder / kind / name)
            rows.append(_dimensions(f"{kind}/{name}", basis))
    show({"folder": str(folder), "bases": rows}, text_table(rows), as_json=parsed.json)


def combine(arguments: Sequence[str]) -> None:
    """Join several bases into one."""
    parser = verb_parser("combine", "Join the subspaces of several attributes into one basis.", _COMBINE)
    parser.add_argument("bases", nargs="+", type=str, help="NAME=PATH of a basis each, in order of precedence")
    add_out(parser, "folder for the combined basis")
    added = parser.add_function_arguments(combine_subspaces, skip={"bases", "progress"})
    parsed = parser.parse_args(list(arguments))
    check_out(parsed)
    bases = {name: _read_basis(name, paths) for name, paths in named_paths(parsed.bases).items()}
    combined = combine_subspaces(bases, progress=progress, **options_of(parsed, added))
    folder = combined.save(parsed.out)
    rows = survival_rows(attribute_survival(combined, bases))
    write_json(folder / "survival.json", rows)
    show_basis(combined, folder, as_json=parsed.json)


def _read_groups(
    named: dict[str, list[str]],
) -> tuple[dict[str, list[AdapterUpdates]], dict[str, list[AdapterSource]]]:
    groups: dict[str, list[AdapterUpdates]] = {}
    sources: dict[str, list[AdapterSource]] = {}
    for name, paths in named.items():
        read = [read_adapter(path, attribute=name) for path in paths]
        groups[name] = [updates for updates, _ in read]
        sources[name] = [source for _, source in read]
    every = [source for group in sources.values() for source in group]
    common_base((source.name, source.base_model_hash) for source in every)
    refuse_equal_starts((source.name, source.start) for source in every)  # also of those that are not mined together
    return groups, sources


def _read_one(name: str, paths: list[str], dim: int) -> tuple[SubspaceBasis, AdapterSource | None]:
    """A basis, or the subspace of an adapter and what the adapter is."""
    if len(paths) > 1:
        raise ConfigError(
            f"'{name}' has {len(paths)} adapters while others have one; give every name several adapters, or mine first"
        )
    if (Path(paths[0]) / "basis.json").is_file():
        return SubspaceBasis.load(paths[0]), None
    updates, source = read_adapter(adapter_folder(paths[0]))
    return adapter_subspace(updates, dim=dim, name=name), source


def _read_basis(name: str, paths: list[str]) -> SubspaceBasis:
    if len(paths) > 1:
        raise ConfigError(f"'{name}' has {len(paths)} paths; combine takes one basis each: mine first")
    return SubspaceBasis.load(paths[0])


def _write_overlaps(matrix: OverlapMatrix, folder: Path) -> None:
    write_json(folder / "overlap.json", matrix.to_dict())
    for measure in ("phi", "distance"):
        save_figure(overlap_heatmap(matrix, measure=measure), folder / f"{measure}.png", matrix.rows("all"))
    try:
        save_figure(depth_profile(matrix), folder / "depth_profile.png", matrix.rows("depth"))
    except ConfigError as error:  # a model without blocks has overlaps all the same
        logging.getLogger("lorasub").info("no profile over depth: %s", error)
    for (first, second), report in matrix.reports.items():
        save_figure(angle_histogram(report), folder / f"angles_{first}_{second}.png")


def _dimensions(name: str, basis: SubspaceBasis) -> dict[str, Any]:
    return {"basis": name, **basis.mean_dims(), "parameters_of_M": sum(a * b for a, b in basis.dims.values())}


def show_basis(basis: SubspaceBasis, folder: Path, *, as_json: bool) -> None:
    """Print where a basis is and what it has."""
    result = {"folder": str(folder), "hash": basis.hash(), **_dimensions(basis.name, basis)}
    show(result, text_table([result], [key for key in result if key != "hash"]), as_json=as_json)

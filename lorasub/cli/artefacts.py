"""``inspect``, ``merge`` and ``export``: facts about an artefact or a backbone, and other forms of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lorasub.adapters import load_adapter_updates, load_adapters
from lorasub.adapters.folder import INFO_FILE, NATIVE_FILE, trained_parameters
from lorasub.adapters.mining import adapter_folder
from lorasub.adapters.peft_format import CONFIG_FILE, WEIGHTS_FILE
from lorasub.artefacts import write_files
from lorasub.backbones import Backbone
from lorasub.backbones.opening import open_backbone
from lorasub.cli.arguments import add_out, check_out, show, verb_parser
from lorasub.console import text_table
from lorasub.contracts import SavableModel
from lorasub.errors import ArtefactError, ConfigError
from lorasub.files import read_json, read_metadata
from lorasub.subspaces import SubspaceBasis, write_paper_format
from lorasub.training.backbone_check import BackboneReport, check_backbone
from lorasub.training.checkpoints import read_checkpoint

ExportFormat = Literal["peft", "space"]


def run(verb: str, arguments: Sequence[str]) -> None:
    """Run one of the three verbs."""
    if verb == "inspect" and list(arguments[:1]) == ["backbone"]:
        inspect_backbone(arguments[1:])
    else:
        {"inspect": inspect, "merge": merge, "export": export}[verb](arguments)


def inspect(arguments: Sequence[str]) -> None:
    """Say what an artefact is."""
    parser = verb_parser(
        "inspect", "Say what is in an adapter, a basis, a checkpoint.", "lorasub inspect runs/geometry/0"
    )
    parser.add_argument("path", type=str, help="folder of an adapter, run or basis; a checkpoint or weights file")
    parsed = parser.parse_args(list(arguments))
    found = describe(Path(parsed.path))
    shown = [{"": key, " ": value} for key, value in found.items()]
    show(found, text_table(shown), as_json=parsed.json)


def describe(path: Path) -> dict[str, Any]:
    """Flat facts about an artefact.

    Raises:
        ArtefactError: it is missing, damaged or unknown.
    """
    if (path / "basis.json").is_file():
        basis = SubspaceBasis.load(path)
        dims = list(basis.dims.values())
        return {
            "kind": f"basis ({basis.method})",
            "attributes": ", ".join(basis.attributes) or None,
            "layers": len(dims),
            "dimensions": f"{min(dims)} to {max(dims)} (out, in)",
            "sources": ", ".join(source.name for source in basis.sources) or None,
            "base_model": basis.base_model_id,
            "base_model_hash": basis.base_model_hash,
            "hash": basis.hash(),
        }
    if path.suffix == ".ckpt":
        checkpoint = read_checkpoint(path)
        recipe = checkpoint.recipe or {}
        return {
            "kind": "checkpoint",
            "step": checkpoint.step,
            "can_be_resumed": checkpoint.resumable,
            "task": recipe.get("class_path"),
            "settings": recipe.get("init_args"),
        }
    if path.suffix == ".safetensors":
        return {"kind": "weights", **read_metadata(path)}
    if (path / "model.safetensors").is_file():
        return {"kind": "backbone", **read_json(path / "config.json")}
    folder = adapter_folder(path)
    updates, info = load_adapter_updates(folder)
    ranks = sorted({update.r for update in updates.values()})
    return {
        "kind": "adapter (" + ", ".join(sorted({layer.kind for layer in info.layers.values()})) + ")",
        "layers": len(updates),
        "ranks": ", ".join(map(str, ranks)),
        "parameters": sum(trained_parameters(folder).values()),
        "fully_fine_tuned": len(info.full_parameters) or None,
        "basis_hashes": ", ".join(sorted(info.basis_hashes)) or None,
        "base_model": info.base_model_id,
        "base_model_hash": info.base_model_hash,
    }


def merge(arguments: Sequence[str]) -> None:
    """Merge an adapter into its base model's weights."""
    example = "lorasub merge runs/geometry/0 --base nano --out merged"
    parser = verb_parser("merge", "Write the base model with an adapter merged into its weights.", example)
    parser.add_argument("adapter", type=str, help="folder of the adapter or of its run")
    parser.add_argument("--base", type=str, default="nano", help="preset, weights file or folder of the base model")
    skip_help = "layers of the adapter to leave away, such as track_head.*; several with commas"
    parser.add_argument("--skip", type=str, default="", help=skip_help)
    add_out(parser, "folder for the merged model")
    parsed = parser.parse_args(list(arguments))
    check_out(parsed)
    backbone = open_backbone(parsed.base)
    skip = [pattern for pattern in parsed.skip.split(",") if pattern]
    adapters = load_adapters(backbone, adapter_folder(parsed.adapter), skip=skip)
    deviations = adapters.merge(safe=True)
    adapters.unload(merge=True)
    if not isinstance(backbone, SavableModel):
        raise ConfigError(f"{type(backbone).__name__} does not write its own weights")
    file = backbone.save_pretrained(parsed.out)
    worst = max(deviations, key=lambda path: deviations[path])
    result = {"file": str(file), "layers": len(deviations), "largest_rounding_error": deviations[worst], "layer": worst}
    show(result, text_table([result]), as_json=parsed.json)


def export(arguments: Sequence[str]) -> None:
    """Write an artefact in another project's format."""
    example = "lorasub export runs/combined --format space --out space.safetensors"
    parser = verb_parser("export", "Write an adapter or a basis in another project's format.", example)
    parser.add_argument("path", type=str, help="folder of an adapter, a run or a basis")
    parser.add_argument(
        "--format",
        type=ExportFormat,
        default="peft",
        help="peft: a plain LoRA folder, from an adapter of any kind; space: the paper's space file, from a basis",
    )
    add_out(parser, "the folder (peft) or file (space) to write")
    parsed = parser.parse_args(list(arguments))
    check_out(parsed)
    source = Path(parsed.path)
    if parsed.format == "space":
        if not (source / "basis.json").is_file():
            raise ConfigError(f"{source} is no basis; a space file is made from one")
        write_paper_format(SubspaceBasis.load(source), parsed.out)
    else:
        _export_peft(adapter_folder(source), Path(parsed.out))
    show({"written": parsed.out}, parsed.out, as_json=parsed.json)


def _export_peft(folder: Path, target: Path) -> None:
    """The two files that PEFT reads are whole in every adapter folder that can be a LoRA at all."""
    load_adapter_updates(folder)
    if target.resolve() == folder.resolve():
        raise ConfigError(f"--out is the adapter {folder} itself; choose another folder")
    files = [folder / name for name in (WEIGHTS_FILE, CONFIG_FILE, "README.md")]
    if not files[0].is_file():
        raise ArtefactError(f"{folder} holds fully fine-tuned parameters, which are no LoRA; merge it instead")
    write_files(target, {file.name: partial(shutil.copyfile, file) for file in files if file.is_file()})
    for name in (INFO_FILE, NATIVE_FILE):
        (target / name).unlink(missing_ok=True)  # of another adapter that was here before


def inspect_backbone(arguments: Sequence[str]) -> None:
    """Run a backbone on random images, and say whether it keeps the contract.

    Raises:
        ConfigError: something breaks the contract; all of it is printed first.
    """
    parser = verb_parser(
        "inspect backbone",
        "Run a backbone on random images: shapes, frames, signs, gradients, determinism, and what its groups match.",
        "lorasub inspect backbone mymodule.SmallDepth --backbone.dim 64",
    )
    parser.add_argument("--backbone", type=Backbone, required=True, help="import path; its own options as --backbone.X")
    parser.add_argument("--views", type=int, default=3, help="views of a scene")
    parser.add_argument("--image_size", type=tuple[int, int], default=None, help="[H, W] in pixels; small by default")
    words = list(arguments)
    if words and not words[0].startswith("-"):
        words[0] = f"--backbone={words[0]}"
    parsed = parser.parse_args(words)
    backbone = parser.instantiate(parsed).backbone
    report = check_backbone(backbone, views=parsed.views, image_size=parsed.image_size)
    result = {"backbone": report.name, "ok": report.ok, "findings": report.findings, "groups": report.groups}
    show(result | report.facts, _text(report), as_json=parsed.json)
    if not report.ok:
        wrong = sum(finding.verdict == "wrong" for finding in report.findings)
        raise ConfigError(f"{report.name} breaks the contract in {wrong} point{'s' * (wrong > 1)}; see above")


def _text(report: BackboneReport) -> str:
    findings = [f"{finding.verdict:<6} {finding.subject:<12} {finding.text}" for finding in report.findings]
    rows = [
        {
            "group": name,
            "layers": len(paths),
            "first": paths[0] if paths else None,
            "last": paths[-1] if paths else None,
        }
        for name, paths in report.groups.items()
    ]
    facts = [f"{name}: {value}" for name, value in report.facts.items()]
    return "\n".join([*findings, "", text_table(rows), "", *facts])

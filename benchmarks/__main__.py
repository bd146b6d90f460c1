"""All benchmarks behind one entry.

    python -m benchmarks                       # what there is
    python -m benchmarks adapters --help
    python -m benchmarks adapters --json adapters.json

With ``--json`` every one of them writes the same outer form: what was measured, on which machine, when, by which
command (see ``benchmarks/report.py``).
"""

from __future__ import annotations

import importlib
import sys

#: name -> (module, what it measures)
BENCHMARKS: dict[str, tuple[str, str]] = {
    "adapters": ("benchmarks.adapters", "adapter layers against PEFT's: forward, training step, memory, files"),
    "adapter_bank": ("benchmarks.adapter_bank", "n adapters fitted at once against one after the other"),
    "vggt": ("benchmarks.vggt", "VGGT against the released implementation: time and memory over views"),
    "launches": ("benchmarks.launches", "operations, casts and bytes of a step of VGGT-1B, counted"),
    "memory": ("benchmarks.memory", "memory of fits of VGGT-1B over views and methods, counted"),
    "scaling": ("benchmarks.scaling", "how a training step grows with views, size, rank, dimensions, adapters"),
    "encoder_cache": ("benchmarks.encoder_cache", "training steps with and without cached encoder tokens"),
    "framework": ("benchmarks.framework", "what fit adds to a step, against a bare loop over the same step"),
    "startup": ("benchmarks.startup", "where the time goes before the first step of a fit"),
    "mining": ("benchmarks.mining", "mining and overlap at the size of VGGT-1B, against dense SVDs"),
    "rendering": ("benchmarks.rendering", "views per second of the renderer"),
    "scene_statistics": (
        "benchmarks.scene_statistics",
        "depths, cameras and tones of rendered scenes beside real captures",
    ),
    "capture_faults": ("benchmarks.capture_faults", "faults planted into real captures: which does data check find"),
    "reading": ("benchmarks.reading_captures", "frames per second from a capture"),
    "pretraining": ("benchmarks.pretraining", "scenes per second of pre-training, and where a step's time goes"),
    "backbone": ("benchmarks.backbone", "how good a backbone is, beside models that do not look"),
    "real_samples": ("benchmarks.real_samples", "scores on the real samples, before and after a short fit"),
    "basis_capture": ("benchmarks.basis_capture", "the share of real gradients that bases of synthetic scenes hold"),
    "gradient_basis": ("benchmarks.gradient_basis", "a basis from gradients at VGGT-1B's size, counted"),
    "reference_bases": ("benchmarks.reference_bases", "makes the reference bases that come with the package"),
    "reliability": ("benchmarks.reliability", "kills runs at random moments, damages inputs: is all there?"),
    "versions": ("benchmarks.versions", "rendering, fit steps and mining of this checkout against an older one"),
    "training_curves": ("benchmarks.training_curves", "draws the curves of a pre-training run"),
}


def main(arguments: list[str]) -> int:
    """Run one benchmark."""
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, BENCHMARKS))
        print("usage: python -m benchmarks NAME [OPTIONS]\n")
        print("\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in BENCHMARKS.items()))
        return 0
    if arguments[0] not in BENCHMARKS:
        print(f"there is no benchmark '{arguments[0]}'; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    # the scripts' own parsers read the rest, under this name
    sys.argv = [f"python -m benchmarks {arguments[0]}", *arguments[1:]]
    importlib.import_module(BENCHMARKS[arguments[0]][0]).main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

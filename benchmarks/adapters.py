"""Our adapter layers against PEFT's, in the same backbone: time, memory, injection, files.

    python -m benchmarks adapters                                   # nano and a medium VGGT
    python -m benchmarks adapters --models nano --rounds 3 --json adapters.json
    python -m benchmarks adapters --dtype bfloat16 --device cuda

Same weights, targets (every Linear of the frame and global blocks), rank, batch, dtype and optimiser on both sides.
PEFT has no projected form, so our projected adapters (D = 16, 64, 256 where the model is as wide) stand beside PEFT's
LoRA of rank 16, as our LoRA does; ``base`` is the frozen model without adapters, ``merged`` is ours after merging.
Times are medians over interleaved rounds; ratios are taken round by round to ``peft``. Peak memory is that of the
training step alone, each case in a process of its own: on the CPU what the process needed at most beyond what it needed
before.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import interleaved, ratio, spread, summary, write_report
from lorasub import VGGT, AdapterSet, LoRA, Predictions, RandomBasis, VGGTConfig, inject_adapters

RANK = 16
#: Every Linear of the frame and global blocks, for PEFT.
TARGETS = r"aggregator\.(frame|global)_blocks\..*\.(qkv|proj|fc1|fc2)"
MEDIUM = VGGTConfig(
    image_size=224,
    embed_dim=384,
    num_heads=6,
    encoder_depth=12,
    num_pairs=12,
    taps=(2, 5, 8, 11),
    camera_heads=6,
    camera_depth=2,
    dense_features=64,
    dense_channels=(48, 96, 192, 192),
)
MODELS: dict[str, Callable[[], VGGT]] = {
    "nano": lambda: VGGT.from_preset("nano"),
    "medium": lambda: VGGT(MEDIUM),
}
#: Channels of their tokens: a basis cannot have more dimensions.
WIDTHS = {"nano": 192, "medium": MEDIUM.embed_dim}
CASES = ("base", "peft", "lora", "projected 16", "projected 64", "projected 256", "merged")
#: Those that train.
TRAINED = tuple(case for case in CASES if case not in ("base", "merged"))


def adapted(case: str, model: VGGT) -> Any:
    """Inject what a case means; the adapter set, or PEFT's model."""
    if case == "peft":
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, init_lora_weights=True)
        model.requires_grad_(False)
        return inject_adapter_in_model(config, model)
    if case == "base":
        return inject_adapters(model, [])
    spec = RandomBasis(dim=dimensions(case)) if dimensions(case) else LoRA(r=RANK)
    adapters = inject_adapters(model, spec)
    if case == "merged":
        adapters.merge()
    return adapters


def dimensions(case: str) -> int:
    """D of a projected case, 0 for others."""
    return int(case.partition(" ")[2] or 0)


def objective(predictions: Predictions) -> Tensor:
    """A number that depends on every output, at hardly any cost of its own."""
    maps = (predictions.depth, predictions.depth_conf, predictions.world_points, predictions.world_points_conf)
    found = [value.float().mean() for value in (*predictions.pose_encodings, *maps) if value is not None]
    return torch.stack(found).sum()


class Case:
    """A model with one kind of adapter, and what is timed of it."""

    def __init__(self, name: str, options: argparse.Namespace, model_name: str) -> None:
        torch.manual_seed(0)
        self.model = MODELS[model_name]().to(options.device, getattr(torch, options.dtype))
        self.model.weights_hash()  # computed once per model, whoever asks; no part of injecting
        started = time.perf_counter()
        self.adapters = adapted(name, self.model)
        self.injection = time.perf_counter() - started
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5) if name in TRAINED else None
        shape = (options.scenes, options.views, 3, options.size, options.size)
        self.images = torch.rand(shape, device=options.device)

    @torch.no_grad()
    def forward(self) -> None:
        """Predictions, without gradients."""
        self.model(self.images)

    def step(self) -> None:
        """Forward, backward, optimiser."""
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        objective(self.model(self.images)).backward()
        self.optimizer.step()

    def save_and_load(self, folder: Path) -> tuple[float, float, int]:
        """Seconds to save, seconds to load, bytes on disk."""
        from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
        from safetensors.torch import load_file, save_file

        started = time.perf_counter()
        if isinstance(self.adapters, AdapterSet):
            self.adapters.save(folder)
            saved = time.perf_counter()
            self.adapters.load(folder)
        else:  # tensors and configuration, as PEFT's own save_pretrained writes them, without its card
            save_file(
                {name: tensor.contiguous() for name, tensor in get_peft_model_state_dict(self.model).items()},
                folder / "adapter_model.safetensors",
            )
            LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS).save_pretrained(str(folder))
            saved = time.perf_counter()
            set_peft_model_state_dict(self.model, load_file(folder / "adapter_model.safetensors"))
        loaded = time.perf_counter()
        return saved - started, loaded - saved, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


class Held:
    """The memory that this process takes beyond what it held when this was made.

    Args:
        device: whose memory. On the CPU it is the process's, as Linux counts it. What was freed before and is kept by
            the allocator would hide what is taken now, so it is given back first, as far as glibc can.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            gc.collect()
            if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
                library.malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # the peak (VmHWM) begins again at what is held now
        self.before = torch.cuda.memory_allocated() if self.on_gpu else _status("VmRSS")

    def peak(self) -> int:
        """The most since then, in bytes."""
        return (torch.cuda.max_memory_allocated() if self.on_gpu else _status("VmHWM")) - self.before


def peak_memory(case: Case) -> int:
    """Bytes that training steps need beyond what is held before them."""
    held = Held(case.images.device)
    for _ in range(2):
        case.step()
    return held.peak()


def _status(name: str) -> int:
    """Bytes of one of this process's counts in /proc."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")


def peak_in_own_process(name: str, options: argparse.Namespace, model: str) -> int:
    """:func:`peak_memory` of one case, measured by a fresh process."""
    words = [sys.executable, "-m", "benchmarks.adapters", "--one", name, "--models", model]
    for option in ("scenes", "views", "size", "threads", "dtype", "device"):
        words += [f"--{option}", str(getattr(options, option))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"measuring the memory of '{name}' failed:\n{done.stderr[-2000:]}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """All rows of one model."""
    cases = {name: Case(name, options, model) for name in options.cases if dimensions(name) <= WIDTHS[model]}
    forward = interleaved({name: case.forward for name, case in cases.items()}, rounds=options.rounds)
    trained = {name: case for name, case in cases.items() if case.optimizer is not None}
    steps = interleaved({name: case.step for name, case in trained.items()}, rounds=options.rounds)
    rows: dict[str, Any] = {}
    for name, case in cases.items():
        row: dict[str, Any] = {
            "parameters": sum(parameter.numel() for parameter in case.trained),
            "injection_seconds": case.injection,
            "forward_seconds": summary(forward[name]),
        }
        if "peft" in forward:
            row["forward_to_peft"] = ratio(forward[name], forward["peft"])
        if name in trained:
            row["step_seconds"] = summary(steps[name])
            if "peft" in steps:
                row["step_to_peft"] = ratio(steps[name], steps["peft"])
            with tempfile.TemporaryDirectory() as folder:
                row["save_seconds"], row["load_seconds"], row["bytes"] = case.save_and_load(Path(folder))
        rows[name] = row
    del cases, trained  # their memory would press on the processes below
    if options.memory:
        for name in rows.keys() & set(TRAINED):
            rows[name]["peak_bytes"] = peak_in_own_process(name, options, model)
    return rows


def table(rows: dict[str, Any]) -> str:
    """For people."""
    lines = [
        f"{'':<14}{'parameters':>11}{'forward ms':>11}  {'forward / peft':<22}{'step ms':>9}  {'step / peft':<22}"
        f"{'peak MB':>8}{'inject s':>9}{'save ms':>8}{'load ms':>8}{'kB':>7}"
    ]
    for name, row in rows.items():
        step = row.get("step_seconds", {}).get("median")
        lines.append(
            f"{name:<14}{row['parameters']:>11,}{1000 * row['forward_seconds']['median']:>11.1f}  "
            f"{spread(row['forward_to_peft']) if 'forward_to_peft' in row else '-':<22}"
            + (f"{1000 * step:>9.1f}  " if step else f"{'-':>9}  ")
            + f"{spread(row['step_to_peft']) if 'step_to_peft' in row else '-':<22}"
            + (f"{row['peak_bytes'] / 1e6:>8.0f}" if "peak_bytes" in row else f"{'-':>8}")
            + f"{row['injection_seconds']:>9.2f}"
            + (
                f"{1000 * row['save_seconds']:>8.0f}{1000 * row['load_seconds']:>8.0f}{row['bytes'] / 1000:>7.0f}"
                if step
                else ""
            )
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave the peak memory out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=TRAINED, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps({"peak": peak_memory(Case(options.one, options, options.models[0]))}))
        return
    results = {}
    for model in options.models:
        results[model] = measure(model, options)
        print(f"{model}, {options.scenes} x {options.views} views of {options.size}, {options.dtype}")
        print(table(results[model]), flush=True)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "one")}
    write_report(options.json, "adapters", {"settings": settings, "models": results})


if __name__ == "__main__":
    main()

"""Training steps on images that come again: with and without the encoder's tokens from a cache.

python -m benchmarks encoder_cache
python -m benchmarks encoder_cache --size 224 --views 8 --json cache.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.adapters import MODELS, objective
from benchmarks.report import interleaved, ratio, spread, summary, write_report
from lorasub import LoRA, inject_adapters


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="nano")
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = MODELS[options.model]()
    adapters = inject_adapters(model, LoRA(r=16))
    optimizer = torch.optim.AdamW(adapters.trainable_parameters().values(), lr=1e-5)
    images = torch.rand(options.scenes, options.views, 3, options.size, options.size)

    def step() -> None:
        optimizer.zero_grad()
        objective(model(images)).backward()
        optimizer.step()

    with model.cached_encoder() as cache:

        def cached() -> None:
            model.aggregator.token_cache = cache
            step()

        def plain() -> None:
            model.aggregator.token_cache = None
            step()

        seconds = interleaved({"plain": plain, "cached": cached}, rounds=options.rounds)
    gain = ratio(seconds["cached"], seconds["plain"])
    print(f"{options.model}, {options.scenes} x {options.views} views of {options.size}: {cache.report()}")
    for name, values in seconds.items():
        print(f"{name:<8}{1000 * summary(values)['median']:9.1f} ms a step")
    print(f"cached / plain: {spread(gain)}")
    results = {"seconds": {name: summary(values) for name, values in seconds.items()}, "cached_to_plain": gain}
    write_report(options.json, "encoder_cache", {"settings": {**vars(options), "json": None}, **results})


if __name__ == "__main__":
    main()

"""How many frames a second the training process gets from a capture: cold, and from the cache.

python -m benchmarks reading FOLDER [--size 112] [--workers 0] [--cache_mb 1024] [--json FILE]

A training scene has four views. With a cache each frame is decoded once in the first epoch; `--cache_mb 0` decodes it
whenever it is drawn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.report import write_report
from lorasub.data.real import PosedRGBD
from lorasub.data.sources import Decoding, HeldOut


def main() -> None:
    """Read three epochs and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--cache_mb", type=float, default=1024.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = PosedRGBD(
        options.folder,
        image_size=options.size,
        held_out=HeldOut(fraction=0),
        decoding=Decoding(num_workers=options.workers, cache_mb=options.cache_mb),
    )
    loader = data.train_dataloader()
    cached = ("each frame decoded once", "from the cache", "from the cache")
    rows = []
    for epoch, name in enumerate(cached if options.cache_mb else ("without a cache",)):
        loader.sampler.set_epoch(epoch)
        start, frames = time.perf_counter(), 0
        for batch in loader:
            frames += len(batch) * batch.num_views
        seconds = time.perf_counter() - start
        print(f"epoch {epoch}, {name}: {frames} views, {frames / seconds:.0f} views/s")
        rows.append({"epoch": epoch, "cache": name, "views": frames, "views_per_second": frames / seconds})
    settings = {"size": options.size, "workers": options.workers, "cache_mb": options.cache_mb}
    write_report(options.json, "reading", {"settings": settings, "epochs": rows})


if __name__ == "__main__":
    main()

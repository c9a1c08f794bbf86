"""How fast the phantom makes radiographs on one core: with all truth, with entries, and beside writing a PNG.

    OMP_NUM_THREADS=1 python benchmarks/phantom.py [--images 60] [--runs 9]

The kinds of work alternate, so that a busy machine slows all of them alike; medians are reported. The target
is the project's own: at least 100 images/s on one core, with all truth, at 224 px. The ratio is the rate per
second of CPU time over that target (on an idle machine wall time says the same); it compares with no peer.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from data_recipes.sources import phantom

TARGET = 100.0  # images/s


def works(images: int) -> dict[str, Callable[[], object]]:
    """The kinds of work by name; each handles `images` images, reading whole patients a few more."""
    options = phantom.Options()
    units = phantom.units({}, seed=0, images=images)
    pictures = [phantom.render(0, index, 0, options)[0] for index in range(images)]

    def entries() -> None:
        for unit in units:
            phantom.read(unit)

    def png() -> None:
        for pixels in pictures:
            Image.fromarray(pixels).save(io.BytesIO(), "png")

    return {
        "pixels and truth, 224 px": lambda: [phantom.render(0, index, 0, options) for index in range(images)],
        "pixels, truth, entries, 224 px": entries,
        "pixels and truth, 112 px": lambda: [
            phantom.render(0, index, 0, phantom.Options(size=112)) for index in range(images)
        ],
        "writing the PNG only, 224 px": png,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60, help="images a run")
    parser.add_argument("--runs", type=int, default=9, help="runs of each kind of work, alternating")
    asked = parser.parse_args()
    kinds = works(asked.images)
    handled = dict.fromkeys(kinds, asked.images)
    handled["pixels, truth, entries, 224 px"] = sum(
        phantom.image_count(0, unit.index) for unit in phantom.units({}, seed=0, images=asked.images)
    )
    wall: dict[str, list[float]] = {name: [] for name in kinds}
    cpu: dict[str, list[float]] = {name: [] for name in kinds}
    for work in kinds.values():  # draws the patterns a process needs once
        work()
    for _ in range(asked.runs):
        for name, work in kinds.items():
            start, spent = time.perf_counter(), time.process_time()
            work()
            wall[name].append(handled[name] / (time.perf_counter() - start))
            cpu[name].append(handled[name] / (time.process_time() - spent))
    print(f"{'work':34} {'images/s':>9} {'lowest':>8} {'highest':>8} {'per CPU s':>10}")
    for name, rates in wall.items():
        shown = (statistics.median(rates), min(rates), max(rates), statistics.median(cpu[name]))
        print(f"{name:34} {shown[0]:9.1f} {shown[1]:8.1f} {shown[2]:8.1f} {shown[3]:10.1f}")
    rate = statistics.median(cpu["pixels and truth, 224 px"])
    print(
        json.dumps(
            {
                "benchmark": "phantom",
                "ratios": {"images per CPU second over target": round(rate / TARGET, 3)},
                "targets": {"images per CPU second over target": 1.0},
                "images_per_second": {
                    name: round(statistics.median(rates), 1) for name, rates in wall.items()
                },
                "n": asked.runs,
                "machine": {
                    "cpus": os.cpu_count(),
                    "threads": 1,
                    "load": round(os.getloadavg()[0], 1),
                    "python": platform.python_version(),
                    "numpy": np.__version__,
                    "processor": platform.machine(),
                },
            }
        )
    )


if __name__ == "__main__":
    main()

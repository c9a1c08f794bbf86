"""How fast the phantom makes radiographs on one core: with all truth, with entries, and beside writing a PNG.

    OMP_NUM_THREADS=1 python -m benchmarks.phantom [--images 60] [--runs 9]

The target is the project's own: at least 100 images/s on one core, with all truth, at 224 px. The ratio is
the rate per second of CPU time over that target (on an idle machine wall time says the same); it compares
with no peer.
"""

from __future__ import annotations

import argparse
import io
import statistics
from collections.abc import Callable

from PIL import Image

from benchmarks.alternating import alternate, conclude, show
from data_recipes.sources import phantom

TARGET = 100.0  # images/s
TRUTH, ENTRIES = "pixels and truth, 224 px", "pixels, truth, entries, 224 px"


def works(images: int) -> dict[str, Callable[[], object]]:
    """The kinds of work by name; each handles `images` images, reading whole patients a few more."""
    options = phantom.Options()
    units = phantom.units({}, seed=0, images=images)
    pictures = [phantom.render(0, index, 0, options)[0] for index in range(images)]
    small = phantom.Options(size=112)
    return {
        TRUTH: lambda: [phantom.render(0, index, 0, options) for index in range(images)],
        ENTRIES: lambda: [phantom.read(unit) for unit in units],
        "pixels and truth, 112 px": lambda: [phantom.render(0, index, 0, small) for index in range(images)],
        "writing the PNG only, 224 px": lambda: [
            Image.fromarray(pixels).save(io.BytesIO(), "png") for pixels in pictures
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60, help="images a run")
    parser.add_argument("--runs", type=int, default=9, help="runs of each kind of work, alternating")
    asked = parser.parse_args()
    kinds = works(asked.images)
    handled = dict.fromkeys(kinds, asked.images)
    handled[ENTRIES] = sum(
        phantom.image_count(0, unit.index) for unit in phantom.units({}, seed=0, images=asked.images)
    )
    spent = alternate(kinds, asked.runs)
    show(spent, handled, "images")
    rate = asked.images / statistics.median(spent[TRUTH].cpu)
    conclude(
        "phantom",
        {"images per CPU second over 100": round(rate / TARGET, 3)},
        {"images per CPU second over 100": ">= 1"},
        n=asked.runs,
    )


if __name__ == "__main__":
    main()

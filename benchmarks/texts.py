"""Whether the work on texts grows with their length and no faster: parsing hostile answers, and annotating.

    python -m benchmarks.texts [--runs 7]

A model may answer anything, also 100 KB of one sign; `parse` of every task must read it in linear time. The
ratio is the time for texts twice as long over the time for the texts themselves: 2 where work is linear, 4
where it is quadratic. Annotating a scene is timed against rendering its image: it should hardly count.
"""

from __future__ import annotations

import argparse

from benchmarks.alternating import alternate, conclude, ratio, show
from data_recipes.sources import phantom
from data_recipes.tasks import TASKS, task
from tests.data_recipes.factories import entries_of
from tests.data_recipes.hostile import hostile

SIZE = 50_000
SCENES = 30


def parse_all(texts: list[str]) -> None:
    """Every task reads every text."""
    for name in TASKS:
        for text in texts:
            task(name).parse(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="runs of each kind of work, alternating")
    asked = parser.parse_args()
    short, long = hostile(SIZE), hostile(2 * SIZE)
    scenes = [phantom.render(0, index, 0)[1] for index in range(SCENES)]
    spent = alternate(
        {
            "parse, 50 KB": lambda: parse_all(short),
            "parse, 100 KB": lambda: parse_all(long),
            "annotate": lambda: [entries_of(scene, seed) for seed, scene in enumerate(scenes)],
            "render": lambda: [phantom.render(0, index, 0) for index in range(SCENES)],
        },
        asked.runs,
    )
    texts = len(short) * len(TASKS)
    items = {"parse, 50 KB": texts, "parse, 100 KB": texts, "annotate": SCENES, "render": SCENES}
    show(spent, items, "items")
    conclude(
        "texts",
        {
            "parse 100 KB over 50 KB": ratio(spent["parse, 100 KB"], spent["parse, 50 KB"]),
            "annotate over render": ratio(spent["annotate"], spent["render"]),
        },
        {"parse 100 KB over 50 KB": "<= 2.5", "annotate over render": "<= 0.2"},
        n=asked.runs,
    )


if __name__ == "__main__":
    main()

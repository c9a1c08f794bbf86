"""The 2-D view, a picture only: where instances lie in a plane, and thumbnails of them for the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import PIL.Image
import polars as pl
from numpy.typing import NDArray

from data_recipes.page import image_uri
from taco_probe.taco.embeddings import Embeddings, Vectors
from taco_probe.taco.pool import PLAIN, Pool

WIDTH, HEIGHT = 1000, 720
POINTS = 1200  # drawn at most
THUMB = 40  # pixels a side in the sheet
COLUMNS = 30
_QUALITY = 72
_FEWEST_TSNE = 30

Method = Literal["tsne", "pca"]
METHODS: tuple[Method, ...] = get_args(Method)
Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class Point:
    """An instance; `tile` is its place in the sheet of thumbnails, -1 without."""

    x: float
    y: float
    task: str
    category: str
    dataset: str
    modality: str
    image: str
    tile: int


@dataclass(frozen=True)
class Plane:
    """The view.

    Attributes:
        method: how it was projected, in words.
        of: how many instances there are, drawn or not.
        sheet: data URI of the thumbnails, COLUMNS pairs of THUMB pixels a row; "" without pixels.
    """

    points: Sequence[Point]
    method: str
    of: int
    sheet: str


def plane(
    test: Embeddings, pool: Pool | None, *, method: Method = "tsne", number: int = POINTS, seed: int = 0
) -> Plane:
    """Projects plain instances, of each task and dataset alike many.

    Args:
        test: embeddings of the test pool.
        pool: the pool whose rows they are of, for the thumbnails.
        method: t-SNE (van der Maaten and Hinton 2008; cosine distances, started from the principal
            components) or the two largest principal components.
        number: of points, at most.
    """
    numbers = test.rows.with_row_index("_row").filter(*PLAIN)
    kept = numbers["_row"].to_numpy()[_alike(numbers, number, seed)]
    unit, rows = test.unit[kept], test.rows[kept]
    flat, said = _flat(unit, method, seed)
    low, high = flat.min(axis=0), flat.max(axis=0)
    places = 16 + (flat - low) / np.maximum(high - low, 1e-12) * (np.array([WIDTH, HEIGHT]) - 32)
    named = rows.select("task", "category", "dataset", "modality", "image").rows(named=True)
    points = [
        Point(round(float(x), 1), round(float(HEIGHT - y), 1), tile=tile if pool else -1, **row)
        for tile, ((x, y), row) in enumerate(zip(places, named, strict=True))
    ]
    return Plane(points, said, numbers.height, _sheet(pool, kept) if pool else "")


def _alike(rows: pl.DataFrame, number: int, seed: int) -> Numbers:
    """Up to `number` rows, so that each task and dataset has one before any has two, and so on."""
    order = np.random.default_rng(seed).permutation(rows.height)
    turn = rows[order].select(pl.int_range(pl.len()).over("task", "dataset").alias("turn"))["turn"].to_numpy()
    return np.sort(order[np.argsort(turn, kind="stable")[:number]])


def _flat(unit: Vectors, method: Method, seed: int) -> tuple[NDArray[np.float64], str]:
    """(N, 2) and what was done."""
    centred = unit.astype(np.float64) - unit.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    if method == "pca" or len(unit) < _FEWEST_TSNE:
        share = np.sum(size[:2] ** 2) / max(np.sum(size**2), 1e-12)
        flat = np.pad(left[:, :2] * size[:2], ((0, 0), (0, max(0, 2 - len(size)))))
        return flat, f"two principal components, {100 * share:.0f} % of the variance"
    from sklearn.manifold import TSNE

    # Fifty components carry the neighbourhoods, and t-SNE's neighbours are found in them faster.
    kept = (left * size)[:, :50]
    perplexity = float(min(30, (len(unit) - 1) // 3))
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(kept)
    return np.asarray(found, dtype=np.float64), f"t-SNE, perplexity {perplexity:g}"


def _sheet(pool: Pool, numbers: Numbers) -> str:
    """All pairs as one picture: a request-free page cannot fetch them one by one."""
    rows = -(-len(numbers) // COLUMNS)
    sheet = PIL.Image.new("RGB", (COLUMNS * 2 * THUMB, rows * THUMB))
    for tile, number in enumerate(numbers):
        for place, part in enumerate((pool.inputs, pool.targets)):
            small = PIL.Image.fromarray(np.asarray(part[number])).resize((THUMB, THUMB))
            sheet.paste(small, ((2 * (tile % COLUMNS) + place) * THUMB, tile // COLUMNS * THUMB))
    return image_uri(sheet, longest=max(sheet.size), quality=_QUALITY)


def pairs(pool: Pool, tasks: Sequence[str], *, each: int = 3, side: int = 64) -> list[dict[str, Any]]:
    """For each task a picture of up to `each` pairs, input on the left, from as many datasets as possible."""
    listed = pool.rows.with_row_index("_row").filter(*PLAIN)
    found = []
    for task in tasks:
        of = listed.filter(pl.col("task") == task)
        # Another dataset first for each task, or the first of the alphabet would be all that is seen.
        names = sorted(of["dataset"].unique())
        start = tasks.index(task) * each % max(1, len(names))
        names = [*names[start:], *names[:start]]
        first = [of.filter(pl.col("dataset") == name).row(0, named=True) for name in names[:each]]
        more = of.filter(~pl.col("_row").is_in([row["_row"] for row in first]))
        chosen = [*first, *more.rows(named=True)][:each]
        if not chosen:
            continue
        strip = PIL.Image.new("RGB", (len(chosen) * (2 * side + 8) - 8, side), "white")
        for place, row in enumerate(chosen):
            for half, part in enumerate((pool.inputs, pool.targets)):
                one = PIL.Image.fromarray(np.asarray(part[row["_row"]])).resize((side, side))
                strip.paste(one, (place * (2 * side + 8) + half * side, 0))
        found.append(
            {
                "task": task,
                "category": chosen[0]["category"],
                "datasets": [row["dataset"] for row in chosen],
                "uri": image_uri(strip, longest=max(strip.size), quality=88),
                "width": strip.width,
                "height": strip.height,
            }
        )
    return found

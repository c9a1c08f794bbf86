"""Labels shuffled among what could have had them just as well: the null of permutation tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from taco_probe.taco.analysis.intervals import codes, images
from taco_probe.taco.analysis.ranking import Codes


class Null(NamedTuple):
    """Mean and 95th percentile of a number under permutation, and the share that is as large as the number,
    the number itself counted in."""

    mean: float
    high: float
    p: float


def null(value: float, shuffled: Callable[[], float], permutations: int) -> Null:
    """`shuffled` gives the number under another permutation at each call."""
    found = np.array([shuffled() for _ in range(permutations)])
    # Sums in another order differ in the last digits.
    p = (int((found >= value - 1e-9).sum()) + 1) / (permutations + 1)
    return Null(float(found.mean()), float(np.quantile(found, 0.95)), p)


def within(groups: Codes, rng: np.random.Generator) -> Codes:
    """(n,) places, shuffled within each group."""
    found = np.empty(len(groups), np.int64)
    found[np.argsort(groups, kind="stable")] = np.lexsort((rng.random(len(groups)), groups))
    return found


def exchangeable(rows: pl.DataFrame) -> Codes:
    """(n,) groups of rows whose tasks may be shuffled: those of one image, since images have looks of their
    own; images that were used once stand together with others of their dataset."""
    image = codes(images(rows))
    once = np.bincount(image)[image] == 1
    return np.where(once, image.max(initial=0) + 1 + codes(rows["dataset"]), image)

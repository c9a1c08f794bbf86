"""Bootstrap over datasets and, within them, images: tiles and slices of one picture are no independent
samples, and what is claimed of datasets must hold for others. Datasets of one origin, such as one patient,
are drawn together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from eval.compare import replicates

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

RESAMPLES = 300


class Draw(NamedTuple):
    """One resample: how often each dataset (D,) and each row's image (N,) was drawn."""

    datasets: Floats
    rows: Floats


class Groups:
    """The rows' datasets and images.

    Attributes:
        datasets: their names, sorted. home: (D,) number of each one's origin.
        dataset: (N,) number of each row's dataset.
        image: (N,) number of each row's image; images of two datasets are never the same.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        self.datasets: list[str] = sorted(rows["dataset"].unique())
        origins = dict(rows.select("dataset", "origin").unique().iter_rows())
        self.home: Numbers = np.unique([origins[name] for name in self.datasets], return_inverse=True)[1]
        number = {name: place for place, name in enumerate(self.datasets)}
        self.dataset: Numbers = np.array([number[name] for name in rows["dataset"]], dtype=np.intp)
        keys = list(zip(self.dataset.tolist(), rows["image"].to_list(), strict=True))
        images = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        self.image: Numbers = np.array([images[key] for key in keys], dtype=np.intp)
        of_image = np.zeros(len(images), dtype=np.intp)
        of_image[self.image] = self.dataset
        self._images = [np.flatnonzero(of_image == place) for place in range(len(self.datasets))]

    @property
    def units(self) -> int:
        """How many origins there are."""
        return int(self.home.max(initial=-1)) + 1

    @property
    def whole(self) -> Draw:
        """Everything once."""
        return Draw(np.ones(len(self.datasets)), np.ones(len(self.image)))

    def draws(self, resamples: int, seed: int) -> Iterator[Draw]:
        """Origins with replacement, then each dataset's images; a single one always comes."""
        rng = np.random.default_rng(seed)
        n = self.units
        images = np.zeros(sum(map(len, self._images)))
        for _ in range(resamples):
            times = rng.multinomial(n, np.full(n, 1 / n))[self.home]
            for members in self._images:
                images[members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)))
            yield Draw(times.astype(np.float64), images[self.image])

    def halves(self, number: int, seed: int) -> Iterator[tuple[Draw, Draw]]:
        """Each dataset's images in two random halves."""
        rng = np.random.default_rng(seed)
        every = np.ones(len(self.datasets))
        for _ in range(number):
            first = np.zeros(sum(map(len, self._images)))
            for members in self._images:
                # An odd one out goes either way, or small datasets would always weigh on the same side.
                half = (len(members) + rng.integers(2)) // 2
                first[rng.permutation(members)[:half]] = 1
            yield Draw(every, first[self.image]), Draw(every, 1 - first[self.image])


def estimate(
    values: Sequence[float], samples: Any, units: int, *, least: float = -np.inf, most: float = np.inf
) -> dict[str, Any]:
    """`{"value", "low", "high", "n"}` over seeds as replicates (`eval.compare.replicates`); no interval from
    a single unit, nor where nothing could be resampled.

    Args:
        values: of each seed.
        samples: the resampled values of each seed, (seeds, resamples).
        units: how many were resampled: datasets, those of one origin counted once.
        least, most: what the number can be, where its interval ends at the latest.
    """
    drawn = np.asarray(samples, dtype=np.float64)
    if units < 2 or not np.isfinite(drawn).any():
        return {"value": finite(np.mean(values)), "low": None, "high": None, "n": units}
    found = replicates(values, list(drawn), units)
    low, high = max(least, found.ci_low), min(most, found.ci_high)
    return {"value": finite(found.value), "low": finite(low), "high": finite(high), "n": units}


def weights_of(groups: Groups, resamples: int, seed: int) -> Floats:
    """(1 + resamples, A) weights of rows, summing to 1: datasets alike first, then the resamples."""
    found = []
    for draw in (groups.whole, *groups.draws(resamples, seed)):
        count = np.bincount(groups.dataset, weights=draw.rows, minlength=len(groups.datasets))
        weight = draw.datasets[groups.dataset] * draw.rows / np.maximum(count, 1)[groups.dataset]
        found.append(weight / weight.sum())
    return np.array(found)


def averages(weights: Floats, values: Floats) -> Floats:
    """(1 + resamples,) means of values (A,); what is not known (NaN) does not count."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights[:, known] @ values[known]) / weights[:, known].sum(axis=1))


def over(weights: Floats, values: Sequence[Floats], datasets: int, **ends: float) -> dict[str, Any]:
    """The estimate of a mean over paths, from each seed's values (A,); `ends` as `least` and `most` there."""
    means = [averages(weights, one) for one in values]
    return estimate([one[0] for one in means], [one[1:] for one in means], datasets, **ends)


def finite(value: Any) -> float | None:
    """The number as JSON knows it; None for what is none."""
    number = float(value)
    return number if np.isfinite(number) else None

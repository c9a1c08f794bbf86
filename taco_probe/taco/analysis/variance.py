"""How much of the variance of embeddings the task explains, and how much the dataset.

R2 as in a permutational analysis of variance (Anderson 2001, Austral Ecology 26) of vectors of length 1,
whose squared Euclidean distance is twice their cosine distance. Cells are not of one size and some are empty,
so what a factor explains depends on the other: `alone` is without the other, `value` what it adds to the
other (the type II sum of squares), and `shared` can't be told apart. Tests shuffle what would be exchangeable
if the factor did nothing: tasks within an image; whole images between datasets that have the same categories
of tasks; categories between tasks.

Legend: N instances, W width, A and B levels of two factors, I images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from taco_probe.taco.analysis import shuffling
from taco_probe.taco.analysis.intervals import Found, Values, codes, images, over_seeds
from taco_probe.taco.analysis.ranking import Codes
from taco_probe.taco.embeddings import Embeddings, Vectors

FACTORS = ("task", "dataset", "category")
PERMUTATIONS = 199


@dataclass(frozen=True)
class Explained:
    """R2 of one factor, `value` given the other and `alone`; `null` the mean of `value` under permutation and
    `p` its share that is as large, None where nothing could be shuffled."""

    value: float
    alone: float
    null: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Variance:
    """R2 of each factor; `shared` by task and dataset, and `residual`. `category` stands in place of the task
    it belongs to: it is a part of what the task explains, given the dataset."""

    factors: dict[str, Explained]
    shared: float
    residual: float


def variance(embeddings: Embeddings, *, permutations: int = PERMUTATIONS, seed: int = 0) -> Variance:
    """R2 of task, dataset and category. Failed and altered instances take no part.

    Args:
        permutations: for p and null; 0 for none.
    """
    model = _Model.of(embeddings.plain)
    rng = np.random.default_rng(seed)
    movable = any(len(np.unique(model.home[model.strata == one])) > 1 for one in np.unique(model.strata))
    found = {
        "task": _tested(
            model.task(model.labels),
            model.tasks.alone / model.total,
            lambda: model.task(model.labels[shuffling.within(model.free, rng)]),
            permutations,
        ),
        "dataset": _tested(
            model.dataset(model.home),
            model.datasets.alone / model.total,
            lambda: model.dataset(model.home[shuffling.within(model.strata, rng)]),
            permutations if movable else 0,
        ),
        "category": _tested(
            model.category(model.categories),
            model.tasks.grouped(model.categories).alone / model.total,
            lambda: model.category(rng.permutation(model.categories)),
            permutations,
        ),
    }
    both = found["task"].value + found["dataset"].alone
    return Variance(found, both - found["task"].value - found["dataset"].value, 1 - both)


@dataclass(frozen=True)
class _Sums:
    """Sums (A, W) of centred vectors by the levels of a factor, and how many there are (A,)."""

    sums: Values
    sizes: Values

    @classmethod
    def of(cls, vectors: Vectors, labels: Codes) -> _Sums:
        size = (int(labels.max()) + 1, len(labels))
        one_hot = sparse.csr_array((np.ones(len(labels), np.float32), (labels, np.arange(len(labels)))), size)
        return cls(np.asarray(one_hot @ vectors, np.float64), np.bincount(labels).astype(np.float64))

    def grouped(self, groups: Codes) -> _Sums:
        """Levels put together: `groups` (A,) names the group of each."""
        return _Sums(_merged(self.sums, groups), np.bincount(groups, self.sizes).astype(np.float64))

    @property
    def alone(self) -> float:
        """Sum of squares that the factor explains."""
        return float(((self.sums**2).sum(axis=1) / np.maximum(self.sizes, 1)).sum())

    def beyond(self, other: _Sums, counts: Values) -> float:
        """Sum of squares that this factor adds to the other; `counts` (A, B) of instances in each cell."""
        expected = counts / np.maximum(other.sizes, 1)
        left = self.sums - expected @ other.sums
        gram = np.diag(self.sizes) - expected @ counts.T
        return float((left * (np.linalg.pinv(gram, hermitian=True) @ left)).sum())


@dataclass(frozen=True)
class _Model:
    """What R2 is computed from.

    Attributes:
        vectors: (N, W), centred; total: their sum of squares.
        labels, datasets_of_rows: (N,) task and dataset of each instance.
        tasks, datasets, images: sums by each.
        in_datasets: (tasks, datasets) and in_images: (images, tasks) counts of instances.
        home, strata: (I,) dataset of each image, and images that may change places.
        free: (N,) instances whose tasks may change places.
        categories: of each task.
    """

    vectors: Vectors
    total: float
    labels: Codes
    datasets_of_rows: Codes
    tasks: _Sums
    datasets: _Sums
    images: _Sums
    in_datasets: Values
    in_images: Values
    home: Codes
    strata: Codes
    free: Codes
    categories: Codes

    @classmethod
    def of(cls, embeddings: Embeddings) -> _Model:
        rows, vectors = embeddings.rows, embeddings.unit - embeddings.unit.mean(axis=0)
        task, dataset, image = codes(rows["task"]), codes(rows["dataset"]), codes(images(rows))
        home = dataset[np.unique(image, return_index=True)[1]]
        return cls(
            vectors,
            float((vectors.astype(np.float64) ** 2).sum()),
            task,
            dataset,
            _Sums.of(vectors, task),
            _Sums.of(vectors, dataset),
            _Sums.of(vectors, image),
            _counts(task, dataset),
            _counts(image, task),
            home,
            _strata(rows)[home],
            shuffling.exchangeable(rows),
            codes(rows.select("task", "category").unique().sort("task")["category"]),
        )

    def task(self, labels: Codes) -> float:
        """R2 that these tasks of the instances add to the datasets."""
        sums = self.tasks if labels is self.labels else _Sums.of(self.vectors, labels)
        return sums.beyond(self.datasets, _counts(labels, self.datasets_of_rows)) / self.total

    def dataset(self, home: Codes) -> float:
        """R2 that these datasets of the images add to the tasks."""
        return self.images.grouped(home).beyond(self.tasks, _merged(self.in_images, home)) / self.total

    def category(self, categories: Codes) -> float:
        """R2 that these categories of the tasks add to the datasets."""
        counts = _merged(self.in_datasets, categories)
        return self.tasks.grouped(categories).beyond(self.datasets, counts) / self.total


def _tested(value: float, alone: float, shuffled: Callable[[], float], permutations: int) -> Explained:
    if not permutations:
        return Explained(value, alone)
    found = shuffling.null(value, shuffled, permutations)
    return Explained(value, alone, found.mean, found.p)


def _counts(one: Codes, two: Codes) -> Values:
    size = (int(one.max()) + 1, int(two.max()) + 1)
    cells = np.ravel_multi_index((one, two), size)
    return np.bincount(cells, minlength=size[0] * size[1]).reshape(size).astype(np.float64)


def _merged(table: Values, groups: Codes) -> Values:
    """(A, K) -> (groups, K): rows of a group added up."""
    found = np.zeros((int(groups.max()) + 1, table.shape[1]))
    np.add.at(found, groups, table)
    return found


def _strata(rows: pl.DataFrame) -> Codes:
    """(datasets,) number of the set of categories that each dataset has, datasets in alphabetical order."""
    sets = rows.group_by("dataset").agg(pl.col("category").unique().sort().str.join(" ")).sort("dataset")
    return codes(sets["category"])


def summarised(runs: Sequence[Variance]) -> Found:
    """Means over runs that differ in their seed; intervals for other seeds; p and null of the first run."""
    shown: Found = {}
    for name in FACTORS:
        values = [run.factors[name].value for run in runs]
        low, high = over_seeds(values) or (None, None)
        first = runs[0].factors[name]
        alone = float(np.mean([run.factors[name].alone for run in runs]))
        about = {"alone": alone, "null": first.null, "p": first.p, "seeds": len(runs)}
        shown[name] = {"value": float(np.mean(values)), "low": low, "high": high, **about}
    shown["shared"] = float(np.mean([run.shared for run in runs]))
    shown["residual"] = float(np.mean([run.residual for run in runs]))
    return shown

"""Hierarchical clustering of tasks by their distances: the tree, whether cutting it gives the three
categories, and how stable it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from taco_probe.taco.analysis.resampling import Floats, Numbers, estimate, finite

PERMUTATIONS = 2000


def tree(matrix: Floats, *, ordered: bool = False) -> Floats:
    """Average linkage (UPGMA; Sokal and Michener 1958) of distances (T, T) as scipy's rows (T - 1, 4).

    `ordered` puts leaves that are near beside each other (Bar-Joseph et al. 2001), which draws well and
    changes no cluster.
    """
    found = hierarchy.linkage(_condensed(matrix), "average", optimal_ordering=ordered)
    return np.asarray(found, dtype=np.float64)


def cut(linkage: Floats, k: int) -> Numbers:
    """(T,) the number of each task's cluster, where the tree has k branches."""
    return np.asarray(hierarchy.fcluster(linkage, k, "maxclust"), dtype=np.intp)


def clades(linkage: Floats) -> list[frozenset[int]]:
    """The tasks below each merge of a tree."""
    found: list[frozenset[int]] = [frozenset([place]) for place in range(len(linkage) + 1)]
    for a, b, *_ in linkage:
        found.append(found[int(a)] | found[int(b)])
    return found[len(linkage) + 1 :]


def adjusted_rand(first: Numbers, second: Numbers) -> float:
    """The adjusted Rand index of two labellings (N,) (Hubert and Arabie 1985): 1 for equal ones, 0 on average
    for random ones of the same sizes. Labels are small whole numbers."""
    width = int(second.max()) + 1
    both = np.bincount(first * width + second)
    together, a, b = (np.sum(n * (n - 1)) / 2 for n in (both, np.bincount(first), np.bincount(second)))
    every = len(first) * (len(first) - 1) / 2
    expected, largest = a * b / every, (a + b) / 2
    return 1.0 if largest == expected else float((together - expected) / (largest - expected))


def nearest_shares(matrix: Floats, categories: Numbers) -> float:
    """Share of tasks whose nearest other task is of their category, of those that can be compared with any;
    NaN where none can."""
    apart = np.where(np.isfinite(matrix) & ~np.eye(len(matrix), dtype=bool), matrix, np.inf)
    known = np.isfinite(apart).any(axis=1)
    if not known.any():
        return float("nan")
    return float(np.mean((categories[apart.argmin(axis=1)] == categories)[known]))


def measured(
    matrices: Sequence[Floats],
    samples: Floats,
    categories: Sequence[str],
    *,
    datasets: int,
    seed: int = 0,
) -> dict[str, Any]:
    """The value of key `clusters`.

    Args:
        matrices: distances (T, T), one a training seed; tree and cut are of their mean.
        samples: (seeds, resamples, T, T) resampled distances.
        categories: of each task; the tree is cut into as many clusters as there are categories.
        datasets: how many were resampled.
        seed: of the permutations.
    """
    labels = np.unique(np.asarray(categories), return_inverse=True)[1]
    k = len(set(categories))
    mean = np.mean(matrices, axis=0)
    linkage = tree(mean, ordered=True)
    found = cut(linkage, k)
    own = [cut(tree(matrix), k) for matrix in matrices]
    resampled = [[cut(tree(matrix), k) for matrix in of_seed] for of_seed in samples]
    drawn = [tree(matrix) for matrix in samples.mean(axis=0)]
    known = [set(clades(one)) for one in drawn]
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(labels) for _ in range(PERMUTATIONS)]
    rand, near = adjusted_rand(labels, found), nearest_shares(mean, labels)
    sizes = np.bincount(labels)
    pairs = [(i, j) for i in range(len(own)) for j in range(i)]
    return {
        "linkage": linkage.tolist(),
        "order": [int(place) for place in hierarchy.leaves_list(linkage)],
        "support": [
            float(np.mean([clade in one for one in known])) if known else None for clade in clades(linkage)
        ],
        "cophenetic": finite(_cophenetic(linkage, mean)),
        "k": k,
        "cut": found.tolist(),
        "rand": estimate(
            [adjusted_rand(labels, one) for one in own],
            [[adjusted_rand(labels, one) for one in of_seed] for of_seed in resampled],
            datasets,
            most=1,
        )
        | {"p": _p(rand, [adjusted_rand(one, found) for one in shuffled])},
        "nearest": estimate(
            [nearest_shares(matrix, labels) for matrix in matrices],
            [[nearest_shares(matrix, labels) for matrix in of_seed] for of_seed in samples],
            datasets,
            least=0,
            most=1,
        )
        | {
            "chance": float(np.sum(sizes * (sizes - 1)) / (len(labels) * (len(labels) - 1))),
            "p": _p(near, [nearest_shares(mean, one) for one in shuffled]),
        },
        "stability": {
            "datasets": _stability(found, [cut(one, k) for one in drawn], datasets),
            "seeds": {"value": float(np.mean([adjusted_rand(own[i], own[j]) for i, j in pairs])),
                      "n": len(own)} if pairs else None,
        },
    }  # fmt: skip


def _stability(found: Numbers, drawn: Sequence[Numbers], datasets: int) -> dict[str, Any]:
    """How well cuts of resampled trees agree with the cut: mean and the middle 95 % of the resamples."""
    agreement = [adjusted_rand(found, one) for one in drawn]
    low, high = np.percentile(agreement, [2.5, 97.5]) if agreement and datasets > 1 else (np.nan, np.nan)
    value = np.mean(agreement) if agreement else np.nan
    return {"value": finite(value), "low": finite(low), "high": finite(high), "n": datasets}


def _cophenetic(linkage: Floats, matrix: Floats) -> float:
    """Correlation of distances in the tree with those it was made of (Sokal and Rohlf 1962); NaN where all
    are equal."""
    distances = _condensed(matrix)
    if np.ptp(distances) == 0:
        return np.nan
    return float(hierarchy.cophenet(linkage, distances)[0])


def _p(observed: float, shuffled: Sequence[float]) -> float:
    """One-sided p of a permutation test, the observed arrangement counted in."""
    return (int(np.sum(np.asarray(shuffled) >= observed - 1e-12)) + 1) / (len(shuffled) + 1)


def _condensed(matrix: Floats) -> Floats:
    """The upper triangle; where resampling left nothing to compare, as far as the farthest."""
    filled = np.where(np.isfinite(matrix), matrix, np.nanmax(matrix))
    even = np.maximum((filled + filled.T) / 2, 0)
    np.fill_diagonal(even, 0)
    return np.asarray(squareform(even, checks=False), dtype=np.float64)

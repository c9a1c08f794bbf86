"""Trajectories: what an alteration of growing strength does to an instance's place in the full space, each
number beside the null of a shuffled order.

Points are unit vectors, as everywhere in the analysis; distances are Euclidean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from data_recipes.errors import UserError
from taco_probe.taco.analysis import sensitivity, shapes
from taco_probe.taco.analysis.resampling import RESAMPLES, Floats, Groups, averages, finite, over, weights_of
from taco_probe.taco.analysis.trajectories import FEWEST, Trajectories, trajectories
from taco_probe.taco.embeddings import Embeddings

ALL = "all"  # the categories together
_DRAWN = (0.1, 0.5, 0.9)  # quantiles of straightness of the paths that are drawn


def measured(
    paths: Sequence[Embeddings],
    test: Sequence[Embeddings] = (),
    *,
    resamples: int = RESAMPLES,
    orders: int = shapes.ORDERS,
    seed: int = 0,
) -> dict[str, Any]:
    """The values of keys `paths` and `sensitivity`.

    Args:
        paths: embeddings of the same trajectories, one a training seed.
        test: embeddings of plain instances, one a training seed, for the tasks' centroids and spread; without
            them the trajectories' starts are taken.
        resamples: of datasets and images.
        orders: shuffled, for the null.
        seed: of all that is drawn.

    Raises:
        UserError: no whole trajectory, or seeds with different rows.
    """
    if any(not one.rows.equals(paths[0].rows) for one in paths[1:]):
        raise UserError("trajectories over seeds need embeddings of the same instances")
    whole, left_out = trajectories(paths[0].rows)
    if not whole:
        raise UserError(f"no trajectory of at least {FEWEST} strengths among {len(paths[0].rows)} rows")
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    drawn: list[dict[str, Any]] = []
    for kind in whole:
        grams = [shapes.grams(kind.points(one)) for one in paths]
        drawn += _examples(kind, kind.points(paths[0]), shapes.measure(grams[0]))
        chance = shapes.drawn_orders(len(kind.strengths), orders, seed=seed)
        for category, members in _categories(kind.rows):
            part = [gram[members] for gram in grams]
            groups = Groups(kind.rows[members])
            weights = weights_of(groups, resamples, seed)
            named = {"alteration": kind.alteration, "category": category}
            rows += [named | row for row in _judged(part, chance, weights, groups.units)]
            away = [np.sqrt(np.diagonal(gram, axis1=1, axis2=2)) for gram in part]
            curves.append(
                named
                | {
                    "strengths": list(kind.strengths),
                    "distance": [
                        over(weights, [one[:, place] for one in away], groups.units, least=0)
                        for place in range(len(kind.strengths))
                    ],
                }
            )
    return {
        "paths": {
            "strengths": list(whole[0].strengths),
            "n": sum(kind.rows.height for kind in whole),
            "left_out": left_out,
            "seeds": len(paths),
            "measures": {name: one._asdict() for name, one in shapes.MEASURES.items()},
            "rows": rows,
            "curves": curves,
            "drawn": drawn,
        },
        "sensitivity": sensitivity.measured(whole, paths, test, resamples=resamples, seed=seed),
    }


def _categories(rows: pl.DataFrame) -> Iterator[tuple[str, Any]]:
    named = rows["category"].to_numpy()
    yield ALL, np.arange(len(named))
    for category in dict.fromkeys(named.tolist()):
        yield category, np.flatnonzero(named == category)


def _judged(grams: Sequence[Floats], chance: Any, weights: Floats, datasets: int) -> Iterator[dict[str, Any]]:
    """Each measure with its interval and its null: the mean over seeds and paths, points shuffled."""
    observed = [shapes.measure(gram) for gram in grams]
    null: dict[str, list[float]] = {name: [] for name in shapes.MEASURES}
    for of_seeds in zip(*(shapes.shuffled(gram, chance) for gram in grams), strict=True):
        for name in null:
            null[name].append(float(np.mean([averages(weights[:1], one[name])[0] for one in of_seeds])))
    for name, about in shapes.MEASURES.items():
        found = over(weights, [one[name] for one in observed], datasets, least=about.least, most=about.most)
        other = np.array(null[name])
        other = other[np.isfinite(other)]
        p = low = high = None
        if len(other) and found["value"] is not None:
            sign = 1 if about.best == "high" else -1
            as_good = int(np.sum(sign * other >= sign * found["value"] - 1e-12))
            p = (as_good + 1) / (len(other) + 1)
            low, high = (float(end) for end in np.percentile(other, [2.5, 97.5]))
        yield {
            "measure": name,
            **found,
            "paths": len(grams[0]),
            "null": finite(other.mean()) if len(other) else None,
            "null_low": low,
            "null_high": high,
            "p": p,
        }


def _examples(kind: Trajectories, points: Floats, found: dict[str, Floats]) -> Iterator[dict[str, Any]]:
    """For each category, paths at fixed quantiles of straightness in the plane of their two largest principal
    components: nobody chose them, and they are for looking at only."""
    for category, members in _categories(kind.rows):
        straight = found["straightness"][members]
        known = np.flatnonzero(np.isfinite(straight))
        if category == ALL or not len(known):
            continue
        ranked = known[straight[known].argsort(kind="stable")]
        for place in dict.fromkeys(round(share * (len(ranked) - 1)) for share in _DRAWN):
            member = int(members[ranked[place]])
            centred = points[member] - points[member].mean(axis=0)
            left, size, _ = np.linalg.svd(centred, full_matrices=False)
            plane = left[:, :2] * size[:2]
            plane *= np.where(plane[-1] < plane[0], -1, 1)  # to the right and up, whatever the solver's signs
            row = kind.rows.row(member, named=True)
            yield {
                "alteration": kind.alteration,
                **{name: row[name] for name in ("task", "category", "dataset", "image")},
                "explained": float(np.sum(size[:2] ** 2) / np.sum(size**2)),
                "points": np.round(plane, 5).tolist(),
                **{name: finite(found[name][member]) for name in ("straightness", "monotony", "roughness")},
            }

"""Sensitivity: how far an alteration at full strength moves each task, beside how far its instances lie from
each other, and whether they end in another task's region.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from taco_probe.taco.analysis.cells import centroids
from taco_probe.taco.analysis.resampling import Floats, Groups, averages, estimate, finite, weights_of
from taco_probe.taco.analysis.trajectories import Trajectories
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.plan import SWEEP


def typical(centre: Floats) -> float:
    """Root mean square distance of two unit vectors drawn from a cloud with this mean (K,):
    E|x - y|^2 = 2 (1 - |mean|^2)."""
    return math.sqrt(max(0.0, 2 * (1 - float(centre @ centre))))


def measured(
    whole: Sequence[Trajectories],
    paths: Sequence[Embeddings],
    test: Sequence[Embeddings],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The value of key `sensitivity`; arguments as `paths.measured`.

    A row is a task under an alteration. Its value is `shift` over `typical`: the root mean square distance
    from start to end, over that of two instances of the task, datasets alike in both; above 1, altering an
    instance moves it farther than replacing it by another one. `crossed`, of the paths whose start is nearest
    to its own task's centroid (`of`), is the share whose end is not; `into` says where these end.
    """
    known = []
    for place, embeddings in enumerate(paths):
        plain = test[place].plain if test else _starts(whole, embeddings)
        tasks, centres = centroids(plain)
        known.append(dict(zip(tasks, centres, strict=True)))
    rows = []
    for kind in whole:
        if kind.alteration == SWEEP:  # its start is no instance of the task: input and target are equal
            continue
        for task in dict.fromkeys(kind.rows["task"].to_list()):
            if all(task in centres for centres in known):
                rows.append(_row(kind.of(task), task, paths, known, resamples, seed))
    return {"rows": rows}


def _row(
    kind: Trajectories,
    task: str,
    paths: Sequence[Embeddings],
    known: Sequence[dict[str, Floats]],
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    groups = Groups(kind.rows)
    weights = weights_of(groups, resamples, seed)
    shifts, scales, crossed, judged, into = [], [], [], 0, Counter[str]()
    for embeddings, centres in zip(paths, known, strict=True):
        points = kind.points(embeddings)
        start, end = points[:, 0], points[:, -1]
        shifts.append(np.sqrt(averages(weights, np.sum((end - start) ** 2, axis=1))))
        scales.append(max(typical(centres[task]), 1e-12))
        before, after = nearest(start, centres), nearest(end, centres)
        own = [name == task for name in before]
        ends = [name for name, kept in zip(after, own, strict=True) if kept]
        judged += len(ends)
        crossed += [name != task for name in ends]
        into.update(name for name in ends if name != task)
    found = estimate(
        [shift[0] / scale for shift, scale in zip(shifts, scales, strict=True)],
        [shift[1:] / scale for shift, scale in zip(shifts, scales, strict=True)],
        groups.units,
        least=0,
    )
    return {
        "task": task,
        "category": kind.rows["category"][0],
        "alteration": kind.alteration,
        "shift": finite(np.mean([shift[0] for shift in shifts])),
        "typical": float(np.mean(scales)),
        **found,
        "crossed": float(np.mean(crossed)) if crossed else None,
        "of": judged,
        "into": {name: number / into.total() for name, number in into.most_common()},
        "paths": kind.rows.height,
    }


def nearest(points: Floats, centres: dict[str, Floats]) -> list[str]:
    """The task whose centroid has the largest cosine with each point (A, K)."""
    names = list(centres)
    directions = np.array([centre / max(float(np.linalg.norm(centre)), 1e-12) for centre in centres.values()])
    return [names[place] for place in (points @ directions.T).argmax(axis=1)]


def _starts(whole: Sequence[Trajectories], embeddings: Embeddings) -> Embeddings:
    """The starts of all paths, each once."""
    numbers = np.unique(np.concatenate([kind.numbers[:, 0] for kind in whole]))
    return Embeddings(embeddings.vectors[numbers], embeddings.rows[numbers])

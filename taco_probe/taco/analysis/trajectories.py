"""The trajectories among a pool's rows: instances altered step by step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl

from data_recipes.errors import UserError
from taco_probe.taco.analysis.resampling import Floats, Numbers
from taco_probe.taco.embeddings import Embeddings

FEWEST = 4  # points of a path


@dataclass(frozen=True)
class Trajectories:
    """All whole paths of one alteration.

    Attributes:
        alteration: its name.
        strengths: P, increasing.
        rows: A rows of the pool, the starts.
        numbers: (A, P) row numbers of the points in the embeddings.
    """

    alteration: str
    strengths: tuple[float, ...]
    rows: pl.DataFrame
    numbers: Numbers

    def points(self, embeddings: Embeddings) -> Floats:
        """(A, P, K) unit vectors."""
        return np.asarray(embeddings.unit[self.numbers], dtype=np.float64)

    def of(self, task: str) -> Trajectories:
        """Those of one task."""
        kept = np.flatnonzero((self.rows["task"] == task).to_numpy())
        return Trajectories(self.alteration, self.strengths, self.rows[kept], self.numbers[kept])


def trajectories(rows: pl.DataFrame) -> tuple[list[Trajectories], int]:
    """The paths in a pool's rows, an item an alteration, and how many were left out because they are not as
    long as most of their alteration.

    Rows of one `anchor` and `alteration` are a path, in the order of `altered_by`. The anchor itself is its
    start unless a row of strength 0 is there.

    Raises:
        UserError: two rows of one path have the same strength.
    """
    listed = rows.with_row_index("_row").filter(pl.col("anchor") >= 0, pl.col("alteration") != "")
    found: dict[str, list[tuple[tuple[float, ...], list[int]]]] = {}
    groups = listed.sort("altered_by", "_row").group_by("alteration", "anchor", maintain_order=True)
    for (alteration, anchor), group in sorted(groups, key=lambda pair: pair[0]):
        by, numbers = group["altered_by"].to_list(), group["_row"].to_list()
        if by[0] > 0 and anchor < rows.height:
            by, numbers = [0.0, *by], [anchor, *numbers]
        if len(set(by)) < len(by):
            raise UserError(f"trajectory {alteration} of row {anchor} has a strength twice")
        found.setdefault(str(alteration), []).append((tuple(round(one, 6) for one in by), numbers))
    whole, left_out = [], 0
    for alteration, members in found.items():
        usual = Counter(strengths for strengths, _ in members).most_common(1)[0][0]
        kept = [numbers for strengths, numbers in members if strengths == usual]
        left_out += len(members) - len(kept)
        if len(usual) >= FEWEST:
            points = np.array(kept, dtype=np.intp)
            whole.append(Trajectories(alteration, usual, rows[points[:, 0]], points))
        else:
            left_out += len(kept)
    return whole, left_out

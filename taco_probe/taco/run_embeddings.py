"""What runs of `imax taco train` know: the pools that they share, and their test pool, embedded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_recipes.errors import UserError
from taco_probe.taco.embed import embed
from taco_probe.taco.embeddings import Embeddings, open_embeddings
from taco_probe.taco.plan import Part
from taco_probe.taco.pool import Pool
from taco_probe.taco.pools import pool_of

FOLDER = "embeddings"


def run_embeddings(run: Path) -> Embeddings:
    """The run's test pool as its encoder sees it, from RUN/embeddings where they lie there whole.

    Raises:
        UserError: no run there, not finished, or its pool is gone.
    """
    pool = pool_of(run, "test")
    try:
        found = open_embeddings(run / FOLDER, "test")
        if found.rows.equals(pool.rows):
            return found
    except UserError:
        pass
    found = embed(run, pool, quiet=False)
    found.save(run / FOLDER, "test")
    return found


def same_pools(runs: Sequence[Path]) -> tuple[Pool, Pool]:
    """The training and the test pool of runs.

    Raises:
        UserError: no run, or runs of different instances.
    """
    if not runs:
        raise UserError("name at least one run")
    parts: tuple[Part, Part] = ("train", "test")
    first = [pool_of(runs[0], part) for part in parts]
    for run in runs[1:]:
        for part, pool in zip(parts, first, strict=True):
            if not pool_of(run, part).rows.equals(pool.rows):
                raise UserError(
                    f"{run} has another {part} pool than {runs[0]}: only runs that share can be compared"
                )
    return first[0], first[1]

"""What a run of `imax taco train` knows, embedded once and kept in its folder."""

from __future__ import annotations

from pathlib import Path

from data_recipes.errors import UserError
from taco_probe.taco.embed import embed
from taco_probe.taco.embeddings import Embeddings, open_embeddings
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

"""Folders as finished runs leave them, with planted embeddings and no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from taco_probe.taco.analysis.runs import Run, digest, pool_name
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.pool import COLUMNS, Pool
from taco_probe.taco.pools import write_places
from taco_probe.taco.settings import write_settings
from taco_probe.taco.training import SETTINGS, WEIGHTS
from tests.taco_probe.taco.analysis.planted import planted
from tests.taco_probe.taco.factories import tiny

DATASETS = {"datasets": ("d0", "d1", "d2", "d3"), "held_out": ("d4", "d5", "d6", "d7")}


def save_pool(pool: Pool, folder: Path) -> Path:
    """As `open_pool` reads it."""
    folder.mkdir(parents=True)
    np.save(folder / "inputs.npy", pool.inputs)
    np.save(folder / "targets.npy", pool.targets)
    pool.rows.write_parquet(folder / "rows.parquet")
    return folder


def pools(home: Path, rows: pl.DataFrame, seed: int = 0) -> dict[Any, Path]:
    """Pools of noise with these rows for measuring, and without trajectories."""
    rng = np.random.default_rng(seed)
    pairs = rng.integers(256, size=(2, rows.height, 32, 32, 3)).astype(np.uint8)
    nothing = Pool(pairs[0][:0], pairs[1][:0], pl.DataFrame(schema=COLUMNS))
    return {
        "test": save_pool(Pool(pairs[0], pairs[1], rows), home / "test"),
        "paths": save_pool(nothing, home / "paths"),
    }


def planted_run(
    folder: Path,
    places: dict[Any, Path],
    strengths: dict[str, float],
    *,
    kept: np.ndarray | None = None,
    **changes: Any,
) -> Path:
    """A run whose embeddings are planted by the run's seed, on pools of `pools`; `kept` of `planted_rows`
    are the pools' rows."""
    settings = tiny(**(DATASETS | changes))
    folder.mkdir(parents=True)
    write_settings(settings, folder / SETTINGS)
    write_places(places, folder)
    (folder / WEIGHTS).write_bytes(str(settings).encode())
    run = Run(folder, settings)
    shapes = {"tasks": 6, "datasets": 8, "images": 4, "failed": 0.3}
    found = planted(**shapes, **strengths, seed=settings.seed)  # type: ignore[arg-type]
    vectors = found.vectors if kept is None else found.vectors[kept]
    keep(run, "test", Embeddings(vectors, run.pool("test").rows))
    return folder


def keep(run: Run, part: Any, embeddings: Embeddings) -> None:
    """As if the run's encoder had given these."""
    made_of = {"encoder": digest(run.folder / WEIGHTS), "pool": pool_name(run.folder, part)}
    run.kept(part, made_of, lambda: embeddings)


def planted_rows() -> pl.DataFrame:
    """Rows of the pools; two datasets that are held out are of photographs."""
    rows = planted(tasks=6, datasets=8, images=4, failed=0.3).rows
    photograph = pl.when(pl.col("dataset").is_in(["d6", "d7"])).then(pl.lit("photograph"))
    return rows.with_columns(modality=photograph.otherwise("modality"))

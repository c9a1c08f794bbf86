"""Embeddings of a pool's instances, and the file they lie in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_recipes.errors import UserError
from taco_probe.taco.pool import PLAIN

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Embeddings:
    """vectors: (N, D) float32, not normalised; rows: N rows as in `pool.COLUMNS`."""

    vectors: Vectors
    rows: pl.DataFrame

    def __post_init__(self) -> None:
        """Raises UserError: numbers do not fit, or a vector is not finite."""
        if len(self.vectors) != self.rows.height:
            raise UserError(f"{len(self.vectors)} vectors for {self.rows.height} rows")
        if not np.isfinite(self.vectors).all():
            raise UserError("an embedding is not finite: the encoder's weights are broken")

    @property
    def unit(self) -> Vectors:
        """(N, D) vectors of length 1; cosine similarity is their product."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return np.asarray(self.vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

    def where(self, *conditions: pl.Expr) -> Embeddings:
        """The rows that all conditions hold for."""
        kept = self.rows.with_row_index("_row").filter(*conditions)
        return Embeddings(self.vectors[kept["_row"].to_numpy()], kept.drop("_row"))

    @property
    def plain(self) -> Embeddings:
        """Instances as their tasks make them, neither failed nor altered."""
        return self.where(*PLAIN)

    def save(self, folder: Path, name: str) -> None:
        """Writes NAME.npy and NAME.parquet."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", self.vectors, allow_pickle=False)
        self.rows.write_parquet(folder / f"{name}.parquet")


def open_embeddings(folder: Path, name: str) -> Embeddings:
    """What `save` wrote.

    Raises:
        UserError: it is not there, or not whole.
    """
    try:
        vectors = np.load(folder / f"{name}.npy", allow_pickle=False)
        rows = pl.read_parquet(folder / f"{name}.parquet")
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{folder} holds no embeddings {name}: {' '.join(str(error).split())}") from None
    return Embeddings(vectors, rows)

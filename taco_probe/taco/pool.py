"""Instances made once and kept: what encoders are trained on and what is embedded.

A pool is a folder: inputs.npy and targets.npy (N, S, S, 3) uint8, read through a memory map; rows.parquet, a
row an instance; pool.json, what it was made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from numpy.typing import NDArray

from data_recipes.errors import UserError

# A row: what its instance is. `origin` names the pictures or patients that the dataset is of: datasets of one
# origin are no independent samples. `failure` and `alteration` are "" for an instance as its task makes it;
# `anchor` is the number of the row that an altered instance was made from, -1 for others.
COLUMNS: dict[str, Any] = {
    "task": pl.String, "category": pl.String, "dataset": pl.String, "origin": pl.String,
    "modality": pl.String, "image": pl.String, "strength": pl.Float64, "failure": pl.String,
    "alteration": pl.String, "altered_by": pl.Float64, "anchor": pl.Int64, "seed": pl.Int64,
}  # fmt: skip

# Conditions of rows: instances as their tasks make them, neither failed nor altered.
PLAIN = (pl.col("failure") == "", pl.col("alteration") == "")


@dataclass(frozen=True)
class Pool:
    """N instances.

    Attributes:
        inputs, targets: (N, S, S, 3) uint8; grey images have three equal channels.
        rows: N rows of COLUMNS.
    """

    inputs: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    rows: pl.DataFrame

    def __post_init__(self) -> None:
        """Raises UserError: numbers or names of rows do not fit."""
        if not len(self.inputs) == len(self.targets) == self.rows.height:
            raise UserError(
                f"a pool of {len(self.inputs)} inputs, {len(self.targets)} targets, {self.rows.height} rows"
            )
        if missing := [name for name in COLUMNS if name not in self.rows.columns]:
            raise UserError(f"a pool without column {missing[0]}")

    def __len__(self) -> int:
        return self.rows.height

    def in_memory(self, share: float = 0.25) -> Pool:
        """With its pixels in memory, where they take at most this share of what is free: rows drawn at random
        from a disk whose pages are not cached are slower than an encoder."""
        if self.inputs.nbytes + self.targets.nbytes > share * psutil.virtual_memory().available:
            return self
        return Pool(np.array(self.inputs), np.array(self.targets), self.rows)


def open_pool(folder: Path) -> Pool:
    """A pool from disk; pixels stay there until they are asked for.

    Raises:
        UserError: no pool there, or one that is not whole.
    """
    try:
        inputs = np.load(folder / "inputs.npy", mmap_mode="r", allow_pickle=False)
        targets = np.load(folder / "targets.npy", mmap_mode="r", allow_pickle=False)
        rows = pl.read_parquet(folder / "rows.parquet")
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise UserError(
            f"{folder} holds no whole pool of instances: {' '.join(str(error).split())}"
        ) from None
    return Pool(inputs, targets, rows)

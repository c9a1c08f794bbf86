"""What an encoder is shown of a pair: all of it, or as a control a part of it. The one place where views are
made, for training and for embedding alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from taco_probe.taco.pool import Pool
from taco_probe.taco.settings import View


class Pairs(NamedTuple):
    """inputs, targets: (B, 3, S, S) uint8."""

    inputs: torch.Tensor
    targets: torch.Tensor


class Shown:
    """The pairs of a pool as a view shows them.

    `input` and `target` show the one image in both places, so that every fusion sees it and nothing else.
    `shuffled` gives each input the target of another instance of the same dataset, of any task.
    """

    def __init__(self, pool: Pool, view: View, seed: int) -> None:
        """
        Args:
            seed: of the shuffling.
        """
        self._inputs = pool.targets if view == "target" else pool.inputs
        self._targets = pool.inputs if view == "input" else pool.targets
        datasets = pool.rows["dataset"].to_numpy()
        self._partner = partners(datasets, seed) if view == "shuffled" else np.arange(len(pool))

    def __getitem__(self, rows: NDArray[np.int64]) -> Pairs:
        """The pairs of these rows."""
        return Pairs(_read(self._inputs, rows), _read(self._targets, self._partner[rows]))


def partners(datasets: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """For each row another row of the same dataset, each row once; only the row of a dataset of one is its
    own."""
    rng = np.random.default_rng(seed)
    found = np.arange(len(datasets))
    for name in np.unique(datasets):
        order = rng.permutation(np.flatnonzero(datasets == name))
        found[order] = np.roll(order, 1)  # one cycle: nothing stays in its place
    return found


def _read(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(images[rows]).permute(0, 3, 1, 2)

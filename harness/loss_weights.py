"""How much each entry counts in the loss. The same on shared and on separate sequences, and for any batch.

A step's loss is the sum of weight x cross entropy over its trained tokens, by the sum of their weights; step
and sums run over all micro-batches and processes. An entry's weight depends on the training split only:

- token: 1, the mean over tokens, as transformers.Trainer takes it; long answers count most
- entry: 1 / tokens of the answer; each entry counts alike
- root: 1 / sqrt(entries of the image); images with many entries count less (as in Molmo, arXiv 2409.17146)
- task: 1 / (tokens of the answer x entries of the task); each task counts alike

Legend: N trained tokens, E entries, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

LOSS_WEIGHTINGS = ("token", "entry", "root", "task")


class LossWeights:
    """Weights of trained tokens.

    Args:
        kind: one of LOSS_WEIGHTINGS.
        task_entries: entries of each task in the training split (T).
    """

    def __init__(self, kind: str, task_entries: Sequence[int]) -> None:
        assert kind in LOSS_WEIGHTINGS, kind
        self._kind = kind
        # A task of the validation split may have no training entry.
        self._task_entries = torch.tensor(task_entries, dtype=torch.float32).clamp(min=1)

    def __call__(self, entry: torch.Tensor, task_id: torch.Tensor, siblings: torch.Tensor) -> torch.Tensor:
        """Weights (N,) of trained tokens in float32.

        Args:
            entry: which entry of the batch each belongs to (N,).
            task_id: of each entry (E,).
            siblings: training entries of its image, itself among them (E,).
        """
        if self._kind == "token":
            return torch.ones(len(entry), device=entry.device)
        if self._kind == "root":
            return siblings.float().rsqrt()[entry]
        tokens = torch.bincount(entry, minlength=len(task_id)).clamp(min=1)
        if self._kind == "task":
            tokens = tokens * self._task_entries.to(entry.device)[task_id]
        return 1 / tokens.float()[entry]

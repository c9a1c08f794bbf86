"""The loss of each entry of a batch, for observed targets or for targets that the model itself draws.

Gradients at observed targets give the *empirical* Fisher matrix. The *true* Fisher matrix is the expectation
over targets drawn from the model: here token by token, given the observed tokens before (teacher forcing), so
one draw is one more backward pass and the inputs stay the same.

Legend: B rows, E entries, L tokens, K of their places, V vocabulary, N trained tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from data_recipes.errors import UserError, unknown
from model_adapters.base import IGNORE
from model_adapters.losses import predicts, token_losses

REDUCTIONS = ("token_mean", "token_sum")
FISHERS = ("empirical", "true")
_FACTS = ("labels", "number", "entry", "task_id", "siblings", "tokens", "image_number")  # not for the model


class EntryLosses:
    """Cross entropy of each entry's answer.

    "token_sum" is what an entry adds to the training loss under `--loss_weighting token` (up to the number of
    tokens of the step), "token_mean" under `--loss_weighting entry`. The two have different gradients: long
    answers count more in the first.

    Args:
        reduction: one of REDUCTIONS.
        fisher: one of FISHERS.
        seed: of the drawn targets ("true"); the same seed draws the same for the same entries and batches.

    Attributes:
        label: what was measured, for reports: "empirical Fisher, token_mean".
    """

    def __init__(self, reduction: str = "token_mean", *, fisher: str = "empirical", seed: int = 0) -> None:
        if reduction not in REDUCTIONS:
            raise unknown("reduction", reduction, REDUCTIONS)
        if fisher not in FISHERS:
            raise unknown("fisher", fisher, FISHERS)
        self.label = f"{fisher} Fisher, {reduction}" + (f", draw {seed}" if fisher == "true" else "")
        self._mean, self._draws, self._seed = reduction == "token_mean", fisher == "true", seed

    def __call__(self, model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Losses (E,) of a batch of `Adapter.collate` or of `batches.Encoded`, shared sequences or not.

        Raises:
            UserError: the batch shares sequences and has no mask yet, or an entry has no trained token.
        """
        if "owner" in batch:
            raise UserError(
                "entries of this batch share a sequence, and it has no mask that keeps them apart: make it "
                "with batches.Encoded.shared_batch, or measure without sharing (--sharing none)"
            )
        labels = batch["labels"]
        places = predicts(labels)
        fed = {key: value for key, value in batch.items() if key not in _FACTS}
        logits = model(**fed, use_cache=False, logits_to_keep=places).logits
        targets, owners = labels[:, places + 1], entry_of(batch)[:, places + 1]
        if self._draws:
            targets = self._drawn(logits, targets, owners, batch["number"])
        losses, of = token_losses(logits, targets, owners)
        count = entries_of(batch)
        tokens = torch.bincount(of, minlength=count)
        if not tokens.all():
            raise UserError(f"entry {int((tokens == 0).nonzero()[0])} of the batch has no trained token")
        total = losses.new_zeros(count).index_add(0, of, losses)
        return total / tokens if self._mean else total

    def _drawn(
        self, logits: torch.Tensor, targets: torch.Tensor, owners: torch.Tensor, numbers: torch.Tensor
    ) -> torch.Tensor:
        """Targets (B, K) drawn from the model where something is trained: the inverse of its distribution
        function at uniform numbers that depend on the seed and the entry's number, whatever the batch."""
        drawn = targets.clone()
        for entry, number in enumerate(numbers.tolist()):
            trained = (targets != IGNORE) & (owners == entry)
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + number)
            uniform = torch.rand(int(trained.sum()), 1, generator=generator, dtype=torch.float64)
            mass = logits.detach()[trained].double().softmax(-1).cumsum(-1)
            place = torch.searchsorted(mass, uniform.to(mass.device) * mass[:, -1:])
            drawn[trained] = place[:, 0].clamp(max=logits.shape[-1] - 1)
        return drawn


def entry_of(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The number in the batch of the entry that each token belongs to (B, L); below 0, none or all."""
    if "entry" in batch:
        return batch["entry"]
    ids = batch["input_ids"]
    return torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)


def entries_of(batch: Mapping[str, torch.Tensor]) -> int:
    """E, how many entries a batch has; more than rows where they share sequences."""
    return int(batch["entry"].max()) + 1 if "entry" in batch else len(batch["input_ids"])


def image_rows(image_id: int) -> Callable[[Mapping[str, torch.Tensor]], torch.Tensor]:
    """For `gram.measure`: how many tokens of its image each entry of a batch has (B,)."""

    def count(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (batch["input_ids"] == image_id).sum(1)

    return count

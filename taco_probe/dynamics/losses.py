"""The loss of each entry of a batch, for observed targets or for targets that the model itself draws.

Gradients at observed targets give the *empirical* Fisher matrix. The *true* Fisher matrix is the expectation
over targets drawn from the model: here token by token, given the observed tokens before (teacher forcing), so
one draw is one more backward pass and the inputs stay the same.

Legend: B entries (rows), L tokens, K of their places, V vocabulary, N trained tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from data_recipes.errors import UserError, unknown
from model_adapters.adapter import Adapter
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
        """Losses (B,) of a batch of `Adapter.collate` or of the harness's collator.

        Raises:
            UserError: the batch shares sequences between entries, or an entry has no trained token.
        """
        if "owner" in batch:
            raise UserError(
                "entries of this batch share a sequence: a token of the shared prefix belongs to all of "
                "them, so an entry's gradient is not that of its own tokens. Measure on a batch without "
                "sharing (--sharing none)"
            )
        labels = batch["labels"]
        rows = torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels)
        return self._by_entry(model, batch, rows, batch.get("number"))

    def of_shared(self, model: Any, batch: Mapping[str, torch.Tensor], adapter: Adapter) -> torch.Tensor:
        """Losses of the entries of a batch of `Adapter.collate_shared`, in their order: the same numbers as
        without sharing, for much less. Their gradients cannot be told apart; drawn targets are refused."""
        assert not self._draws, "targets are drawn for a sequence each"
        return self._by_entry(model, adapter.with_mask(batch, model), batch["owner"])

    def _by_entry(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        entry: torch.Tensor,
        numbers: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Losses by entry, where `entry` (B, L) says whose each token is."""
        labels = inputs["labels"]
        places = predicts(labels)
        fed = {key: value for key, value in inputs.items() if key not in _FACTS}
        logits = model(**fed, use_cache=False, logits_to_keep=places).logits
        targets = labels[:, places + 1]
        if self._draws:
            assert numbers is not None
            targets = self._drawn(logits, targets, numbers)
        losses, of = token_losses(logits, targets, entry[:, places + 1])
        count = int(entry.max()) + 1
        tokens = torch.bincount(of, minlength=count)
        if not tokens.all():
            raise UserError(f"entry {int((tokens == 0).nonzero()[0])} of the batch has no trained token")
        total = losses.new_zeros(count).index_add(0, of, losses)
        return total / tokens if self._mean else total

    def _drawn(self, logits: torch.Tensor, targets: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Targets (B, K) drawn from the model where something is trained: the inverse of its distribution
        function at uniform numbers that depend on the seed and the entry's number, whatever the batch."""
        drawn = targets.clone()
        for row, scores in enumerate(logits.detach()):
            trained = targets[row] != IGNORE
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + int(numbers[row]))
            uniform = torch.rand(int(trained.sum()), 1, generator=generator, dtype=torch.float64)
            mass = scores[trained].double().softmax(-1).cumsum(-1)
            place = torch.searchsorted(mass, uniform.to(mass.device) * mass[:, -1:])
            drawn[row, trained] = place[:, 0].clamp(max=scores.shape[-1] - 1)
        return drawn


def image_rows(image_id: int) -> Callable[[Mapping[str, torch.Tensor]], torch.Tensor]:
    """For `gram.measure`: how many tokens of its image each entry of a batch has (B,)."""

    def count(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return (batch["input_ids"] == image_id).sum(1)

    return count

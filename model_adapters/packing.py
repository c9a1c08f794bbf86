"""Shared-image sequences: `[prefix with the image] [branch 1] ... [branch K]`, so that the image is encoded
once.

Each branch sees the prefix and itself, causally, and its positions go on from the end of the prefix, as if it
were alone. Logits and gradients equal those of K separate sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from model_adapters.base import IGNORE

PREFIX, PADDING = 0, -1
HIDDEN = torch.finfo(torch.bfloat16).min  # as good as minus infinity, and finite in float32 and bfloat16


class Branch(NamedTuple):
    """What follows the prefix: the rest of a prompt (not trained) and its answer (trained)."""

    prompt: Sequence[int]
    answer: Sequence[int]


class Shared(NamedTuple):
    """One shared sequence; all (L,). `segments` is PREFIX, then 1, 2, ... by branch."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor


def share(prefix: Sequence[int], branches: Sequence[Branch]) -> Shared:
    """Packs branches behind one prefix."""
    ids, labels = list(prefix), [IGNORE] * len(prefix)
    positions, segments = list(range(len(prefix))), [PREFIX] * len(prefix)
    for number, branch in enumerate(branches, start=1):
        assert branch.prompt, "the first token of a branch cannot be trained"
        length = len(branch.prompt) + len(branch.answer)
        ids += [*branch.prompt, *branch.answer]
        labels += [IGNORE] * len(branch.prompt) + list(branch.answer)
        positions += range(len(prefix), len(prefix) + length)
        segments += [number] * length
    return Shared(*map(torch.tensor, (ids, labels, positions, segments)))


def batch(sequences: Sequence[Shared], *, pad_id: int) -> dict[str, torch.Tensor]:
    """Shared sequences as model inputs, padded at the right to (B, L).

    attention_mask is (B, 1, L, L) and added to the attention scores. It holds numbers, because the eager
    implementation would add bools, too.

    A label belongs to its own token and is predicted from the token before it. That is its neighbour, except
    for the first token of a branch, so a branch needs a prompt.
    """
    fills = (pad_id, IGNORE, 0, PADDING)
    ids, labels, positions, segments = (
        torch.nn.utils.rnn.pad_sequence(list(field), batch_first=True, padding_value=fill)
        for field, fill in zip(zip(*sequences, strict=True), fills, strict=True)
    )
    return {
        "input_ids": ids,
        "labels": labels,
        "position_ids": positions,
        "attention_mask": torch.where(visible(segments)[:, None], 0.0, HIDDEN),
    }


def visible(segments: torch.Tensor) -> torch.Tensor:
    """(B, L) segments -> (B, L, L) bool: causal, own segment or prefix. Padding sees itself, so no row is
    empty."""
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    return causal & ((key == query) | (key == PREFIX))

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
        length = len(branch.prompt) + len(branch.answer)
        ids += [*branch.prompt, *branch.answer]
        labels += [IGNORE] * len(branch.prompt) + list(branch.answer)
        positions += range(len(prefix), len(prefix) + length)
        segments += [number] * length
    return Shared(*map(torch.tensor, (ids, labels, positions, segments)))


def batch(sequences: Sequence[Shared], *, pad_id: int) -> dict[str, torch.Tensor]:
    """Shared sequences as model inputs, padded at the right to (B, L); attention_mask is bool (B, 1, L, L),
    true where a token may look. `labels` are unshifted: the token at i is predicted from the one before it in
    its branch, which for the first token of a branch is not the one at i - 1, so a branch begins with an
    untrained token."""
    fills = (pad_id, IGNORE, 0, PADDING)
    ids, labels, positions, segments = (
        torch.nn.utils.rnn.pad_sequence(list(field), batch_first=True, padding_value=fill)
        for field, fill in zip(zip(*sequences, strict=True), fills, strict=True)
    )
    return {
        "input_ids": ids,
        "labels": labels,
        "position_ids": positions,
        "attention_mask": visible(segments)[:, None],
    }


def visible(segments: torch.Tensor) -> torch.Tensor:
    """(B, L) segments -> (B, L, L) bool: causal, own segment or prefix. Padding sees itself, so no row is
    empty."""
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    return causal & ((key == query) | (key == PREFIX))

"""Shared-image sequences: `[prefix with the image] [entry 1] ... [entry K]`; the image is encoded once.

Each entry sees the prefix and itself, causally, and its positions go on from the end of the prefix, as if it
were alone. Logits and gradients equal those of K separate sequences. (Molmo, arXiv 2409.17146, trains so on
its own architecture.)

Legend: B rows, L tokens of a row, A position axes (no such dimension for one axis).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch.nn.attention.flex_attention import BlockMask

from data_recipes.errors import UserError
from model_adapters import block_attention
from model_adapters.base import IGNORE

PREFIX, PADDING = -1, -2  # owners that are no entry
LAYOUT = ("owner", "image")  # the inputs that `visible` turns into a mask

# input_ids (L,) and what belongs to the image -> positions (A, L) of the entry alone
Positions = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]


class Branch(NamedTuple):
    """What follows the prefix: the rest of a prompt (not trained) and its answer (trained)."""

    prompt: Sequence[int]
    answer: Sequence[int]


class Shared(NamedTuple):
    """One shared sequence: all (L,), but position_ids may be (A, L). `owner` is PREFIX, or the number of the
    entry that a token belongs to."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    owner: torch.Tensor


def share(prefix: Sequence[int], branches: Sequence[Branch], positions: torch.Tensor | None = None) -> Shared:
    """Packs branches behind one prefix. `positions` (L,) or (A, L) are those of the prefix and of what
    follows it, as far as the longest branch; by default tokens are counted."""
    ids, labels = list(prefix), [IGNORE] * len(prefix)
    places, owner = list(range(len(prefix))), [PREFIX] * len(prefix)
    for number, branch in enumerate(branches):
        assert branch.prompt, "the first token of a branch cannot be trained"
        length = len(branch.prompt) + len(branch.answer)
        ids += [*branch.prompt, *branch.answer]
        labels += [IGNORE] * len(branch.prompt) + list(branch.answer)
        places += range(len(prefix), len(prefix) + length)
        owner += [number] * length
    where = torch.tensor(places)
    return Shared(
        torch.tensor(ids),
        torch.tensor(labels),
        where if positions is None else positions[..., where],
        torch.tensor(owner),
    )


def share_entries(
    features: Sequence[Mapping[str, torch.Tensor]],
    *,
    image_id: int,
    positions: Positions,
    first: int = 0,
) -> Shared:
    """Packs encoded entries of one image behind what they have in common.

    The prefix ends before the first token that differs, and before the last token of any prompt: that token
    predicts the first of its answer, and there are as many of these as entries.

    Args:
        features: what `Adapter.encode` gives, with targets or without: input_ids, labels (L,).
        first: the number of the first entry.

    Raises:
        UserError: the image is no part of what the entries have in common.
    """
    whole = [feature["input_ids"] for feature in features]
    length = common(whole)
    labels = [feature.get("labels", torch.full_like(feature["input_ids"], IGNORE)) for feature in features]
    for answer in labels:
        trained = (answer != IGNORE).nonzero()
        length = min(length, int(trained[0] if len(trained) else len(answer)) - 1)
    if (whole[0][length:] == image_id).any():
        raise UserError(
            "the chat template writes the question before the image, so entries cannot share the image: "
            "--sharing none"
        )
    where = [positions(feature) for feature in features]
    owner = [torch.full((len(ids) - length,), first + number) for number, ids in enumerate(whole)]
    return Shared(
        torch.cat([whole[0][:length], *(ids[length:] for ids in whole)]),
        torch.cat([torch.full((length,), IGNORE), *(answer[length:] for answer in labels)]),
        torch.cat([where[0][..., :length], *(one[..., length:] for one in where)], dim=-1),
        torch.cat([torch.full((length,), PREFIX), *owner]),
    )


def common(sequences: Sequence[torch.Tensor]) -> int:
    """The length of the longest common prefix."""
    shortest = min(map(len, sequences))
    same = torch.ones(shortest, dtype=torch.bool)
    for other in sequences[1:]:
        same &= sequences[0][:shortest] == other[:shortest]
    return int(same.int().cumprod(0).sum())


def part_sizes(sequences: Sequence[torch.Tensor], *, image_id: int, max_tokens: int) -> list[int]:
    """How many of the entries (ids of one image, in order) go into each shared sequence of at most
    `max_tokens` tokens. An entry that is longer alone has a sequence of its own; none is lost.

    Counts as if the prefix ended with the image, so a part may turn out a little shorter.
    """
    prefix = int((sequences[0] == image_id).nonzero().max()) + 1
    sizes, used = [0], prefix
    for ids in sequences:
        if sizes[-1] and used + len(ids) - prefix > max_tokens:
            sizes.append(0)
            used = prefix
        sizes[-1] += 1
        used += len(ids) - prefix
    return sizes


def fill(sequences: Iterable[Shared], row_tokens: int) -> list[list[Shared]]:
    """Sequences into rows of at most `row_tokens` tokens, in order; a longer one has a row of its own."""
    rows: list[list[Shared]] = []
    used = 0
    for sequence in sequences:
        if not rows or used + len(sequence.owner) > row_tokens:
            rows.append([])
            used = 0
        rows[-1].append(sequence)
        used += len(sequence.owner)
    return rows


def batch(rows: Sequence[Sequence[Shared]], *, pad_id: int) -> dict[str, torch.Tensor]:
    """Rows of shared sequences as model inputs, padded at the right.

    input_ids, labels, owner and image (number of the sequence in its row, from 1) are (B, L), position_ids
    (B, L) or (A, B, L). `with_mask` makes the mask of owner and image.
    """
    joined = [[torch.cat(parts, dim=-1) for parts in zip(*row, strict=True)] for row in rows]
    images = [
        torch.cat([torch.full_like(sequence.owner, number) for number, sequence in enumerate(row, start=1)])
        for row in rows
    ]
    ids, labels, positions, owner = zip(*joined, strict=True)
    padded = pad([one.movedim(-1, 0) for one in positions], 0)  # (B, L) or (B, L, A)
    return {
        "input_ids": pad(ids, pad_id),
        "labels": pad(labels, IGNORE),
        "position_ids": padded if padded.ndim == 2 else padded.movedim(-1, 0),
        "owner": pad(owner, PADDING),
        "image": pad(images, 0),
    }


def pad(values: Sequence[torch.Tensor], fill_value: int) -> torch.Tensor:
    """(B, L, ...) of values (L, ...) of several lengths."""
    return torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True, padding_value=fill_value)


def visible(
    owner: torch.Tensor,
    image: torch.Tensor,
    key_owner: torch.Tensor | None = None,
    key_image: torch.Tensor | None = None,
) -> torch.Tensor:
    """(B, L) owners and images -> (B, L, L) bool, query by key: causal, in the same sequence, and of the
    prefix or the same entry. Padding sees padding, so no row is empty.

    With owners and images (B, K) of keys, the queries are the last L of these, and the result is (B, L, K).
    """
    key_owner = owner if key_owner is None else key_owner
    key_image = image if key_image is None else key_image
    length, keys = owner.shape[1], key_owner.shape[1]
    causal = torch.ones(length, keys, dtype=torch.bool, device=owner.device).tril(keys - length)
    same_image = image[:, :, None] == key_image[:, None, :]
    key = key_owner[:, None, :]
    return causal & same_image & ((key == PREFIX) | (key == owner[:, :, None]))


def for_attention(kind: str, dtype: torch.dtype, mask: torch.Tensor) -> torch.Tensor | BlockMask:
    """Who sees whom (B, L, K) as an implementation of attention reads it: bools (B, 1, L, K) for SDPA, blocks
    for FlexAttention, numbers (B, 1, L, K) to add to the scores for eager attention."""
    if kind == block_attention.NAME:
        return block_attention.block_mask(mask)
    mask = mask[:, None]
    if kind == "sdpa":
        return mask
    return torch.where(mask, 0.0, torch.finfo(dtype).min).to(dtype)

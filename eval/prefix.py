"""Decoding in which all questions about an image share its keys and values.

A row of the batch is an image, laid out as in training (`model_adapters.packing`):
`[prefix with the image] [question 1] ... [question K]`. The image is encoded once and stands in the cache
once. Each step feeds a row one token of every question still under way; it sees the prefix, its question and
its own answer so far, and its position is the one it would have alone. So the answers are those of one
question at a time, in any family.
(Hydragen, arXiv 2402.05099, shares a prefix so for text.)

Legend: N rows, L tokens in the cache, Q queries of a row in a step, E questions, A of them under way,
V vocabulary. Position ids have a dimension of axes in front where the model counts on several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from model_adapters import packing
from model_adapters.adapter import Adapter

Groups = Sequence[Sequence[Mapping[str, torch.Tensor]]]


class Decoded(NamedTuple):
    """The answer to one question.

    Attributes:
        number: of the question, counted through all groups.
        ids: (T,), on the CPU, the end of the answer included.
        log_probability: mean over the T tokens of log p(token | what stands before it), natural logarithm, at
            temperature 1 whatever it was drawn at.
    """

    number: int
    ids: torch.Tensor
    log_probability: float


def greedy(
    model: PreTrainedModel, adapter: Adapter, groups: Groups, limits: Sequence[int]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Answers questions, the likeliest token at each step, nothing else: a checkpoint's own wishes for
    sampling or penalties on repetition are left aside.

    Args:
        groups: encoded entries without targets, those of one image together.
        limits: most new tokens of each question, counted through all groups; at least 1.

    Yields:
        the number of a question and its answer's ids (T,), on the CPU, the end of the answer included, as
        soon as it is whole.
    """
    for found in decode(model, adapter, groups, limits):
        yield found.number, found.ids


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    adapter: Adapter,
    groups: Groups,
    limits: Sequence[int],
    *,
    seeds: Sequence[int | None] | None = None,
    temperature: float = 1.0,
) -> Iterator[Decoded]:
    """Answers questions, each greedily or by a draw, and says how likely the answer was.

    A draw inverts the distribution's cumulative sum at one uniform number a token. The numbers come from the
    question's own seed, so that other questions in the batch change nothing.

    Args:
        groups, limits: as in `greedy`.
        seeds: of each question that is drawn; None for a greedy one. By default all are greedy.
        temperature: logits are divided by it before a draw; above 0.

    Yields:
        answers, each as soon as it is whole.
    """
    rows = Rows(model, adapter, groups)
    ends = torch.tensor(adapter.generation["eos_token_id"], device=model.device)
    most = torch.tensor(limits, device=model.device)
    under_way = torch.arange(len(most), device=model.device)
    answers = under_way.new_empty(len(most), int(most.max()))
    total = torch.zeros(len(most), dtype=torch.float64, device=model.device)
    drawn, uniform = _uniform(seeds or [None] * len(limits), answers.shape[1], model.device)
    logits = rows.prefill()
    for length in range(1, answers.shape[1] + 1):
        tokens = logits.argmax(-1)
        among = drawn[under_way]
        if among.any():
            numbers = uniform[under_way[among], length - 1]
            tokens[among] = _draw(logits[among], numbers, temperature)
        answers[under_way, length - 1] = tokens
        chosen = logits.gather(-1, tokens[:, None]).squeeze(-1).double()
        total[under_way] += chosen - logits.logsumexp(-1).double()
        over = torch.isin(tokens, ends) | (most[under_way] <= length)
        for number in under_way[over].tolist():
            yield Decoded(number, answers[number, :length].cpu(), float(total[number]) / length)
        under_way, tokens = under_way[~over], tokens[~over]
        if not len(under_way):
            return
        logits = rows.step(under_way, tokens)


def _uniform(
    seeds: Sequence[int | None], length: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which questions (E,) are drawn, and their uniform numbers (E, length) in [0, 1)."""
    numbers = np.zeros((len(seeds), length))
    for row, seed in zip(numbers, seeds, strict=True):
        if seed is not None:
            row[:] = np.random.default_rng(seed).random(length)
    drawn = torch.tensor([seed is not None for seed in seeds], device=device)
    return drawn, torch.from_numpy(numbers).to(device)


def _draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float) -> torch.Tensor:
    """A token (A,) from logits (A, V) at uniform numbers (A,)."""
    shares = (logits.double() / temperature).softmax(-1).cumsum(-1)
    # The last share may be a hair below 1, the number above it.
    places = torch.searchsorted(shares, uniform[:, None], right=True).squeeze(-1)
    return places.clamp(max=logits.shape[-1] - 1)


class Rows:
    """A batch of images with all their questions, and the cache of both."""

    def __init__(self, model: PreTrainedModel, adapter: Adapter, groups: Groups) -> None:
        self.model, self.adapter = model, adapter
        batch = adapter.collate_shared(groups)
        del batch["labels"]
        self._batch = {
            key: value.to(model.device, model.dtype if value.is_floating_point() else None)
            for key, value in batch.items()
        }
        # What stands where in the cache, (N, L). Sliding windows are masks: the cache keeps the whole prefix.
        self.seen = {key: self._batch[key] for key in ("input_ids", "position_ids", "owner", "image")}
        self.cache = DynamicCache()
        owner = self.seen["owner"]
        places = (owner >= 0).nonzero()
        last = owner[owner >= 0].bincount().cumsum(0) - 1  # owners count up through the rows
        self.row, self._place = places[last].T
        self._next = self.seen["position_ids"][..., self.row, self._place] + 1

    def prefill(self) -> torch.Tensor:
        """Logits (E, V) of the first token of each answer."""
        hidden = self._forward(self._batch)
        return self._logits(hidden[self.row, self._place])

    def step(self, under_way: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """One token more for some questions, the others being over.

        Args:
            under_way: numbers (A,) of the questions, ascending.
            tokens: the token (A,) that each goes on with.

        Returns:
            logits (A, V) of the token after that.
        """
        self._drop_finished(under_way)
        row = self.row[under_way]
        many = row.bincount()
        slot = torch.arange(len(row), device=row.device) - (many.cumsum(0) - many)[row]
        shape = len(many), int(many.max())
        new = {
            "input_ids": row.new_full(shape, self.adapter.pad_id),
            "position_ids": row.new_zeros((*self._next.shape[:-1], *shape)),
            "owner": row.new_full(shape, packing.PADDING),
            "image": row.new_zeros(shape),
        }
        new["input_ids"][row, slot] = tokens
        new["position_ids"][..., row, slot] = self._next[..., under_way]
        new["owner"][row, slot] = under_way
        new["image"][row, slot] = 1  # `collate_shared` gave each image a row of its own
        self._next[..., under_way] += 1
        self.seen = {key: torch.cat([value, new[key]], dim=-1) for key, value in self.seen.items()}
        return self._logits(self._forward(new)[row, slot])

    def _drop_finished(self, under_way: torch.Tensor) -> None:
        """Rows without a question under way go."""
        kept, row = self.row[under_way].unique(return_inverse=True)
        if len(kept) == len(self.seen["owner"]):
            return
        self.row[under_way] = row
        self.cache.batch_select_indices(kept)
        self.seen = {key: value.index_select(-2, kept) for key, value in self.seen.items()}

    def _forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The last hidden states (N, L, D) of a batch that the cache does not hold yet."""
        inputs = self.adapter.with_mask(batch, self.model, keys=self.seen)
        output = self.model.base_model(**inputs, past_key_values=self.cache, use_cache=True)
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model.get_output_embeddings()(hidden)
        return logits

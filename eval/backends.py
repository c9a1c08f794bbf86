"""Who answers: a model in this process by default, vLLM if asked for (`vllm_backend`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import count, islice
from typing import NamedTuple, Protocol

import PIL.Image
import torch
from transformers import PreTrainedModel

from data_recipes.errors import UserError, unknown
from data_recipes.records import Entry
from eval.prefix import decode
from eval.team import Team
from model_adapters import packing
from model_adapters.adapter import Adapter

# Entries handed over at a time, by backend. vLLM makes its own batches of what it has.
BATCH_SIZES = {"transformers": 256, "vllm": 2048}
BATCH_TOKENS = 32_768  # prompt tokens of a batch, padding included

Feature = Mapping[str, torch.Tensor]


def check_backend(name: str, team: Team) -> None:
    """Before anything is built for it.

    Raises:
        UserError: no such backend, or it cannot be used here.
    """
    if name not in BATCH_SIZES:
        raise unknown("backend", name, BATCH_SIZES)
    if name == "vllm" and find_spec("vllm") is None:
        raise UserError("--backend vllm needs vLLM, which is not installed: pip install vllm (with a GPU)")
    if name == "vllm" and team.size > 1:
        raise UserError("--backend vllm runs in one process: start `imax eval` without accelerate")


class Asked(NamedTuple):
    """Questions about one image."""

    picture: PIL.Image.Image
    entries: Sequence[Entry]


class Output(NamedTuple):
    """An answer as text, and the mean log-probability of its tokens (`prefix.Decoded`)."""

    text: str
    log_probability: float


class Backend(Protocol):
    """Answers questions greedily.

    Args:
        asked: images with their questions.
        limits: longest output of each question, in tokens, counted through all images.

    Yields:
        the number of a question and its output, as soon as it is there, in any order.
    """

    def __call__(self, asked: Sequence[Asked], limits: Sequence[int]) -> Iterator[tuple[int, str]]: ...


class Transformers:
    """A model of transformers, in this process: `prefix.decode` on so many padded prompt tokens at a time."""

    def __init__(self, model: PreTrainedModel, adapter: Adapter, *, batch_tokens: int = BATCH_TOKENS) -> None:
        self._model, self._adapter, self._batch_tokens = model, adapter, batch_tokens

    def __call__(self, asked: Sequence[Asked], limits: Sequence[int]) -> Iterator[tuple[int, str]]:
        for number, output in self.outputs(asked, limits):
            yield number, output.text

    def outputs(
        self,
        asked: Sequence[Asked],
        limits: Sequence[int],
        *,
        seeds: Sequence[int | None] | None = None,
        temperature: float = 1.0,
    ) -> Iterator[tuple[int, Output]]:
        """As a call, with how likely each answer is, greedy or drawn.

        Args:
            seeds, temperature: as in `prefix.decode`, counted through all images. A question may stand
                several times among those of its image, with a seed each.
        """
        rows = [row for one in asked for row in self._rows(one)]
        numbers, left, drawn = count(), iter(limits), iter(seeds or [None] * len(limits))
        for batch in self._batches(rows):
            questions = sum(map(len, batch))
            own = list(islice(numbers, questions))
            most, seeded = list(islice(left, questions)), list(islice(drawn, questions))
            found = decode(self._model, self._adapter, batch, most, seeds=seeded, temperature=temperature)
            for number, ids, log_probability in found:
                yield own[number], Output(self._adapter.decode(ids), log_probability)

    def _rows(self, asked: Asked) -> list[list[Feature]]:
        """The encoded questions about an image as one row, or as a row each where the chat template writes
        the question before the image."""
        vision = self._adapter.see(asked.picture)
        encoded: dict[str, Feature] = {
            entry.entry_id: self._adapter.encode(entry, asked.picture, with_target=False, vision=vision)
            for entry in {entry.entry_id: entry for entry in asked.entries}.values()
        }
        features = [encoded[entry.entry_id] for entry in asked.entries]
        ids = [feature["input_ids"] for feature in features]
        image = int((ids[0] == self._adapter.image_id).nonzero().max())
        return [features] if packing.common(ids) > image else [[feature] for feature in features]

    def _batches(self, rows: Sequence[list[Feature]]) -> Iterator[list[list[Feature]]]:
        batch: list[list[Feature]] = []
        longest = 0
        for row in rows:
            ids = [feature["input_ids"] for feature in row]
            prefix = packing.common(ids)
            length = prefix + sum(len(one) - prefix for one in ids)
            longest = max(longest, length)
            if batch and longest * (len(batch) + 1) > self._batch_tokens:
                yield batch
                batch, longest = [], length
            batch.append(row)
        if batch:
            yield batch

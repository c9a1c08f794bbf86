"""A split of a mixture as training samples: encoded when asked for, images kept in a bounded memory.

Legend: L tokens of a sample.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import PIL.Image
import torch
from torch.utils.data import Dataset, Sampler

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image, Mixture
from data_recipes.store import open_image
from data_recipes.tasks import TASKS
from model_adapters.adapter import Adapter
from model_adapters.base import TooLongError, Vision, written_entry

_TASK = "task_id"


class Images:
    """Images and what the vision tower sees of them, the most recently used in memory: in an image-centric
    mixture the same image returns many times."""

    def __init__(self, folder: Path, adapter: Adapter, *, megabytes: int) -> None:
        self._folder, self._adapter = folder, adapter
        self._limit, self._used = megabytes * 2**20, 0
        self._kept: OrderedDict[str, tuple[PIL.Image.Image, Vision]] = OrderedDict()

    def get(self, image: Image) -> tuple[PIL.Image.Image, Vision]:
        """The decoded image and `adapter.see` of it.

        Raises:
            UserError: the file is missing or broken.
        """
        if image.image_id in self._kept:
            self._kept.move_to_end(image.image_id)
            return self._kept[image.image_id]
        opened = open_image(self._folder, image)
        pair = (opened, self._adapter.see(opened))
        self._kept[image.image_id] = pair
        self._used += _bytes(pair)
        while self._used > self._limit and len(self._kept) > 1:
            self._used -= _bytes(self._kept.popitem(last=False)[1])
        return pair


def _bytes(pair: tuple[PIL.Image.Image, Vision]) -> int:
    opened, vision = pair
    return int(opened.width * opened.height + sum(value.nbytes for value in vision.values()))


class EntryDataset(Dataset[dict[str, torch.Tensor]]):
    """The entries of one split.

    Attributes:
        dropped: how many entries are too long for the model. They are never cut: a cut sample has lost its
            answer or part of its image.
        reason: what the first of these has too much of; empty when there are none.
        weights: a size for each sample that grows with its length, for batching; no tokenizer was asked.
    """

    def __init__(
        self,
        mixture: Mixture,
        split: str,
        images: Images,
        adapter: Adapter,
        *,
        tasks: Sequence[str] | None = None,
        max_length: int | None = None,
    ) -> None:
        wanted = frozenset(tasks or TASKS)
        self._images, self._adapter = images, adapter
        self._pairs = [(image, entry) for image, entry in mixture.of_split(split) if entry.task in wanted]
        self.weights = [_bytes_written(entry, adapter, image) for image, entry in self._pairs]
        self.dropped, self.reason = 0, ""
        if max_length is not None:
            self._drop_longer(max_length)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask, labels (L,), what belongs to the image, task_id ()."""
        return {**self._encode(index), _TASK: torch.tensor(TASKS.index(self._pairs[index][1].task))}

    def _encode(self, index: int, max_length: int | None = None) -> dict[str, torch.Tensor]:
        image, entry = self._pairs[index]
        opened, vision = self._images.get(image)
        return self._adapter.encode(entry, opened, with_target=True, vision=vision, max_length=max_length)

    def tasks(self) -> list[str]:
        """The tasks that occur, in the order of TASKS."""
        present = {entry.task for _, entry in self._pairs}
        return [task for task in TASKS if task in present]

    def _drop_longer(self, max_length: int) -> None:
        """A text has at most as many tokens as bytes, so only samples that might be too long are encoded."""
        around: dict[tuple[int, int], int] = {}  # image size -> tokens that are no text of the entry, at most
        kept = []
        for index, (image, _) in enumerate(self._pairs):
            size = (image.width, image.height)
            if size not in around:
                around[size] = len(self._encode(index)["input_ids"])
            if self.weights[index] + around[size] > max_length:
                try:
                    self._encode(index, max_length)
                except TooLongError as error:
                    self.reason = self.reason or str(error)
                    continue
            kept.append(index)
        self.dropped = len(self._pairs) - len(kept)
        self._pairs = [self._pairs[index] for index in kept]
        self.weights = [self.weights[index] for index in kept]


def _bytes_written(entry: Entry, adapter: Adapter, image: Image) -> int:
    prompt, target = written_entry(entry, adapter.codec, image.width, image.height)
    return len(prompt.encode()) + len(target.encode())


class Collator:
    """Samples to a batch, with `task_id` (B,) beside what the model reads."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def __call__(self, features: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        inputs = [{key: feature[key] for key in feature if key != _TASK} for feature in features]
        batch = self._adapter.collate(inputs, padding_side="right")
        batch[_TASK] = torch.stack([feature[_TASK] for feature in features])
        return batch


class UpdateSampler(Sampler[int]):
    """Random order, but the samples of one optimizer step come sorted by length.

    The step's gradient is the mean over all its tokens, whichever micro-batch they are in; sorting only saves
    the padding that a long report would force on the short answers beside it. The order depends on seed and
    epoch alone, so a resumed run sees the same one.
    """

    def __init__(self, weights: Sequence[int], per_update: int, *, seed: int) -> None:
        self._weights, self._per_update, self._seed, self._epoch = weights, per_update, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._weights)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(len(self._weights), generator=generator).tolist()
        for first in range(0, len(order), self._per_update):
            yield from sorted(order[first : first + self._per_update], key=self._weights.__getitem__)


def training_split(
    mixture: Mixture,
    images: Images,
    adapter: Adapter,
    *,
    tasks: Sequence[str] | None,
    max_length: int | None,
) -> EntryDataset:
    """The train split, with a complaint when nothing is left of it.

    Raises:
        UserError: no entry of the wanted tasks, or all of them are too long.
    """
    dataset = EntryDataset(mixture, "train", images, adapter, tasks=tasks, max_length=max_length)
    if not len(dataset):
        if dataset.dropped:
            raise UserError(
                f"all {dataset.dropped} training entries are longer than {max_length} tokens; "
                + dataset.reason
            )
        raise UserError(f"the mixture has no training entries{f' of {chr(44).join(tasks)}' if tasks else ''}")
    return dataset

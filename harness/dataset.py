"""A split of a mixture as training samples: encoded when asked for, images kept in a bounded memory.

Two things are apart here. Batching says what is drawn together, an entry or an image with all its entries;
sharing says whether entries of one image that are in one micro-batch share one sequence.

Legend: B rows of a batch, L tokens of a row, E entries, T tasks.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import PIL.Image
import torch
from torch.utils.data import Dataset, Sampler

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image, Mixture
from data_recipes.staged import BATCHINGS
from data_recipes.store import open_image
from data_recipes.tasks import TASKS
from model_adapters.adapter import Adapter
from model_adapters.base import TooLongError, Vision, written_entry
from model_adapters.packing import part_sizes

SHARINGS = ("image", "none")
Features = Mapping[str, torch.Tensor]
T = TypeVar("T")
FACTS = ("task_id", "siblings", "image_number")  # of an entry; the model does not read them


class Images:
    """Images and what the vision tower sees of them, the most recently used in memory: in an image-centric
    mixture the same image returns many times."""

    def __init__(
        self,
        folder: Path,
        adapter: Adapter,
        *,
        megabytes: int,
        elsewhere: Mapping[str, Path] | None = None,
    ) -> None:
        """
        Args:
            folder: of the mixture.
            megabytes: how much is kept.
            elsewhere: image id -> folder of the mixture that an image is from, where it is another one.
        """
        self._folder, self._adapter, self._elsewhere = folder, adapter, elsewhere or {}
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
        opened = open_image(self._elsewhere.get(image.image_id, self._folder), image)
        pair = (opened, self._adapter.see(opened))
        self._kept[image.image_id] = pair
        self._used += _bytes(pair)
        while self._used > self._limit and len(self._kept) > 1:
            self._used -= _bytes(self._kept.popitem(last=False)[1])
        return pair


def _bytes(pair: tuple[PIL.Image.Image, Vision]) -> int:
    opened, vision = pair
    return int(opened.width * opened.height + sum(value.nbytes for value in vision.values()))


class Samples(Dataset[list[dict[str, torch.Tensor]]]):
    """The entries of one split, as the samples that batches are drawn from.

    Attributes:
        entries: how many entries the samples hold together.
        by_task: how many of them each task has (T,).
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
        batching: str = "entry",
        tasks: Sequence[str] | None = None,
        max_length: int | None = None,
        max_shared_length: int | None = None,
    ) -> None:
        """
        Args:
            batching: a sample is an "entry", or an "image" with all its entries.
            tasks: these only.
            max_length: tokens of the longest entry, image included.
            max_shared_length: tokens of the longest sample as a shared sequence. An image with more becomes
                several samples.
        """
        assert batching in BATCHINGS, batching
        wanted = frozenset(tasks or TASKS)
        self._images, self._adapter = images, adapter
        self._pairs = [(image, entry) for image, entry in mixture.of_split(split) if entry.task in wanted]
        self._sizes = [_bytes_written(entry, adapter, image) for image, entry in self._pairs]
        self._around: dict[tuple[int, int], int] = {}
        self.dropped, self.reason = 0, ""
        if max_length is not None:
            self._drop_longer(max_length)
        self._siblings = Counter(image.image_id for image, _ in self._pairs)
        self._image_numbers = {image_id: number for number, image_id in enumerate(self._siblings)}
        self._groups = [[index] for index in range(len(self._pairs))]
        if batching == "image":
            self._groups = self._by_image(max_shared_length)
        self.entries = len(self._pairs)
        counts = Counter(entry.task for _, entry in self._pairs)
        self.by_task = [counts[task] for task in TASKS]
        self.weights = [sum(self._sizes[index] for index in group) for group in self._groups]

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> list[dict[str, torch.Tensor]]:
        """The entries of a sample: what `Adapter.encode` gives, and task_id, siblings (how many training
        entries its image has) and image_number, all ()."""
        return [self._entry(one) for one in self._groups[index]]

    def tasks(self) -> list[str]:
        """The tasks that occur, in the order of TASKS."""
        return [task for task, count in zip(TASKS, self.by_task, strict=True) if count]

    def _entry(self, index: int) -> dict[str, torch.Tensor]:
        image, entry = self._pairs[index]
        facts = (TASKS.index(entry.task), self._siblings[image.image_id], self._image_numbers[image.image_id])
        return {**self._encode(index), **dict(zip(FACTS, map(torch.tensor, facts), strict=True))}

    def _encode(self, index: int, max_length: int | None = None) -> dict[str, torch.Tensor]:
        image, entry = self._pairs[index]
        opened, vision = self._images.get(image)
        return self._adapter.encode(entry, opened, with_target=True, vision=vision, max_length=max_length)

    def _at_most(self, index: int) -> int:
        """A bound on the tokens of an entry: as many as its text has bytes, and what an entry with an image
        of this size has otherwise."""
        image = self._pairs[index][0]
        size = (image.width, image.height)
        if size not in self._around:
            self._around[size] = len(self._encode(index)["input_ids"])
        return self._sizes[index] + self._around[size]

    def _drop_longer(self, max_length: int) -> None:
        """Only entries that might be too long are encoded."""
        kept = []
        for index in range(len(self._pairs)):
            if self._at_most(index) > max_length:
                try:
                    self._encode(index, max_length)
                except TooLongError as error:
                    self.reason = self.reason or str(error)
                    continue
            kept.append(index)
        self.dropped = len(self._pairs) - len(kept)
        self._pairs = [self._pairs[index] for index in kept]
        self._sizes = [self._sizes[index] for index in kept]

    def _by_image(self, max_shared_length: int | None) -> list[list[int]]:
        members: dict[str, list[int]] = {image_id: [] for image_id in self._siblings}
        for index, (image, _) in enumerate(self._pairs):
            members[image.image_id].append(index)
        if max_shared_length is None:
            return list(members.values())
        return [part for group in members.values() for part in self._split(group, max_shared_length)]

    def _split(self, group: list[int], max_shared_length: int) -> Iterator[list[int]]:
        """Only images that might have more than `max_shared_length` tokens are encoded."""
        if self._at_most(group[0]) + sum(self._sizes[index] for index in group[1:]) <= max_shared_length:
            yield group
            return
        ids = [self._encode(index)["input_ids"] for index in group]
        yield from _parts(group, ids, self._adapter, max_shared_length)


def _bytes_written(entry: Entry, adapter: Adapter, image: Image) -> int:
    prompt, target = written_entry(entry, adapter.codec, image.width, image.height)
    return len(prompt.encode()) + len(target.encode())


class Collator:
    """Samples to a batch. Beside what the model reads, or `Adapter.with_mask` makes of it, it holds:

    entry (B, L), which entry each token with a label belongs to; task_id and siblings (E,);
    tokens (2,): how many the model is fed, and how many it would be without sharing.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        sharing: str = "none",
        max_shared_length: int | None = None,
        row_tokens: int | None = None,
    ) -> None:
        """
        Args:
            sharing: "image", entries of one image share a sequence; "none", each has its own.
            max_shared_length: tokens of the longest shared sequence; an image with more gets several.
            row_tokens: put shared sequences of several images into rows of up to so many tokens.
        """
        assert sharing in SHARINGS, sharing
        self._adapter, self._sharing = adapter, sharing
        self._longest, self._row_tokens = max_shared_length, row_tokens

    def __call__(self, samples: Sequence[Sequence[Features]]) -> dict[str, torch.Tensor]:
        entries = [entry for sample in samples for entry in sample]
        without = sum(len(entry["input_ids"]) for entry in entries)
        if self._sharing == "image":
            groups = list(self._groups(entries))
            entries = [entry for group in groups for entry in group]
            inputs = [[_model_inputs(entry) for entry in group] for group in groups]
            batch = self._adapter.collate_shared(inputs, row_tokens=self._row_tokens)
            batch["entry"] = batch["owner"]
            fed = int((batch["image"] > 0).sum())
        else:
            batch = self._adapter.collate([_model_inputs(entry) for entry in entries], padding_side="right")
            batch["entry"] = torch.arange(len(entries))[:, None].expand_as(batch["input_ids"]).contiguous()
            fed = without
        for key in ("task_id", "siblings"):
            batch[key] = torch.stack([entry[key] for entry in entries])
        batch["tokens"] = torch.tensor([fed, without])
        return batch

    def _groups(self, entries: Sequence[Features]) -> Iterator[list[Features]]:
        of_image: dict[int, list[Features]] = {}
        for entry in entries:
            of_image.setdefault(int(entry["image_number"]), []).append(entry)
        for group in of_image.values():
            if self._longest is None:
                yield group
                continue
            yield from _parts(group, [entry["input_ids"] for entry in group], self._adapter, self._longest)


def _parts(
    group: Sequence[T], ids: Sequence[torch.Tensor], adapter: Adapter, max_tokens: int
) -> Iterator[list[T]]:
    """Entries of one image, with these ids, cut into what fits into a shared sequence each."""
    rest = iter(group)
    for size in part_sizes(ids, image_id=adapter.image_id, max_tokens=max_tokens):
        yield list(islice(rest, size))


def _model_inputs(entry: Features) -> dict[str, torch.Tensor]:
    return {key: value for key, value in entry.items() if key not in FACTS}


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
    mixture: Mixture, images: Images, adapter: Adapter, *, max_length: int | None, **options: Any
) -> Samples:
    """The train split, with a complaint when nothing is left of it; `options` as of Samples.

    Raises:
        UserError: no entry of the wanted tasks, or all of them are too long.
    """
    samples = Samples(mixture, "train", images, adapter, max_length=max_length, **options)
    if not len(samples):
        if samples.dropped:
            raise UserError(
                f"all {samples.dropped} training entries are longer than {max_length} tokens; "
                + samples.reason
            )
        tasks = options.get("tasks")
        raise UserError(f"the mixture has no training entries{f' of {chr(44).join(tasks)}' if tasks else ''}")
    return samples

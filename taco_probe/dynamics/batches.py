"""Probe entries as batches that the model reads: a sequence each, similar lengths together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from data_recipes.errors import UserError
from data_recipes.store import open_image
from model_adapters.adapter import Adapter
from model_adapters.base import TooLongError, Vision
from taco_probe.dynamics.probe import Pair

BATCH_TOKENS = {"cpu": 8192, "cuda": 32768}
SHARED_TOKENS, SHARED_COST = 256, 0.9  # a sequence is shared from so many tokens, at this part of the cost
Batch = dict[str, torch.Tensor]
T = TypeVar("T", bound=Any)


class Part(NamedTuple):
    """Entries of a batch, by number; `shared`: of one image, in one sequence."""

    numbers: list[int]
    shared: bool


class Encoded:
    """Entries as features, on the CPU, from which batches of any of them are made."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        adapter: Adapter,
        folder: Path,
        *,
        device: torch.device,
        tokens: int | None = None,
        max_length: int | None = None,
    ) -> None:
        """
        Args:
            tokens: of a batch, padding included.
            max_length: what the model can take.

        Raises:
            UserError: an image cannot be opened, or an entry has more than `max_length` tokens.
        """
        self._adapter, self._device = adapter, device
        self._tokens = tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"])
        self._features: list[Batch] = []
        self._images = [image.image_id for image, _ in pairs]
        seen: dict[str, Vision] = {}
        for image, entry in pairs:
            opened = open_image(folder, image)
            if image.image_id not in seen:
                seen[image.image_id] = adapter.see(opened)
            vision = seen[image.image_id]
            try:
                features = adapter.encode(
                    entry, opened, with_target=True, vision=vision, max_length=max_length
                )
            except TooLongError as error:
                raise UserError(f"a probe entry is too long for the model: {error}") from None
            self._features.append(features)

    def __len__(self) -> int:
        return len(self._features)

    def parts(self, numbers: Iterable[int] | None = None) -> list[list[int]]:
        """The entries of these numbers (by default all) in parts of a batch each: longest first, so that
        what does not fit into memory fails at once."""
        wanted = range(len(self)) if numbers is None else numbers
        lengths = {number: len(self._features[number]["input_ids"]) for number in wanted}
        return [list(part) for part in _filled(lengths, self._tokens)]

    def batch(self, part: Sequence[int]) -> Batch:
        """These entries as a batch of `Adapter.collate`, on the device."""
        batch = self._adapter.collate([self._features[number] for number in part], padding_side="right")
        return {key: value.to(self._device) for key, value in batch.items()}

    def shared_parts(self, numbers: Iterable[int]) -> list[list[list[int]]]:
        """The entries of these numbers by image, the images in parts of a batch each."""
        return [[list(group) for group in part] for part in _filled(self._by_image(numbers), self._tokens)]

    def _by_image(self, numbers: Iterable[int]) -> dict[tuple[int, ...], int]:
        """The entries of each image, and the tokens of the sequence that they share."""
        of_image: dict[str, list[int]] = {}
        for number in numbers:
            of_image.setdefault(self._images[number], []).append(number)
        return {
            tuple(group): len(self._adapter.share([self._features[number] for number in group]).owner)
            for group in of_image.values()
        }

    def shared_batch(self, groups: Sequence[Sequence[int]], model: Any) -> dict[str, Any]:
        """These entries, grouped by image, as a batch of `Adapter.collate_shared` with the mask that `model`
        reads, on the device; `entry` (B, L) says whose each token is."""
        features = [[self._features[number] for number in group] for group in groups]
        batch = {k: v.to(self._device) for k, v in self._adapter.collate_shared(features).items()}
        return self._adapter.with_mask(batch, model) | {"entry": batch["owner"]}

    def for_gradients(self) -> list[Part]:
        """All entries in parts for which gradients of each entry cost least.

        Entries of an image that share a sequence are one forward pass and a backward pass each, over the
        whole sequence; that is cheaper where the image is most of it. In short sequences, batches of
        many are.
        """
        shared: list[Part] = []
        if self.shares():
            for group, together in self._by_image(range(len(self))).items():
                alone = sum(len(self._features[number]["input_ids"]) for number in group)
                cost = (1 + len(group)) * together  # tokens forward and backward
                if together >= SHARED_TOKENS and cost < SHARED_COST * 2 * alone:
                    shared.append(Part(list(group), shared=True))
        rest = set(range(len(self))).difference(*(part.numbers for part in shared))
        return shared + [Part(part, shared=False) for part in self.parts(sorted(rest))]

    def shares(self) -> bool:
        """Whether the chat template lets entries of an image share its sequence."""
        try:
            self._adapter.share(self._features[:1])
        except UserError:
            return False
        return True


def _filled(lengths: Mapping[T, int], tokens: int) -> list[list[T]]:
    """Rows of these lengths in batches of at most `tokens`, padding included, or of one; longest first."""
    rest = sorted(lengths, key=lambda one: (-lengths[one], one))
    found = []
    while rest:
        size = max(1, tokens // lengths[rest[0]])
        part, rest = rest[:size], rest[size:]
        found.append(part)
    return found

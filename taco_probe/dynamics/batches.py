"""Probe entries as batches that the model reads: a sequence each, similar lengths together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from data_recipes.errors import UserError
from data_recipes.store import open_image
from model_adapters.adapter import Adapter
from model_adapters.base import TooLongError, Vision
from taco_probe.dynamics.probe import Pair

BATCH_TOKENS = {"cpu": 8192, "cuda": 32768}
Batch = dict[str, torch.Tensor]


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
        rest = sorted(lengths, key=lambda number: (-lengths[number], number))
        found = []
        while rest:
            size = max(1, self._tokens // lengths[rest[0]])
            part, rest = rest[:size], rest[size:]
            found.append(part)
        return found

    def batch(self, part: Sequence[int]) -> Batch:
        """These entries as a batch of `Adapter.collate`, on the device."""
        batch = self._adapter.collate([self._features[number] for number in part], padding_side="right")
        return {key: value.to(self._device) for key, value in batch.items()}

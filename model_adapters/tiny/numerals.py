"""Numbers in the boxes of pretrained flavours: one token each, and nearly right where they are near."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer

from data_recipes.records import Box
from model_adapters.adapter import Adapter
from model_adapters.base import BoxCodec
from model_adapters.tiny.build import NUMBERS, PIECES, SIDE

SPREAD = 0.015  # standard deviation of the soft label of a number, as a share of the highest
# Whole numbers are pieces of their own; the comma before any number is one with its space.
_WHOLE_PIECES = PIECES.replace(r", (?=[01]\.)", r", (?=\d)|\d+")


def highest(codec: BoxCodec) -> int:
    """The highest whole number in boxes of images of SIDE pixels; 0 if the notation writes fractions."""
    text = codec.write(Box(0.0, 0.0, 1.0, 1.0), SIDE, SIDE)
    return 0 if "." in text else max(map(int, re.findall(r"\d+", text)))


def with_numbers(words: Tokenizer, top: int, more: Iterable[str] = ()) -> Tokenizer:
    """A tokenizer that also has 0 ... `top`, and the words of `more`, as one token each."""
    spec = json.loads(words.to_str())
    vocab: dict[str, int] = spec["model"]["vocab"]
    for word in [*map(str, range(top + 1)), *more]:
        vocab.setdefault(word, len(vocab))
    spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = _WHOLE_PIECES
    return Tokenizer.from_str(json.dumps(spec))


def soft_labels(adapter: Adapter) -> torch.Tensor:
    """(V, V): row of a token id -> what to predict for it. Itself, but numbers spread over their
    neighbours."""
    tokenizer = adapter.processor.tokenizer
    soft = torch.eye(len(tokenizer))
    top = highest(adapter.codec)
    for numbers, unit in ((NUMBERS, 1.0), ([str(n) for n in range(top + 1)] if top else [], max(1, top))):
        ids = torch.tensor(tokenizer.convert_tokens_to_ids(list(numbers)), dtype=torch.long)
        values = torch.tensor([float(number) / unit for number in numbers])
        near = torch.exp(-((values[:, None] - values[None, :]) ** 2) / (2 * SPREAD**2))
        soft[ids[:, None], ids[None, :]] = near / near.sum(1, keepdim=True)
    return soft

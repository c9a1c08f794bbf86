"""Galleries put in the order of their cosine to each query, in blocks.

An entry of a gallery is a number of 64 bits: cosine, chance, label, from high to low bits. So sorting numbers
sorts by cosine, equal cosines (controls that see equal images have many) fall in random order, and the label
is read from the number.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from taco_probe.taco.embeddings import Vectors

Codes = NDArray[np.int64]
Keys = NDArray[np.int64]
NOTHING = np.int64(-1)  # below every key
_LABEL = 12  # bits
_CHANCE = 20
_FINEST = 1e6  # cosines nearer than this to each other are equal: float32 sums differ in the last digits
BLOCK = 256  # queries at a time


def keys(query: Vectors, gallery: Vectors, labels: Codes, rng: np.random.Generator) -> Keys:
    """(m, D) and (n, D) vectors of length 1, (n,) labels below 4096 -> (m, n) keys."""
    near: Keys = np.clip(np.rint((query @ gallery.T + 1.0) * _FINEST), 0, None).astype(np.int64)
    near <<= _CHANCE
    near |= rng.integers(1 << _CHANCE, size=near.shape, dtype=np.int64)
    near <<= _LABEL
    near |= labels[None, :]
    return near


def label(found: Keys) -> Codes:
    """Labels of keys."""
    return found & ((1 << _LABEL) - 1)


def blocks(queries: Codes) -> Iterator[Codes]:
    """Indices (m,) in parts of up to BLOCK."""
    for start in range(0, len(queries), BLOCK):
        yield queries[start : start + BLOCK]

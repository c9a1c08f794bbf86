"""Draws that depend on an id and a seed alone: the same id gets the same draw whatever else is in the data,
on every machine and with every version of every library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.uint64]


def draws(ids: Iterable[str], seed: int, purpose: str) -> Draws:
    """One uniform 64-bit number an id; another seed or purpose gives independent ones."""
    key = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    digest = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in ids)
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def mixed(base: Draws, number: NDArray[np.integer] | int) -> Draws:
    """Further draws from `base`, one for each `number`: the finaliser of SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = base + (np.asarray(number).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))

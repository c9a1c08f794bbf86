"""Near-duplicates: images that are copies of one another, encoded, resized or windowed anew.

Two stages. Pairs whose perceptual hashes differ in few bits are candidates: all of them, by the pigeonhole
principle. Candidates whose thumbnails correlate in fine detail are near-duplicates. Copies that were cropped,
padded, turned, mirrored or inverted are not found. docs/datasets.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_recipes.records import Image
from data_recipes.thumbnails import Mark, Thumbnails, greys, hashes, ranks, stacked, whitened

DISTANCE = 7  # bits
CORRELATION = 0.95
_GREYS = 16  # grey values of a thumbnail; those of radiographs have more than 100
_SOMEWHAT = 0.5  # copies under any change of contrast that was tried have 0.75 or more
_BANDS, _WIDTH = 4, 16  # a hash is 4 bands of 16 bits
_DEAR = 5  # what looking up a pair costs, in comparisons of two hashes (measured)
_FEW = 2**20  # pairs that are sooner compared than sorted
_PIECE = 2**22  # pairs in memory at a time
_BLOCK = 2**14  # images whose details are in memory at a time

Hashes = NDArray[np.uint64]
Places = NDArray[np.integer]


class Limits(NamedTuple):
    """Near-duplicates have hashes that differ in at most `distance` of 64 bits, and a correlation of detail
    of at least `correlation`."""

    distance: int = DISTANCE
    correlation: float = CORRELATION


class Duplicates(NamedTuple):
    """Pairs of image ids. `across` are in two splits, `within` in one; `compared` images have pixels."""

    across: list[tuple[str, str]]
    within: list[tuple[str, str]]
    compared: int

    def summary(self, shown: int = 5) -> dict[str, Any]:
        """Numbers, and the first pairs across splits, as `mixture.json` keeps them."""
        return {
            "across": len(self.across),
            "within": len(self.within),
            "compared": self.compared,
            "first_across": [list(pair) for pair in self.across[:shown]],
        }


def in_mixture(images: Sequence[Image], marks: Mapping[str, Mark], limits: Limits) -> Duplicates:
    """The near-duplicates among the images of a mixture."""
    known = [image for image in images if marks[image.image_id].thumbnail]
    small = stacked(marks[image.image_id].thumbnail for image in known)
    across: list[tuple[str, str]] = []
    within: list[tuple[str, str]] = []
    for i, j in pairs(small, small, limits):
        found = across if known[i].split != known[j].split else within
        found.append((known[i].image_id, known[j].image_id))
    return Duplicates(across, within, len(known))


class Known:
    """Images that others may be copies of."""

    def __init__(self, marks: Iterable[Mark], limits: Limits) -> None:
        known = [mark for mark in marks if mark.thumbnail]
        self._digests = {mark.digest for mark in known}
        self._small = stacked(mark.thumbnail for mark in known)
        self._limits = limits

    def __len__(self) -> int:
        return len(self._small)

    def copies(self, marks: Sequence[Mark]) -> set[int]:
        """Places of the marks that have the pixels of a known image or are near-duplicates of one."""
        places = [place for place, mark in enumerate(marks) if mark.thumbnail]
        small = stacked(marks[place].thumbnail for place in places)
        found = {places[i] for i, _ in pairs(small, self._small, self._limits)}
        return found | {place for place in places if marks[place].digest in self._digests}


def pairs(a: Thumbnails, b: Thumbnails, limits: Limits) -> list[tuple[int, int]]:
    """Places (i, j), sorted, where a[i] and b[j] are near-duplicates; with i < j where a is b.

    A thumbnail with few grey values, such as that of a black image, is a near-duplicate of none.
    """
    same = a is b
    full = [np.flatnonzero(greys(small) >= _GREYS) for small in (a, b)]
    marks = hashes(a[full[0]])
    i, j = near(marks, marks if same else hashes(b[full[1]]), limits.distance)
    i, j = full[0][i], full[1][j]
    alike = _correlation(a, b, i, j) >= limits.correlation
    return sorted(zip(i[alike].tolist(), j[alike].tolist(), strict=True))


def near(a: Hashes, b: Hashes, distance: int) -> tuple[Places, Places]:
    """All (i, j), each once, for which a[i] and b[j] differ in at most `distance` bits; with i < j where a
    is b.

    Hashes that differ in r bits differ in at most r // 4 bits in one of four bands: only pairs with such a
    band are looked at (Norouzi et al. 2012, "Fast search in Hamming space with multi-index hashing"). Where
    the hashes are so alike that this would not save work, all pairs are.
    """
    if len(a) * len(b) <= _FEW:
        return _joined(_every(a, b, distance), a is b)
    bands = [[(part >> np.uint64(_WIDTH * k)).astype(np.uint16) for k in range(_BANDS)] for part in (a, b)]
    masks = _masks(distance // _BANDS)
    counts = [[np.bincount(band, minlength=2**_WIDTH) for band in part] for part in bands]
    values = np.arange(2**_WIDTH)
    work = sum(
        int(mine @ theirs[values ^ mask]) for mine, theirs in zip(*counts, strict=True) for mask in masks
    )
    pieces = (
        _every(a, b, distance) if work * _DEAR > len(a) * len(b) else _banded(a, b, bands, masks, distance)
    )
    return _joined(pieces, a is b)


def _joined(pieces: Iterable[tuple[Places, Places]], once: bool) -> tuple[Places, Places]:
    found = [np.zeros((2, 0), np.int32)]
    for i, j in pieces:
        kept = i < j if once else slice(None)
        found.append(np.stack([i[kept], j[kept]]).astype(np.int32))
    first, second = np.concatenate(found, axis=1)
    return first, second


def _masks(most: int) -> list[int]:
    """All band values with at most so many bits set."""
    most = min(most, _WIDTH)
    return [sum(1 << bit for bit in bits) for k in range(most + 1) for bits in combinations(range(_WIDTH), k)]


def _every(a: Hashes, b: Hashes, distance: int) -> Iterator[tuple[Places, Places]]:
    rows = max(1, _PIECE // max(1, len(b)))
    for start in range(0, len(a), rows):
        i, j = np.nonzero(np.bitwise_count(a[start : start + rows, None] ^ b) <= distance)
        yield i + start, j


def _banded(
    a: Hashes, b: Hashes, bands: list[list[NDArray[np.uint16]]], masks: list[int], distance: int
) -> Iterator[tuple[Places, Places]]:
    for k, (mine, theirs) in enumerate(zip(*bands, strict=True)):
        order = np.argsort(theirs, kind="stable")
        ends = np.cumsum(np.bincount(theirs, minlength=2**_WIDTH))
        for mask in masks:
            wanted = mine ^ np.uint16(mask)
            last = ends[wanted]
            number = np.diff(ends, prepend=0)[wanted]
            for i, place in _expanded(number, last - number):
                j = order[place]
                differs = a[i] ^ b[j]
                right = np.bitwise_count(differs) <= distance
                for earlier in range(k):  # a pair that an earlier band has brought is not brought again
                    band = (differs >> np.uint64(_WIDTH * earlier)).astype(np.uint16)
                    right &= np.bitwise_count(band) > distance // _BANDS
                yield i[right], j[right]


def _expanded(number: Places, first: Places) -> Iterator[tuple[Places, Places]]:
    """(row, first[row]), (row, first[row] + 1), ..., `number[row]` pairs for each row, in pieces."""
    total = np.cumsum(number)
    start = 0
    while start < len(number):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _PIECE, side="right")))
        part = number[start:stop]
        rows = np.repeat(np.arange(start, stop), part)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(part) - part, part)
        yield rows, first[rows] + within
        start = stop


def _correlation(a: Thumbnails, b: Thumbnails, i: Places, j: Places) -> NDArray[np.float32]:
    """Of each pair, how well fine detail correlates: of grey values, or of their ranks where that is more.
    Ranks undo a change of contrast; they are compared where grey values correlate somewhat."""
    result = np.zeros(len(i), np.float32)
    block = i // _BLOCK * (len(b) // _BLOCK + 1) + j // _BLOCK
    order = np.argsort(block, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
        result[members] = _products(a, b, i[members], j[members], np.asarray)
        again = members[result[members] >= _SOMEWHAT]
        result[again] = np.maximum(result[again], _products(a, b, i[again], j[again], ranks))
    return result


def _products(
    a: Thumbnails, b: Thumbnails, i: Places, j: Places, view: Callable[[Thumbnails], NDArray[np.generic]]
) -> NDArray[np.float32]:
    (mine, left), (theirs, right) = (np.unique(places, return_inverse=True) for places in (i, j))
    details = whitened(view(a[mine])), whitened(view(b[theirs]))
    result = np.zeros(len(i), np.float32)
    for start in range(0, len(i), 4096):
        part = slice(start, start + 4096)
        result[part] = np.einsum("nd,nd->n", details[0][left[part]], details[1][right[part]])
    return result

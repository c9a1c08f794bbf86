"""A thumbnail of every image: 1 KB by which copies of one image are known again after they were encoded,
resized or windowed anew. Hashes and correlations (`duplicates.py`) are computed from thumbnails alone.

They lie beside the tables in `thumbnails.parquet`: image_id, digest, phash, thumbnail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.fft import dctn

from data_recipes.errors import UserError
from data_recipes.pixels import decode, digest, inside
from data_recipes.processes import each
from data_recipes.records import Image
from data_recipes.tables import write_parquet

FILE = "thumbnails.parquet"
SIDE = 32
_FROM = 6.0  # below this spatial frequency (cycles of the DCT) all chest radiographs are alike
_COLUMNS = pa.schema(
    [
        ("image_id", pa.string()),
        ("digest", pa.string()),
        ("phash", pa.uint64()),
        ("thumbnail", pa.binary(SIDE * SIDE)),
    ]
)
_FREQUENCY = np.hypot(*np.mgrid[:SIDE, :SIDE]).ravel()
_BITS = np.argsort(np.where(_FREQUENCY < _FROM, np.inf, _FREQUENCY), kind="stable")[:64]

Thumbnails = NDArray[np.uint8]  # (N, SIDE * SIDE)


class Mark(NamedTuple):
    """What an image is known by: the digest of its pixels ("" without pixels) and its thumbnail (b"")."""

    digest: str = ""
    thumbnail: bytes = b""


def marked(pixels: NDArray[np.uint8]) -> Mark:
    """The mark of pixels (H, W)."""
    return Mark(digest(pixels), thumbnail(PIL.Image.fromarray(pixels)))


def thumbnail(image: PIL.Image.Image) -> bytes:
    """The image in mode "L" as SIDE x SIDE means of its areas, row by row; its aspect ratio is not kept."""
    return bytes(image.resize((SIDE, SIDE), PIL.Image.Resampling.BOX).tobytes())


def stacked(thumbnails: Iterable[bytes]) -> Thumbnails:
    """Thumbnails as rows (N, SIDE * SIDE)."""
    return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, SIDE * SIDE)


def hashes(thumbnails: Thumbnails) -> NDArray[np.uint64]:
    """The perceptual hash of each thumbnail: the signs of 64 coefficients of its discrete cosine transform.

    After Zauner (2010, "Implementation and benchmarking of perceptual image hash functions"), with two
    changes for radiographs, which are all alike: grey values are replaced by their ranks, so that a change of
    contrast changes little, and the lowest frequencies are left out.
    """
    result = np.empty(len(thumbnails), np.uint64)
    for start in range(0, len(thumbnails), 4096):
        part = slice(start, start + 4096)
        signs = _transformed(ranks(thumbnails[part]))[:, _BITS] > 0
        packed = np.packbits(signs, axis=1, bitorder="little")
        result[part] = np.ascontiguousarray(packed).view("<u8")[:, 0]
    return result


def ranks(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Each grey value as its mean rank among those of its thumbnail."""
    counts = _histograms(thumbnails)
    mean = np.cumsum(counts, axis=1) - (counts - 1) / 2
    return np.take_along_axis(mean, thumbnails.astype(np.intp), axis=1).astype(np.float32)


def greys(thumbnails: Thumbnails) -> NDArray[np.integer]:
    """How many grey values each thumbnail has."""
    return np.asarray(np.count_nonzero(_histograms(thumbnails), axis=1))


def _histograms(thumbnails: Thumbnails) -> NDArray[np.integer]:
    n = len(thumbnails)
    row = np.arange(n)[:, None] * 256
    return np.bincount((row + thumbnails).ravel(), minlength=256 * n).reshape(n, 256)


def whitened(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """Rows (N, SIDE * SIDE) as unit vectors whose products are correlations of fine detail: coefficients of
    the cosine transform, weighted by frequency (images have amplitudes of about 1 / frequency; Field 1987).
    A row without any detail is zero."""
    detail = _transformed(values) * _FREQUENCY.astype(np.float32)
    length = np.linalg.norm(detail, axis=1, keepdims=True)
    result: NDArray[np.float32] = np.divide(detail, length, out=np.zeros_like(detail), where=length > 1e-3)
    return result


def _transformed(values: NDArray[np.generic]) -> NDArray[np.float32]:
    square = values.astype(np.float32).reshape(-1, SIDE, SIDE)
    result: NDArray[np.float32] = dctn(square, axes=(1, 2), norm="ortho").reshape(-1, SIDE * SIDE)
    return result


def write_marks(marks: Mapping[str, Mark], images: Iterable[Image], folder: Path) -> None:
    """Writes the marks of the images that have pixels; no file where none has."""
    known = [(image.image_id, marks[image.image_id]) for image in images if marks[image.image_id].thumbnail]
    if not known:
        return
    rows = {
        "image_id": [name for name, _ in known],
        "digest": [mark.digest for _, mark in known],
        "phash": hashes(stacked(mark.thumbnail for _, mark in known)),
        "thumbnail": [mark.thumbnail for _, mark in known],
    }
    write_parquet(pa.Table.from_pydict(rows, _COLUMNS), folder / FILE)


def read_marks(folder: Path, images: Iterable[Image], *, progress: bool = False) -> dict[str, Mark]:
    """Image id -> mark, for images of the mixture in `folder`. Images that the file lacks (an older mixture)
    are decoded.

    Raises:
        UserError: the file is broken.
    """
    stored: dict[str, Mark] = {}
    if (folder / FILE).exists():
        try:
            table = pq.read_table(folder / FILE, schema=_COLUMNS)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder / FILE} is broken ({reason}): remove it") from None
        columns = [table[name].to_pylist() for name in ("image_id", "digest", "thumbnail")]
        stored = {name: Mark(digest, small) for name, digest, small in zip(*columns, strict=True)}
    marks = {image.image_id: stored.get(image.image_id, Mark()) for image in images}
    missing = [image for image in images if image.path and not marks[image.image_id].thumbnail]
    found = each(
        partial(_decoded, folder), missing, label="thumbnails", progress=progress and bool(missing), worth=400
    )
    return marks | dict(zip((image.image_id for image in missing), found, strict=True))


def _decoded(folder: Path, image: Image) -> Mark:
    try:
        return marked(np.asarray(decode(inside(folder, image.path))))
    except ValueError:
        return Mark()  # `imax recipe check` says what is wrong with it

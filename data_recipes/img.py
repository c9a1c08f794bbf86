"""Pixels of the JSRT database's `.IMG` files as 8-bit grey.

The files have no header: 2048 x 2048 values of 12 bits, each in two bytes, the higher first, row by row. They
are film densities, so that high values are dark (format as in public readers of the database).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

SUFFIXES = (".img",)
SIDE = 2048
_BRIGHTEST = 4095
_BYTES = 2 * SIDE * SIDE


def read_img(path: Path) -> np.ndarray:
    """The pixels (2048, 2048) uint8, inverted, and stretched from the darkest to the brightest.

    Raises:
        ValueError: the file has another size, or one value everywhere.
    """
    img_size(path)
    values = np.fromfile(path, dtype=">u2").reshape(SIDE, SIDE).clip(max=_BRIGHTEST).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise ValueError(f"no image: every value is {low:g}")
    return np.asarray(np.round((high - values) / (high - low) * 255).astype(np.uint8))


def img_size(path: Path) -> tuple[int, int]:
    """Width and height. Raises as `read_img`."""
    number = path.stat().st_size
    if number != _BYTES:
        raise ValueError(f"no image of the JSRT database: {number} bytes, not {_BYTES}")
    return SIDE, SIDE

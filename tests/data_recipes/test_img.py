"""`.IMG` files of the JSRT database as 8-bit grey images."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from data_recipes.img import SIDE
from data_recipes.pixels import decode, size


def make(path, values: dict[tuple[int, int], int], rest: int = 1000) -> None:
    """Writes a file value by value: (row, column) -> value."""
    data = bytearray(struct.pack(">H", rest) * SIDE * SIDE)
    for (row, column), value in values.items():
        struct.pack_into(">H", data, 2 * (row * SIDE + column), value)
    path.write_bytes(bytes(data))


def test_high_values_are_dark_and_the_first_byte_is_the_higher(tmp_path):
    make(tmp_path / "a.IMG", {(0, 0): 0, (0, 1): 4000, (2, 0): 3000})
    pixels = np.asarray(decode(tmp_path / "a.IMG"))
    assert pixels.shape == (SIDE, SIDE)
    assert pixels.dtype == np.uint8
    assert [pixels[0, 0], pixels[0, 1], pixels[2, 0], pixels[9, 9]] == [255, 0, 64, 191]
    assert size(tmp_path / "a.IMG") == (SIDE, SIDE)


def test_values_beyond_twelve_bits_are_as_dark_as_can_be(tmp_path):
    make(tmp_path / "a.img", {(0, 0): 0, (0, 1): 60_000, (0, 2): 4095})
    pixels = np.asarray(decode(tmp_path / "a.img"))
    assert [pixels[0, 1], pixels[0, 2], pixels[5, 5]] == [0, 0, 193]


def test_files_of_another_size_or_of_one_value_are_rejected_with_a_reason(tmp_path):
    (tmp_path / "short.IMG").write_bytes(b"\0" * 100)
    for read in (decode, size):
        with pytest.raises(ValueError, match=r"short.IMG: no image of the JSRT database: 100 bytes"):
            read(tmp_path / "short.IMG")
    make(tmp_path / "flat.IMG", {})
    with pytest.raises(ValueError, match="every value is 1000"):
        decode(tmp_path / "flat.IMG")
    with pytest.raises(ValueError, match="is missing"):
        decode(tmp_path / "none.IMG")

"""Source `siim`, quirk by quirk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.sources.siim import box_of_runs
from tests.data_recipes.datasets import boxes_of, dropped, harvest, reasons, said, write

# One column of 2 pixels at x = 0, y = 256; then 1024 - 1 pixels on: x = 1, y = 257.
MASKS = f"""ImageId, EncodedPixels
i1, 256 2 1023 3
i1,{512 * 1024} 1
i2, -1
i3,-1
i4,1 2 3
i5,{1024 * 1024} 5
"""


def test_the_leading_space_and_the_sign_of_no_mask(tmp_path):
    found = harvest("siim", write(tmp_path, {"train-rle.csv": MASKS}))
    assert dropped(found, "rows with a mask") == {"no mask: -1": 2}
    assert found.images.height == 5


def test_boxes_are_the_extent_of_masks_and_several_masks_are_one_entry(tmp_path):
    found = harvest("siim", write(tmp_path, {"train-rle.csv": MASKS}))
    side = 1024
    expected = [[0, 256 / side, 2 / side, 260 / side], [512 / side, 0, 513 / side, 1 / side]]
    assert boxes_of(found)["i1"] == [pytest.approx(box, abs=1e-6) for box in expected]
    assert said(found, "rec") == [("i1", "{box} {box}")]


def test_a_broken_code_is_rejected_by_row(tmp_path):
    found = harvest("siim", write(tmp_path, {"train-rle.csv": MASKS}))
    why = "mask is no run-length code on 1024 x 1024"
    assert reasons(found) == {("train-rle.csv", 5, why): 1, ("train-rle.csv", 6, why): 1}
    assert all(answer == "yes" for image, answer in said(found, "vqa") if image in ("i1", "i4", "i5"))


@pytest.mark.parametrize("code", ["", "1", "1 0", "-1 5", "a b", "1 2 3", "9" * 30 + " 1"])
def test_what_is_no_code(code):
    assert box_of_runs(code, side=8) is None


@given(st.integers(0, 2**64 - 1))
def test_the_box_of_a_mask_is_that_of_its_pixels(bits):
    mask = np.array([(bits >> place) & 1 for place in range(64)], bool).reshape(8, 8)  # y, x
    flat = mask.T.ravel()  # down the columns
    code, end, place = [], 0, 0
    while place < 64:
        if flat[place]:
            length = 1
            while place + length < 64 and flat[place + length]:
                length += 1
            code += [place - end, length]
            place += length
            end = place
        place += 1
    ys, xs = np.nonzero(mask)
    expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else None
    assert box_of_runs(" ".join(map(str, code)), side=8) == expected

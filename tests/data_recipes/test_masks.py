"""Silhouettes and ratios from run-length codes, against masks that are decoded pixel by pixel."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.masks import ORGANS, SILHOUETTE, silhouette, silhouettes, with_ratios


def code_of(mask: np.ndarray) -> str:
    """The run-length code of a mask, written by walking over its pixels."""
    words: list[int] = []
    before = False
    for place, pixel in enumerate(mask.ravel().tolist(), start=1):
        if pixel and not before:
            words += [place, 0]
        if pixel:
            words[-1] += 1
        before = pixel
    return " ".join(map(str, words))


def read(*codes: str | None, width: int = 8, height: int = 6) -> list[dict[str, int] | None]:
    number = len(codes)
    return silhouettes(
        pl.Series(codes, dtype=pl.String), pl.Series([width] * number), pl.Series([height] * number)
    ).to_list()


def brute(mask: np.ndarray) -> dict[str, int] | None:
    """The silhouette from the coordinates of all pixels."""
    pixels = [(x, y) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if mask[y, x]]
    if not pixels:
        return None
    xs, ys = zip(*pixels, strict=True)
    sides = {"left": min(xs), "top": min(ys), "right": max(xs) + 1, "bottom": max(ys) + 1}
    return {**sides, "area": len(pixels)}


MASKS = st.integers(1, 9).flatmap(
    lambda width: st.lists(
        st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=7
    ).map(lambda rows: np.array(rows, bool))
)


@given(st.lists(MASKS, min_size=1, max_size=5))
def test_silhouettes_of_codes_are_those_of_the_decoded_masks(masks):
    frame = silhouettes(
        pl.Series([code_of(mask) for mask in masks]),
        pl.Series([mask.shape[1] for mask in masks]),
        pl.Series([mask.shape[0] for mask in masks]),
    )
    assert frame.to_list() == [brute(mask) for mask in masks]
    assert [silhouette(mask) for mask in masks] == [brute(mask) for mask in masks]


def test_a_run_may_go_on_in_the_next_row():
    assert read("7 4") == [{"left": 0, "top": 0, "right": 8, "bottom": 2, "area": 4}]


@pytest.mark.parametrize(
    "code",
    [None, "", "  ", "1", "1 2 3", "0 3", "1 0", "1 -2", "48 2", "49 1", "5 2 3 1", "1 3 3 2", "1.5 2", "a b",
     "1  2", "1 99999999999999999999", "9223372036854775807 9223372036854775807"],
)  # fmt: skip
def test_what_is_no_code_of_the_size_said_has_no_silhouette(code):
    good = {"left": 0, "top": 0, "right": 2, "bottom": 1, "area": 2}
    assert read("1 2", code, "1 2") == [good, None, good]


def test_no_size_is_no_silhouette():
    sizes = pl.Series([None, 0, -1, 4], dtype=pl.Int64)
    found = silhouettes(pl.Series(["1 1"] * 4), sizes, pl.Series([4] * 4))
    assert [one is None for one in found] == [True, True, True, False]


def box(left: int, right: int, area: int) -> dict[str, int]:
    return {"left": left, "top": 0, "right": right, "bottom": 1, "area": area}


def ratios(heart: object, one: object, other: object) -> tuple[float | None, float | None, str | None]:
    silhouettes_ = dict(zip(ORGANS, ([heart], [one], [other]), strict=True))
    frame = pl.DataFrame(silhouettes_, schema=dict.fromkeys(ORGANS, SILHOUETTE))
    return with_ratios(frame).select("ctr", "cpar", "why").row(0)


def test_ctr_is_of_extents_and_cpar_of_areas():
    ctr, cpar, why = ratios(box(40, 90, 1500), box(70, 110, 2000), box(10, 50, 3000))
    assert (ctr, cpar, why) == (pytest.approx(50 / 100), pytest.approx(1500 / 5000), None)


@given(st.permutations([0, 1]))
def test_it_does_not_matter_which_lung_is_called_left(order):
    lungs = [box(70, 110, 2000), box(10, 50, 3000)]
    expected = ratios(box(40, 90, 1500), *lungs)
    assert ratios(box(40, 90, 1500), *(lungs[place] for place in order)) == expected


def test_masks_that_cannot_be_a_chest_have_no_ratio_but_a_reason():
    lung = box(0, 10, 5)
    said = "mask of the {} is missing, empty or not of the size said"
    assert ratios(None, lung, lung) == (None, None, said.format("heart"))
    assert ratios(lung, lung, None) == (None, None, said.format("right lung"))
    assert ratios(box(0, 20, 5), lung, lung) == (None, None, "heart is wider than the chest")

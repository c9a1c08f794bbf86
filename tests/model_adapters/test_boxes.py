"""The LLaVA notation: written boxes read back, whatever the shape of the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.records import Box
from model_adapters.boxes import Notation, padded

CODEC = Notation("[{x1}, {y1}, {x2}, {y2}]", padded(100), decimals=2)
fraction = st.floats(0, 1, allow_subnormal=False)


@st.composite
def boxes(draw):
    x1, x2 = sorted((draw(fraction), draw(fraction)))
    y1, y2 = sorted((draw(fraction), draw(fraction)))
    # floats whose difference vanishes in the padded square are no boxes of an image
    return Box(
        x1, y1, x2 if x2 - x1 > 1e-9 else min(1.0, x1 + 1e-6), y2 if y2 - y1 > 1e-9 else min(1.0, y1 + 1e-6)
    )


def test_a_square_image_is_written_as_it_is():
    assert CODEC.write(Box(0.1, 0.256, 0.5, 1.0), 224, 224) == "[0.10, 0.26, 0.50, 1.00]"


def test_padding_moves_and_shrinks_by_hand():
    # 200 x 100: 50 pixels above and below; y = 0 lies at 0.25 of the square, y = 1 at 0.75
    assert CODEC.write(Box(0, 0, 1, 1), 200, 100) == "[0.00, 0.25, 1.00, 0.75]"
    assert CODEC.write(Box(0, 0, 1, 1), 100, 200) == "[0.25, 0.00, 0.75, 1.00]"
    assert CODEC.read("[0.25, 0.50, 0.75, 1.00]", 100, 200) == ("{box}", (Box(0, 0.5, 1, 1),))


@given(
    box=st.tuples(fraction, fraction, fraction, fraction),
    width=st.integers(1, 4096),
    height=st.integers(1, 4096),
)
def test_round_trip_within_the_resolution(box, width, height):
    x1, x2 = sorted(box[:2])
    y1, y2 = sorted(box[2:])
    if x2 <= x1 or y2 <= y1:
        return
    box = Box(x1, y1, x2, y2)
    text, read = CODEC.read(CODEC.write(box, width, height), width, height)
    assert text == "{box}"
    assert len(read) == 1
    for axis, limit in zip((0, 1), CODEC.resolution(width, height), strict=True):
        low, high = box.xyxy[axis], box.xyxy[axis + 2]
        # thinner than one step is widened to one
        limit = limit if high - low >= 2 * limit else 2 * limit
        assert abs(read[0].xyxy[axis] - low) <= limit + 1e-9
        assert abs(read[0].xyxy[axis + 2] - high) <= limit + 1e-9


def test_a_thousand_random_boxes_in_free_text():
    rng = np.random.default_rng(0)
    for _ in range(1000):
        width, height = map(int, rng.integers(17, 3000, 2))
        x, y = np.sort(rng.random((2, 2)), axis=1)
        box = Box(float(x[0]), float(y[0]), float(x[1]), float(y[1]))
        text, read = CODEC.read(f"a {CODEC.write(box, width, height)} and 0.5, end.", width, height)
        assert text == "a {box} and 0.5, end."
        assert read[0].iou(box) > 0 or min(x[1] - x[0], y[1] - y[0]) < 0.02


@pytest.mark.parametrize(
    "text",
    [
        "[0.5, 0.1, 0.4, 0.9]",
        "[0.1, 0.9, 0.4, 0.9]",
        "[0.1, 0.2, 1.4, 0.9]",
        "[0.1, 0.2, 0.3]",
        "[0.1, 0.2, 0.3, x]",
        "[156, 516, 231, 607]",
        "0.1, 0.2, 0.3, 0.4",
    ],
)
def test_what_is_no_box_stays_text(text):
    assert CODEC.read(text, 224, 224) == (text, ())


def test_several_boxes_in_order_and_a_slot_the_model_wrote_itself():
    text, read = CODEC.read("[0, 0, .5, 0.5] {box} [0.5,0.5,1.0,1]", 10, 10)
    assert text == "{box} (box) {box}"
    assert read == (Box(0, 0, 0.5, 0.5), Box(0.5, 0.5, 1, 1))


def test_a_box_in_the_padding_only_is_none_of_the_image():
    assert CODEC.read("[0.0, 0.0, 1.0, 0.1]", 200, 100) == ("[0.0, 0.0, 1.0, 0.1]", ())

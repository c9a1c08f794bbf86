import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_recipes.records import BOX_SLOT, Box, Entry, Image, Mixture, fill_slots

FRACTION = st.floats(0, 1, allow_nan=False)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x1, x2 = sorted((draw(FRACTION), draw(FRACTION)))
    y1, y2 = sorted((draw(FRACTION), draw(FRACTION)))
    assume(x2 - x1 > 1e-6 and y2 - y1 > 1e-6)
    return Box(x1, y1, x2, y2)


@pytest.mark.parametrize(
    ("xyxy", "reason"),
    [
        ((0.5, 0.1, 0.4, 0.2), "reversed"),
        ((0.1, 0.5, 0.4, 0.2), "reversed"),
        ((0.1, 0.1, 0.1, 0.2), "empty"),
        ((-0.01, 0.1, 0.4, 0.2), "leaves the image"),
        ((0.1, 0.1, 1.01, 0.2), "leaves the image"),
        ((0.1, 0.1, 0.3, 224.0), "leaves the image"),
        ((0.1, math.nan, 0.4, 0.2), "not finite"),
        ((0.1, 0.1, math.inf, 0.2), "not finite"),
    ],
)
def test_illegal_boxes_are_refused_with_the_reason(xyxy, reason):
    with pytest.raises(ValueError, match=reason):
        Box(*xyxy)


def test_the_whole_image_is_a_box():
    assert Box(0, 0, 1, 1).area == 1


def test_iou_by_hand():
    # 0.4 x 0.4 boxes shifted by half their width: overlap 0.08, union 0.32 - 0.08.
    assert Box(0, 0, 0.4, 0.4).iou(Box(0.2, 0, 0.6, 0.4)) == pytest.approx(0.08 / 0.24)
    # Touching edges share no area.
    assert Box(0, 0, 0.5, 0.5).iou(Box(0.5, 0, 1, 0.5)) == 0
    # A quarter inside the whole.
    assert Box(0, 0, 1, 1).iou(Box(0.25, 0.25, 0.75, 0.75)) == pytest.approx(0.25)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_bounded(a, b):
    assert a.iou(b) == pytest.approx(b.iou(a))
    assert 0 <= a.iou(b) <= 1 + 1e-9
    assert a.iou(a) == pytest.approx(1)


@given(boxes(), boxes())
def test_iou_is_at_most_the_ratio_of_areas(a, b):
    assert a.iou(b) <= min(a.area, b.area) / max(a.area, b.area) + 1e-9


@given(st.lists(st.text().filter(lambda t: BOX_SLOT not in t and "{" not in t and "}" not in t), min_size=1))
def test_fill_slots_fills_in_order(parts):
    written = [f"<{i}>" for i in range(len(parts) - 1)]
    expected = parts[0] + "".join(box + part for box, part in zip(written, parts[1:], strict=True))
    assert fill_slots(BOX_SLOT.join(parts), written) == expected


def test_a_written_box_that_looks_like_a_slot_is_not_filled_again():
    assert fill_slots("{box} and {box}", ["{box}", "b"]) == "{box} and b"


@pytest.mark.parametrize(("text", "written"), [("{box}", []), ("no slot", ["a"]), ("{box} {box}", ["a"])])
def test_fill_slots_refuses_another_number_of_boxes(text, written):
    with pytest.raises(ValueError, match="box slots but"):
        fill_slots(text, written)


def test_an_entry_gives_its_boxes_to_the_prompt_first():
    a, b, c = Box(0, 0, 0.1, 0.1), Box(0, 0, 0.2, 0.2), Box(0, 0, 0.3, 0.3)
    entry = Entry("e", "i", "rec", "Like {box}?", "{box} {box}", (a, b, c), "phantom/vqa/count")
    assert entry.prompt_boxes == (a,)
    assert entry.target_boxes == (b, c)
    assert entry.kind == "count"


def test_of_split_keeps_order_and_splits_apart():
    images = tuple(
        Image(f"i{n}", f"p{n}", split, "s", "", 10, 10, "PA")
        for n, split in enumerate(["train", "test", "train"])
    )
    entries = tuple(Entry(f"e{n}", f"i{i}", "vqa", "?", "yes") for n, i in enumerate([2, 1, 0, 2]))
    mixture = Mixture(images, entries)
    assert [(i.image_id, e.entry_id) for i, e in mixture.of_split("train")] == [
        ("i2", "e0"),
        ("i0", "e2"),
        ("i2", "e3"),
    ]
    assert set(mixture.image_by_id()) == {"i0", "i1", "i2"}

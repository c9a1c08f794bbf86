"""Properties that hold for every task, and oracles for those that have a formula."""

import colorsys
import io
from collections import Counter

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_recipes.errors import UserError
from taco_probe.taco.tasks import CATEGORIES, TASKS
from taco_probe.taco.tasks.base import MIN_SIDE, Task, regions

SIDES = st.tuples(st.integers(MIN_SIDE, 40), st.integers(MIN_SIDE, 40))
SEEDS = st.integers(0, 2**32 - 1)
STRONG = [name for name, task in TASKS.items() if task.strengths]
SEMANTIC = [name for name, task in TASKS.items() if task.category == "semantic"]


@st.composite
def pictures(draw: st.DrawFn, colour: bool | None = None) -> np.ndarray:
    """Images of any size, smooth or rough, always with colour where there are channels."""
    height, width = draw(SIDES)
    channels = (3,) if (draw(st.booleans()) if colour is None else colour) else ()
    rng = np.random.default_rng(draw(SEEDS))
    image = rng.random((height, width, *channels), dtype=np.float32)
    return image ** np.float32(draw(st.sampled_from((0.2, 1, 5))))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Colour images with a label map of two rectangles of two classes, apart: every task can be made."""
    image = draw(pictures(colour=True))
    height, width = image.shape[:2]
    labels = np.zeros((height, width), np.int32)
    middle = height // 2
    top, bottom = draw(st.integers(0, middle - 3)), draw(st.integers(middle + 1, height - 3))
    left, right = draw(st.integers(0, width // 2)), draw(st.integers(width // 2 + 2, width))
    labels[top : top + 2, left:right] = draw(st.integers(1, 9))
    labels[bottom : bottom + 2, left:right] = draw(st.integers(10, 300))
    return image, labels


def test_there_are_thirty_tasks_ten_a_category():
    assert Counter(task.category for task in TASKS.values()) == dict.fromkeys(CATEGORIES, 10)
    assert all(name == task.name and task.summary for name, task in TASKS.items())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
class TestEveryTask:
    @settings(max_examples=12, deadline=None)
    @given(pair=pairs(), seed=SEEDS)
    def test_it_is_a_function_of_image_annotation_and_seed(self, task: Task, pair, seed: int):
        image, labels = pair
        kept = image.copy(), labels.copy()
        first, again = task(image, labels, seed=seed), task(image, labels, seed=seed)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert np.array_equal(image, kept[0])
        assert np.array_equal(labels, kept[1]), "inputs are left as they were"

    @settings(max_examples=12, deadline=None)
    @given(pair=pairs(), seed=SEEDS)
    def test_it_keeps_shape_type_and_range(self, task: Task, pair, seed: int):
        image, labels = pair
        for made in task(image, labels, seed=seed):
            assert made.shape[:2] == image.shape[:2]
            assert made.shape[2:] in ((), (3,))
            assert made.dtype == np.float32
            assert 0 <= made.min() <= made.max() <= 1

    def test_it_changes_something(self, task: Task):
        rng = np.random.default_rng(1)
        labels = np.zeros((40, 48), np.int32)
        labels[4:16, 5:30], labels[24:36, 10:40] = 1, 2
        image = rng.random((40, 48, 3), dtype=np.float32) * 0.6 + 0.2
        made = task(image, labels, seed=2)
        assert made.input.shape != made.target.shape or np.abs(made.input - made.target).mean() > 0.01
        kept = made.target if task.category == "generative" else made.input
        assert np.array_equal(kept, image), "the side that is the image is the image"

    def test_what_it_needs_is_asked_for_by_name(self, task: Task):
        grey = np.full((16, 16), 0.5, np.float32)
        if task.needs:
            with pytest.raises(UserError, match=task.name):
                task(grey)
        else:
            assert task(grey).input.shape == (16, 16)


@pytest.mark.parametrize("name", STRONG)
@settings(max_examples=12, deadline=None)
@given(image=pictures(colour=True), seed=SEEDS)
def test_strength_0_makes_input_and_target_equal(name: str, image: np.ndarray, seed: int):
    made = TASKS[name](image, strength=0, seed=seed)
    assert np.array_equal(made.input, image)
    assert np.array_equal(made.target, image)


@pytest.mark.parametrize("name", [n for n in STRONG if n not in ("gamma", "scaling", "rotation", "elastic")])
def test_a_stronger_task_parts_input_and_target_more(name: str):
    smooth = np.add.outer(np.sin(np.arange(48) / 5), np.cos(np.arange(48) / 7))[..., None] * [0.1, 0.15, 0.2]
    image = (0.5 + smooth).astype(np.float32)
    image[20:28, 20:28] = (0.9, 0.4, 0.1)
    apart = [
        np.mean([np.square(np.subtract(*TASKS[name](image, strength=s, seed=k))).mean() for k in range(6)])
        for s in (0, 0.2, 0.6, 1)
    ]
    assert apart == sorted(apart)
    assert apart[0] == 0 < apart[1]


def test_a_drawn_strength_leaves_the_rest_of_the_chance_as_it_is():
    image = np.random.default_rng(0).random((24, 24), dtype=np.float32)
    drawn = TASKS["translation"](image, seed=5).target
    strength = np.random.default_rng(5).uniform(*TASKS["translation"].strengths)
    assert np.array_equal(drawn, TASKS["translation"](image, strength=float(strength), seed=5).target)


# Inverses


@pytest.mark.parametrize("name", ["flip_horizontal", "flip_vertical", "inversion"])
@given(image=pictures())
def test_doing_it_twice_gives_the_image_back(name: str, image: np.ndarray):
    twice = TASKS[name](TASKS[name](image).target).target
    assert np.allclose(twice, image, atol=1e-6)


@given(side=st.integers(MIN_SIDE, 30), turns=st.sampled_from((0.5, 1.0)), seed=SEEDS)
def test_quarter_turns_of_square_images_come_back_exactly(side: int, turns: float, seed: int):
    image = np.random.default_rng(seed).random((side, side, 3), dtype=np.float32)
    for _ in range(int(2 / turns)):  # the same seed turns the same way
        before, image = image, TASKS["rotation"](image, strength=turns, seed=seed).target
        assert not np.array_equal(before, image)
    start = np.random.default_rng(seed).random((side, side, 3), dtype=np.float32)
    assert np.array_equal(image, start)


@given(image=pictures(), strength=st.floats(0, 1), seed=SEEDS)
def test_a_translation_moves_what_stays_in_the_frame_and_nothing_else(image, strength: float, seed: int):
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    rng.uniform()
    direction = rng.uniform(0, 2 * np.pi)
    dy, dx = (round(0.4 * strength * side * f(direction)) for side, f in ((height, np.sin), (width, np.cos)))
    moved = TASKS["translation"](image, strength=strength, seed=seed).target
    expected = np.zeros_like(image)
    expected[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = image[
        max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
    ]
    assert np.array_equal(moved, expected)


@given(image=pictures(), strength=st.floats(0.05, 1), seed=SEEDS)
def test_gamma_is_a_power_that_can_be_undone(image: np.ndarray, strength: float, seed: int):
    target = TASKS["gamma"](image, strength=strength, seed=seed).target.astype(np.float64)
    power = 4**strength
    assert any(np.allclose(target, image.astype(np.float64) ** p, atol=1e-5) for p in (power, 1 / power))


# Formulas


@given(
    labels=hnp.arrays(np.int32, st.tuples(st.integers(8, 12), st.integers(8, 12)), elements=st.integers(0, 1))
)
@settings(max_examples=30, deadline=None)
def test_distance_is_that_to_the_nearest_background_pixel(labels: np.ndarray):
    labels[0, 0], labels[4, 4] = 0, 1
    image = np.zeros(labels.shape, np.float32)
    outside = np.argwhere(labels == 0)
    far = np.array(
        [[np.hypot(*(outside - (y, x)).T).min() for x in range(len(row))] for y, row in enumerate(labels)]
    )
    assert np.allclose(TASKS["distance"](image, labels).target, far / far.max(), atol=1e-6)


@given(image=pictures(), strength=st.floats(0.01, 1))
def test_jpeg_is_that_of_pil(image: np.ndarray, strength: float):
    file = io.BytesIO()
    PIL.Image.fromarray((image * 255).round().astype(np.uint8)).save(
        file, "JPEG", quality=round(50 - 48 * strength)
    )
    expected = np.asarray(PIL.Image.open(file)) / np.float32(255)
    assert np.allclose(TASKS["remove_jpeg"](image, strength=strength).input, expected, atol=1e-6)


@given(pair=pairs())
@settings(max_examples=25, deadline=None)
def test_drawings_of_regions_fit_them(pair):
    image, labels = pair
    mask = labels > 0
    assert np.array_equal(TASKS["foreground_mask"](image, labels).target, mask)
    assert (TASKS["ellipses"](image, labels).target[mask] == 1).all(), "an ellipse holds its region"
    assert not TASKS["skeleton"](image, labels).target[~mask].any(), "a skeleton lies inside"
    assert not TASKS["boundary"](image, labels).target[~mask].any()
    boxes = TASKS["boxes"](image, labels).target > 0
    assert np.array_equal(boxes, mask), "a rectangle two pixels high is its own box"
    found = regions(labels)
    one = TASKS["instance_mask"](image, labels, seed=3).target > 0
    assert len(set(found[one])) == 1
    assert np.array_equal(one, found == found[one][0])


def test_a_box_is_an_outline_around_its_region():
    labels = np.zeros((64, 64), np.int32)
    labels[10:30, 20:50] = 1
    labels[15:25, 30:40] = 0
    target = TASKS["boxes"](np.zeros((64, 64), np.float32), labels).target
    expected = np.zeros((64, 64))
    expected[10:30, 20:50] = 1
    expected[11:29, 21:49] = 0
    assert np.array_equal(target, expected)


def outlines(labels: np.ndarray, thick: int) -> np.ndarray:
    """Pixels of a region's bounding box that are less than `thick` from outside it, pixel by pixel."""
    drawn = np.zeros(labels.shape)
    for number in range(1, regions(labels).max() + 1):
        rows, columns = np.nonzero(regions(labels) == number)
        for y in range(rows.min(), rows.max() + 1):
            for x in range(columns.min(), columns.max() + 1):
                edge = min(y - rows.min(), rows.max() - y, x - columns.min(), columns.max() - x)
                drawn[y, x] = max(drawn[y, x], edge < thick)
    return drawn


@st.composite
def rectangles(draw: st.DrawFn) -> np.ndarray:
    """Up to four rectangles of several classes anywhere, also over each other and thin ones at the border."""
    labels = np.zeros((130, 128), np.int32)
    for number in range(draw(st.integers(1, 4))):
        top, left = draw(st.integers(0, 120)), draw(st.integers(0, 120))
        high, wide = draw(st.integers(1, 100)), draw(st.integers(1, 100))
        labels[top : top + high, left : left + wide] = number + 1
    return labels


@given(labels=rectangles())
@settings(max_examples=25, deadline=None)
def test_every_box_is_whole_wherever_others_lie(labels: np.ndarray):
    labels[-1] = 0  # some background
    target = TASKS["boxes"].make(np.zeros(labels.shape, np.float32), labels, 1.0, None)[1]
    assert np.array_equal(target, outlines(labels, thick=2))


def test_a_region_thinner_than_the_line_at_the_border_leaves_other_boxes_whole():
    labels = np.zeros((128, 128), np.int32)
    labels[10:60, 50:100] = 1
    alone = TASKS["boxes"](np.zeros((128, 128), np.float32), labels).target
    labels[20:70, 0] = 2
    both = TASKS["boxes"](np.zeros((128, 128), np.float32), labels).target
    assert (both[alone > 0] == 1).all()
    assert both.sum() == alone.sum() + 50


def test_peaks_lie_at_centroids():
    labels = np.zeros((41, 41), np.int32)
    labels[4:9, 6:11], labels[20:31, 20:35] = 1, 1
    target = TASKS["centres"](np.zeros((41, 41), np.float32), labels).target
    assert target[6, 8] == 1
    assert target[25, 27] == 1
    assert np.isclose(target[6, 8 + 2], np.exp(-8 * 4 / 25))


def test_classes_have_the_same_colour_in_every_image_and_counts_their_hue():
    image = np.zeros((16, 16), np.float32)
    first, second = np.zeros((16, 16), np.int32), np.zeros((16, 16), np.int32)
    first[1:4, 1:4], first[8:12, 8:12] = 5, 7
    second[8:12, 8:12], second[1:4, 8:12] = 5, 9
    a, b = TASKS["class_mask"](image, first).target, TASKS["class_mask"](image, second).target
    assert np.array_equal(a[2, 2], b[9, 9])
    assert not np.array_equal(a[2, 2], a[9, 9])
    counted = TASKS["region_count"](image, first).target
    assert len({tuple(colour) for colour in counted.reshape(-1, 3)}) == 3


def test_colours_of_classes_do_not_cost_more_for_large_numbers():
    labels = np.zeros((16, 16), np.int64)
    labels[1:4, 1:4], labels[8:12, 8:12] = 3, np.iinfo(np.int32).max
    target = TASKS["class_mask"](np.zeros((16, 16), np.float32), labels).target
    assert target[2, 2] == pytest.approx(colorsys.hsv_to_rgb(3 * 0.618033988749895 % 1, 0.85, 1), abs=1e-6)
    assert len({tuple(colour) for colour in target.reshape(-1, 3)}) == 3
    assert not target[0].any()


def test_specks_do_not_count_as_regions_unless_there_is_nothing_else():
    labels = np.zeros((200, 200), np.int32)
    labels[0, 0] = 1
    assert regions(labels).max() == 1
    labels[50:90, 50:90] = 1
    assert regions(labels).max() == 1
    assert regions(labels)[0, 0] == 0


def test_sparse_views_leave_the_image_where_there_are_many_projections():
    y, x = np.indices((64, 64)) - 31.5
    image = (0.8 * (x**2 / 1.5 + y**2 < 400)).astype(np.float32)
    few, many = (TASKS["remove_sparse_view"](image, strength=s).input for s in (1, 0.01))
    assert np.abs(many - image).mean() < 0.03 < np.abs(few - image).mean()


# Input


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (np.zeros((16, 16)), None, "float32"),
        (np.zeros((16, 16, 4), np.float32), None, "H, W, 3"),
        (np.zeros((1, 1), np.float32), None, "1 x 1 pixels"),
        (np.full((16, 16), 2, np.float32), None, "in 0..1"),
        (np.full((16, 16), np.nan, np.float32), None, "in 0..1"),
        (np.zeros((16, 16), np.float32), np.zeros((16, 15), np.int32), "annotation of shape"),
        (np.zeros((16, 16), np.float32), np.zeros((16, 16)), "whole numbers"),
        (np.zeros((16, 16), np.float32), np.full((16, 16), -1), "from 0 up"),
    ],
)
def test_what_is_no_image_or_annotation_is_refused(image, labels, message: str):
    with pytest.raises(UserError, match=message):
        TASKS["boxes"](image, labels)


@pytest.mark.parametrize(
    ("labels", "name", "message"),
    [
        (np.zeros((16, 16), np.int32), "boxes", "empty"),
        (np.ones((16, 16), np.int32), "distance", "covers the whole"),
        (np.eye(16, dtype=np.int32), "region_count", "two regions"),
        (np.eye(16, dtype=np.int32), "class_mask", "two classes"),
    ],
)
def test_empty_full_and_single_class_masks_are_refused_with_the_reason(labels, name: str, message: str):
    with pytest.raises(UserError, match=message):
        TASKS[name](np.zeros((16, 16), np.float32), labels)


def test_a_strength_out_of_range_or_in_vain_is_refused():
    image = np.zeros((16, 16), np.float32)
    with pytest.raises(UserError, match="from 0 to 1"):
        TASKS["rotation"](image, strength=1.5)
    with pytest.raises(UserError, match="no strength"):
        TASKS["inversion"](image, strength=0.5)

"""What the numbers of masks mean, decided over a dataset."""

import numpy as np
import PIL.Image
import pytest

from data_recipes.errors import UserError
from taco_probe.taco.data import from_arrays
from taco_probe.taco.data.images import to_labels
from tests.taco_probe.taco.factories import grey, mask


def square(level: int, *, other: int = 0) -> np.ndarray:
    made = np.zeros((32, 32), np.uint8)
    made[4:14, 4:14], made[18:28, 12:30] = level, other
    return made


def smooth(labels: np.ndarray) -> np.ndarray:
    """As an editor saves it that draws with soft edges."""
    large = PIL.Image.fromarray(labels).resize((80, 80), PIL.Image.Resampling.BILINEAR)
    return np.asarray(large.resize((32, 32), PIL.Image.Resampling.BILINEAR))


def labels_of(*masks: np.ndarray) -> list[set[int]]:
    """Numbers of each annotation, of a dataset with these masks."""
    dataset = from_arrays("x", "y", grey(len(masks), 32, 32), list(masks), labels="classes")
    return [set(np.unique(sample.annotation).tolist()) for sample in dataset]


def test_what_255_means_is_the_same_in_all_masks_of_a_dataset():
    assert labels_of(square(255), square(255, other=255), square(0)) == [{0, 1}, {0, 1}, {0}]
    assert labels_of(square(255), square(255, other=128)) == [{0, 255}, {0, 128, 255}]
    assert labels_of(square(255), square(1, other=2)) == [{0, 255}, {0, 1, 2}]
    assert labels_of(square(255, other=3), square(255, other=7), square(0, other=9))[0] == {0, 3, 255}


def test_many_small_objects_are_no_soft_edges():
    numbers = np.zeros((100, 100), np.uint8)
    for k in range(255):
        numbers[6 * (k // 16) : 6 * (k // 16) + 4, 6 * (k % 16) : 6 * (k % 16) + 4] = k + 1
    for labels in ([numbers], [numbers.astype(np.uint16)]):
        found = from_arrays("x", "y", grey(1, 100, 100), labels, labels="instances")[0].annotation
        assert np.array_equal(found, numbers)


def test_a_part_of_a_dataset_reads_masks_as_the_whole_does():
    dataset = from_arrays("x", "y", grey(2, 32, 32), [square(255), square(255, other=128)], labels="classes")
    assert dataset.only([0])[0].annotation.max() == 255


def test_soft_edges_of_black_and_white_masks_are_cut_at_half():
    line = np.zeros((32, 32), np.uint8)
    line[np.arange(32), np.arange(32)] = 255
    for masks in ((smooth(square(255)), square(255)), (smooth(line), smooth(square(255)))):
        assert labels_of(*masks) == [{0, 1}, {0, 1}]
        dataset = from_arrays("x", "y", grey(2, 32, 32), masks, labels="classes")
        assert "class_mask" not in dataset.feeds()
    cut = from_arrays("x", "y", grey(1, 32, 32), [smooth(square(255))], labels="classes")[0].annotation
    assert np.array_equal(cut, smooth(square(255)) >= 128)


def test_masks_of_0_and_255_and_of_equal_channels_are_label_maps():
    assert set(np.unique(to_labels(mask() // 2 * 255, "m", white=255))) == {0, 1}
    assert set(np.unique(to_labels(mask(), "m"))) == {0, 1, 2}
    assert np.array_equal(to_labels(np.repeat(mask()[..., None], 3, axis=2), "m"), mask())
    only_seven = np.where(mask() > 1, 7, 0)
    assert to_labels(only_seven, "m").max() == 7, "a class keeps its number where it is alone"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((9, 9, 3), (1, 2, 3), np.uint8), "colours"),
        (np.full((9, 9), 0.5), "whole"),
        (np.full((9, 9), -1), "from 0 up"),
        (np.zeros(9, np.uint8), "shape"),
    ],
)
def test_masks_that_are_no_label_map_are_refused_by_name(labels: np.ndarray, message: str):
    with pytest.raises(UserError, match=f"m7.*{message}"):
        to_labels(labels, "m7")

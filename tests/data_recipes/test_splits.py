from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from data_recipes.records import Image
from data_recipes.splits import by_patient, crossing, same_pixels

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


@given(st.sets(st.text(min_size=1)), st.sets(st.text(min_size=1)), st.integers(0, 99))
def test_a_patient_keeps_its_split_when_others_come(some, more, seed):
    before, after = by_patient(some, FRACTIONS, seed), by_patient(some | more, FRACTIONS, seed)
    assert all(after[patient] == split for patient, split in before.items())


def test_fractions_hold_over_many_patients_and_the_seed_matters():
    patients = [f"p{i}" for i in range(5000)]
    drawn = by_patient(patients, FRACTIONS, 0)
    shares = Counter(drawn.values())
    # standard deviation of the train share: sqrt(0.8 * 0.2 / 5000) = 0.0057
    assert abs(shares["train"] / 5000 - 0.8) < 0.025
    assert drawn != by_patient(patients, FRACTIONS, 1)
    assert set(by_patient(patients, {"train": 0.5, "test": 0.5}, 0).values()) == {"train", "test"}


def test_crossing_names_patients_in_two_splits():
    images = [Image(str(n), patient, split, "s", "", 1, 1, "") for n, (patient, split) in enumerate(
        [("a", "train"), ("a", "train"), ("b", "train"), ("b", "test")])]  # fmt: skip
    assert crossing(images) == {"b": {"train", "test"}}


def test_equal_pixels_in_two_splits_are_found_and_equal_pixels_in_one_are_not():
    def image(name: str, split: str) -> Image:
        return Image(name, name, split, "s", "", 1, 1, "")

    images = [
        image("a", "train"),
        image("b", "train"),
        image("c", "test"),
        image("d", "test"),
        image("e", "test"),
    ]
    assert same_pixels(images, {"a": "1", "b": "1", "c": "1", "d": "", "e": "2"}) == [("a", "c")]
    assert same_pixels(images, dict.fromkeys("abcde", "")) == []

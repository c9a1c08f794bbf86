"""Which entries are probed: even over tasks and patients, the same for every run, never a test patient."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image, Mixture
from taco_probe.dynamics.probe import choose, even_shares

TASKS = ("report", "rec", "vqa")


def mixture(patients: int = 20, images: int = 2, split: str = "validation") -> Mixture:
    shown = [
        Image(f"i{p}-{n}", f"p{p}", split, "made", "", 10, 10, "PA")
        for p in range(patients)
        for n in range(images)
    ]
    entries = [
        Entry(f"{image.image_id}/{task}", image.image_id, task, "?", "yes")
        for image in shown
        for task in TASKS
    ]
    return Mixture(tuple(shown), tuple(entries), {"name": "made"})


def test_tasks_are_as_even_as_the_entries_allow():
    made = mixture()
    few = tuple(e for e in made.entries if e.task != "rec" or e.entry_id.startswith("i0"))
    probe = choose(replace(made, entries=few), 30)
    assert probe.counts() == {"report": 14, "rec": 2, "vqa": 14}
    assert len(probe.pairs) == 30


def test_a_patient_comes_twice_for_a_task_only_when_all_others_came_once():
    probe = choose(mixture(patients=10, images=3), 45)
    for task in TASKS:
        seen = Counter(image.patient_id for image, entry in probe.pairs if entry.task == task)
        assert sorted(seen.values()) == [1] * 5 + [2] * 5


def test_the_order_of_the_mixture_and_its_training_images_do_not_matter():
    made = mixture()
    shuffled = list(made.entries)
    random.Random(3).shuffle(shuffled)
    training = Image("other", "other", "train", "made", "", 10, 10, "PA")
    another = Mixture(
        (training, *made.images), (*shuffled, Entry("t", "other", "vqa", "?", "no")), {"name": "other"}
    )
    assert choose(another, 24).digest == choose(made, 24).digest


def test_another_seed_takes_other_entries_and_another_answer_another_digest():
    made = mixture()
    assert choose(made, 24, seed=1).digest != choose(made, 24).digest
    changed = tuple(replace(entry, target="no") for entry in made.entries)
    assert choose(replace(made, entries=changed), 24).digest != choose(made, 24).digest


def test_test_patients_are_never_probed():
    with pytest.raises(UserError, match="never taken from the test split"):
        choose(mixture(split="test"), 6, split="test")
    made = mixture()
    crossing = Image("x", "p0", "test", "made", "", 10, 10, "PA")
    probe = choose(replace(made, images=(*made.images, crossing)), 30)
    assert "p0" not in probe.patients


def test_too_few_entries_or_too_many_tasks_are_one_clear_line():
    with pytest.raises(UserError, match=r"has 120: ask for fewer \(--dynamics_entries\)"):
        choose(mixture(), 121)
    with pytest.raises(UserError, match="too few for 3 tasks: ask for 6 or more"):
        choose(mixture(), 5)
    with pytest.raises(UserError, match="did you mean 'validation'"):
        choose(mixture(), 6, split="valid")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.data())
def test_shares_add_up_fit_and_differ_by_one_where_nothing_runs_out(available, data):
    number = data.draw(st.integers(0, sum(available)))
    shares = even_shares(number, available)
    assert sum(shares) == number
    assert all(0 <= share <= most for share, most in zip(shares, available, strict=True))
    free = [share for share, most in zip(shares, available, strict=True) if share < most]
    assert not free or max(shares) - min(free) <= 1

"""Failed instances and trajectories."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.errors import UserError
from taco_probe.taco.tasks import TASKS, Instance
from taco_probe.taco.tasks.alter import ALTERATIONS, STRENGTHS, alter
from taco_probe.taco.tasks.failures import FAILURES, allowed, blank, eroded, fail, swapped, underdone

SEEDS = st.integers(0, 2**32 - 1)


def picture(seed: int = 0, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).random((side, side), dtype=np.float32) * 0.5 + 0.25


def made(seed: int = 0, side: int = 32, name: str = "flip_vertical") -> Instance:
    return TASKS[name](picture(seed, side), seed=seed)


def test_a_swapped_target_is_that_of_the_other_in_this_ones_size():
    assert np.array_equal(swapped(made(0), made(1)).target, made(1).target)
    assert np.array_equal(swapped(made(0), made(1)).input, made(0).input)
    assert swapped(made(0), made(1, side=20)).target.shape == (32, 32)


def test_a_blank_target_is_black_and_an_eroded_one_darker():
    assert not blank(made()).target.any()
    before, after = made().target, eroded(made(), 0.5).target
    assert (after <= before).all()
    assert (after < before).any()
    assert np.array_equal(eroded(made(), 0).target, before)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.strengths and not task.needs])
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_an_underdone_task_lies_between_nothing_and_the_task(name: str, seed: int):
    task, image = TASKS[name], picture(3)
    whole = task(image, strength=0.8, seed=seed)
    assert all(
        np.allclose(a, b, atol=1e-6)
        for a, b in zip(underdone(task, image, None, strength=0.8, seed=seed, done=1), whole, strict=True)
    )
    none = underdone(task, image, None, strength=0.8, seed=seed, done=0)
    assert np.array_equal(none.input, none.target)
    if task.category == "transformation":
        weaker = task(image, strength=0.8 * 0.5, seed=seed)
        part = underdone(task, image, None, strength=0.8, seed=seed, done=0.5)
        assert np.allclose(part.target, weaker.target, atol=1e-6)


@pytest.mark.parametrize("kind", FAILURES)
def test_each_failure_keeps_the_input_and_changes_the_target(kind: str):
    task, image = TASKS["brightness"], picture()
    right = task(image, strength=0.7, seed=4)
    other = made(9) if kind.startswith("other_") else None
    wrong = fail(kind, task, image, None, seed=4, strength=0.7, other=other)
    assert np.array_equal(wrong.input, right.input)
    assert wrong.target.shape == right.target.shape
    assert not np.allclose(wrong.target, right.target, atol=1e-3)


def test_a_failure_that_cannot_be_is_refused():
    task, image = TASKS["inversion"], picture()
    assert not allowed("underdone", task)
    assert allowed("blank", task)
    with pytest.raises(UserError, match="cannot be under-done"):
        fail("underdone", task, image, None, seed=0)
    with pytest.raises(UserError, match="did you mean 'blank'"):
        fail("blanc", task, image, None, seed=0)
    with pytest.raises(UserError, match="give other"):
        fail("other_task", task, image, None, seed=0)
    with pytest.raises(UserError, match="takes no other"):
        fail("blank", task, image, None, seed=0, other=made())


@pytest.mark.parametrize("kind", ALTERATIONS)
@pytest.mark.parametrize("part", ["input", "target", "both"])
def test_an_alteration_changes_the_named_part_more_and_more(kind: str, part: str):
    y, x = np.indices((33, 33)) - 16
    bar = np.exp(-((y / 8) ** 2) - (x / 3) ** 2).astype(np.float32) * 0.5  # nothing at the edges, nor square
    start = Instance(bar, 0.6 * bar)
    assert len(STRENGTHS) >= 11
    path = [alter(start, kind, s, part=part) for s in STRENGTHS]
    for name in ("input", "target"):
        away = [float(np.abs(getattr(one, name) - getattr(start, name)).mean()) for one in path]
        assert away[0] == 0
        if part in (name, "both"):
            assert away == sorted(away)
            assert away[1] > 0
        else:
            assert not any(away)
    assert all(one.target.min() >= 0 and one.target.max() <= 1 for one in path)


def test_noise_is_one_field_that_grows():
    start = made()
    steps = [alter(start, "noise", s, seed=3).target - start.target for s in (0.1, 0.2)]
    inside = (np.abs(steps[1]) < 0.2) & (np.abs(steps[1]) > 1e-3)
    assert np.allclose(steps[1][inside], 2 * steps[0][inside], atol=1e-5)
    assert not np.allclose(
        alter(start, "noise", 0.5, seed=4).target, alter(start, "noise", 0.5, seed=3).target
    )


def test_an_unknown_alteration_part_or_strength_is_refused():
    for arguments, message in (
        (("brightnes", 0.5, "target"), "did you mean 'brightness'"),
        (("noise", 2.0, "target"), "from 0 to 1"),
        (("noise", 0.5, "targe"), "did you mean 'target'"),
    ):
        kind, strength, part = arguments
        with pytest.raises(UserError, match=message):
            alter(made(), kind, strength, part=part)

"""Which steps of runs are put side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import UserError
from taco_probe.dynamics.moments import PERCENT, STEP, matched, named
from taco_probe.dynamics.runs import Series
from taco_probe.dynamics.schedule import steps_of
from tests.taco_probe.dynamics import fakes


def run(name, total, steps):
    measured = {step: fakes.measured(step, per_task=2, max_steps=total) for step in steps}
    return Series(name, Path(name), name, "tiny", 0, {}, measured)


def test_runs_of_one_length_are_compared_at_equal_steps():
    found = matched([run("a", 100, (0, 10, 100)), run("b", 100, (0, 11, 100))])
    assert (found.unit, found.at) == (STEP, (0, 100))
    assert named(found.unit, found.at[-1]) == "step 100"


def test_runs_of_different_length_are_compared_after_equal_shares():
    a, b = run("a", 750, (0, 375, 750)), run("b", 701, (0, 350, 400, 701))
    found = matched([a, b])
    assert (found.unit, found.steps) == (PERCENT, {"a": (0, 375, 750), "b": (0, 350, 701)})
    assert found.at == (0, pytest.approx(50, abs=0.1), 100)
    assert named(found.unit, found.at[1]) == "50 % of training"
    assert found.last(b).step == 701
    assert found.place(b, 400) == pytest.approx(100 * 400 / 701)


def test_equal_steps_serve_where_shares_do_not_match():
    found = matched([run("a", 1000, (0, 10, 20)), run("b", 100, (0, 10, 20))])
    assert (found.unit, found.at) == (STEP, (0, 10, 20))


def test_the_start_meets_the_start_only_and_the_end_the_end():
    with pytest.raises(UserError, match=r"no measured step, or share.*\(a: 0, 700; b: 1, 749\)"):
        matched([run("a", 700, (0, 700)), run("b", 750, (1, 749))])


def test_no_measurement_serves_twice():
    found = matched([run("a", 1000, (0, 10, 11, 1000)), run("b", 500, (0, 5, 500))])
    assert found.steps == {"a": (0, 10, 1000), "b": (0, 5, 500)}


@given(
    st.lists(st.integers(20, 3000), min_size=2, max_size=4, unique=True),
    st.lists(st.integers(1, 19).map(lambda share: 5 * share), min_size=1, max_size=4, unique=True),
)
def test_equal_percentages_meet_whatever_the_lengths(totals, percents):
    text = ",".join(["0", *(f"{percent}%" for percent in percents), "end"])
    runs = []
    for total in totals:
        measured = {step: fakes.Nothing(step, total) for step in steps_of(text, total)}
        runs.append(Series(f"r{total}", Path("x"), "x", "tiny", 0, {}, measured))
    found = matched(runs)
    assert found.unit == PERCENT
    wanted = sorted({0, *percents, 100})
    assert len(found.at) == len(wanted)
    for at, percent in zip(found.at, wanted, strict=True):
        assert at == pytest.approx(percent, abs=100 * 0.5 / min(totals) + 0.01)

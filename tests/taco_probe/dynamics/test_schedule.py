"""Steps as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import UserError
from taco_probe.dynamics.schedule import parse_steps, steps_of


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", []),
        ("0,10,50%,end,900", [0, 10, 50, 100]),
        (" end , 0 ", [0, 100]),
        ("33.4%,33%", [33]),
        ("0%,100%,end", [0, 100]),
    ],
)
def test_steps_shares_and_the_end_become_steps_in_order_once_each(text, steps):
    assert steps_of(text, 100) == steps


@pytest.mark.parametrize("text", ["ten", "-1", "0,101%", "5 10", "1.5", "end%", "%", "1e3"])
def test_what_is_no_step_is_named_with_the_flag(text):
    wrong = text.rpartition(",")[2]
    with pytest.raises(UserError, match=f"--dynamics_steps .*'{wrong}' is no step; give steps, percentages"):
        parse_steps(text)


@given(st.integers(1, 10_000), st.integers(0, 100))
def test_a_percentage_is_the_nearest_step(total, percent):
    (step,) = steps_of(f"{percent}%", total)
    assert abs(step - total * percent / 100) <= 0.5

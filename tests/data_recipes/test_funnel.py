"""The funnel accounts for every row."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.funnel import Funnel, Step, as_json, table

ROWS = st.lists(st.tuples(st.integers(0, 9) | st.none(), st.integers(0, 9)), max_size=30)


@given(ROWS, st.integers(0, 9), st.integers(0, 9))
def test_every_row_is_kept_or_dropped_for_the_first_reason_that_holds(rows, low, high):
    frame = pl.DataFrame(rows, schema={"x": pl.Int64, "y": pl.Int64}, orient="row").with_row_index("row", 1)
    frame = frame.with_columns(file=pl.lit("f"))
    funnel = Funnel("test")
    drops = {"x is low": pl.col("x") < low, "y is high": pl.col("y") > high}
    kept = funnel.keep("step", "rows", frame, drops, reject=True)
    expected, why = [], {}
    for number, (x, y) in enumerate(rows, start=1):
        if x is not None and x < low:
            why[number] = "x is low"
        elif y > high:
            why[number] = "y is high"
        else:
            expected.append(number)
    assert kept["row"].to_list() == expected
    assert {r.row: r.reason for r in funnel.rejected} == why
    (step,) = funnel.steps
    assert (step.came, step.kept) == (len(rows), len(expected))
    assert step.dropped == {r: list(why.values()).count(r) for r in set(why.values())}


def test_a_step_that_loses_a_row_without_a_reason_cannot_be_made():
    with pytest.raises(AssertionError):
        Step("test", "step", "rows", 3, 1, {"why": 1})


def test_a_policy_is_counted_but_names_no_row():
    funnel = Funnel("test")
    funnel.keep("views", "images", pl.DataFrame({"view": ["PA", "L"]}), {"lateral": pl.col("view") == "L"})
    assert funnel.rejected == []
    assert as_json(funnel.steps) == [
        {"source": "test", "step": "views", "rows": "images", "came": 2, "kept": 1, "dropped": {"lateral": 1}}
    ]
    assert table(as_json(funnel.steps)) == [("test", "views", "images", 2, 1, "1 lateral")]


def test_many_reasons_are_summed_up():
    step = {"source": "s", "step": "x", "rows": "rows", "came": 15, "kept": 0}
    reasons = {f"r{n}": n for n in range(1, 6)}
    assert table([{**step, "dropped": reasons}])[0][-1] == "5 r5; 4 r4; 3 r3; 2 r2; 1 for 1 other reasons"

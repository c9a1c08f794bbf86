"""Filters: each takes what it should, none adds, and their order does not matter."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.pseudo.filters import Answered, as_json, verdicts
from data_recipes.pseudo.spec import FILTERS, Filters
from data_recipes.records import Entry

OFF = {"likelihood": False, "agreement": False, "consistency": False}


def answered(
    number, *, task="severity", target="grade 1, vascular congestion", p=-0.1, agree=1.0, against=()
):
    entry = Entry(f"i/{task}/{number}", "i", task, "?", target, (), f"x/{task}/k")
    return Answered(entry, target or "???", p, agree, against)


ANSWERS = st.lists(
    st.builds(
        lambda task, target, p, agree, against: {
            "task": task, "target": target, "p": p, "agree": agree, "against": against,
        },
        st.sampled_from(["severity", "vqa"]),
        st.sampled_from(["", "no"]),
        st.floats(-5, 0),
        st.floats(0, 1),
        st.sampled_from([(), ("presence",)]),
    ),
    min_size=1,
    max_size=30,
).map(lambda many: [answered(n, **one) for n, one in enumerate(many)])  # fmt: skip
THRESHOLDS = st.one_of(st.just(False), st.floats(0, 1))
FILTER = st.builds(
    lambda likelihood, agreement, consistency: Filters(
        likelihood=likelihood, agreement=agreement, consistency=consistency
    ),
    THRESHOLDS,
    THRESHOLDS,
    st.booleans(),
)


def ids(answers):
    return {one.entry.entry_id for one in answers}


def only(**on):
    return Filters(**(OFF | on))


def kept(answers, filters):
    judged = zip(answers, verdicts(answers, filters), strict=True)
    return [one for one, passes in judged if all(passes.values())]


def test_what_cannot_be_read_is_never_kept():
    assert ids(kept([answered(0), answered(1, target="")], only())) == {"i/severity/0"}


def test_likelihood_keeps_the_likeliest_share_of_each_task():
    answers = [answered(n, p=-n) for n in range(10)] + [answered(n, task="vqa", p=-9 - n) for n in range(4)]
    found = ids(kept(answers, only(likelihood=0.5)))
    assert found == {f"i/severity/{n}" for n in range(5)} | {"i/vqa/0", "i/vqa/1"}
    assert len(kept(answers, only(likelihood=1.0))) == 14
    assert len(kept(answers, only(likelihood=0.0))) == 2  # one a task, not none


def test_agreement_is_at_least_the_threshold():
    answers = [answered(n, agree=n / 4) for n in range(5)] + [answered(9, agree=None)]
    assert ids(kept(answers, only(agreement=0.5))) == {f"i/severity/{n}" for n in (2, 3, 4, 9)}
    assert len(kept(answers, only(agreement=0.0))) == 6


def test_consistency_takes_what_is_contradicted():
    answers = [answered(0), answered(1, against=("presence",))]
    assert ids(kept(answers, only(consistency=True))) == {"i/severity/0"}
    assert len(kept(answers, only())) == 2


@given(ANSWERS, FILTER)
def test_filters_never_add_and_their_order_does_not_matter(answers, filters):
    passes = dict(zip(ids_in_order(answers), verdicts(answers, filters), strict=True))
    final = ids(kept(answers, filters))
    assert final <= ids(answers)
    for order in itertools.permutations(filters.on):
        left = list(passes)
        for name in order:
            after = [one for one in left if passes[one][name]]
            assert set(after) <= set(left)
            left = after
        assert set(left) == final


@given(ANSWERS, FILTER, st.sampled_from([name for name in FILTERS if name != "parse"]))
def test_one_filter_less_keeps_no_less(answers, filters, name):
    fewer = filters.model_copy(update={name: False})
    assert ids(kept(answers, filters)) <= ids(kept(answers, fewer))
    assert name not in fewer.on


def ids_in_order(answers):
    return [one.entry.entry_id for one in answers]


def test_a_line_of_answers_says_what_was_passed():
    one = answered(0, p=-0.25, agree=0.5, against=("side",))
    (passes,) = verdicts([one], Filters())
    line = as_json(one, passes, used=False)
    assert line["passed"] == ["parse", "likelihood", "agreement"]
    assert (line["log_probability"], line["agreement"], line["contradicted"]) == (-0.25, 0.5, ["side"])


@pytest.mark.parametrize("threshold", [0, 0.0])
def test_a_threshold_of_zero_is_not_off(threshold):
    assert "agreement" in Filters(agreement=threshold).on

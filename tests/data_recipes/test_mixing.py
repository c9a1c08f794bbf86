"""Invariants of the choice of entries: exact totals, nothing invented, nothing left empty."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.mixing import by_quota, by_task, image_centric, in_turns, one_task, share_out
from data_recipes.records import Entry
from data_recipes.stats import words
from data_recipes.tasks import TASKS


def entry(image: str, task: str, n: int, kind: str = "k") -> Entry:
    return Entry(
        f"{image}/{task}/{n}", image, task, "prompt " * (1 + n % 3), "target", (), f"s/{task}/{kind}"
    )


@st.composite
def candidates(draw, tasks=TASKS, images=12):
    """Images with 0 to 5 candidates of each task, at least one in all."""
    numbers = draw(
        st.lists(
            st.lists(st.integers(0, 5), min_size=len(tasks), max_size=len(tasks)), min_size=1, max_size=images
        )
    )
    offered = {}
    for i, row in enumerate(numbers):
        row = row if sum(row) else [1, *row[1:]]
        offered[f"i{i}"] = [
            entry(f"i{i}", task, n, f"kind{n % 2}")
            for task, k in zip(tasks, row, strict=True)
            for n in range(k)
        ]
    return offered


def most(offered, number):
    """The most candidates that `number` pairs, one for each image at least, can hold, by trying all."""
    sizes = [(image, len(group)) for image, entries in offered.items() for group in by_task(entries).values()]
    legal = (c for c in itertools.combinations(sizes, number) if {image for image, _ in c} == set(offered))
    return max(sum(size for _, size in choice) for choice in legal)


@given(candidates(), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_image_centric_meets_both_totals_exactly(offered, some_tasks, some_entries, seed):
    n = len(offered)
    pairs = sum(len(by_task(entries)) for entries in offered.values())
    number = n + round(some_tasks * (pairs - n))  # any legal number of pairs
    # The sparsest pairs there are hold so many candidates at least.
    sizes = sorted(len(group) for entries in offered.values() for group in by_task(entries).values())
    total = number + round(some_entries * (sum(sizes[:number]) - number))
    chosen = image_centric(
        offered,
        tasks_per_image=number / n,
        entries_per_image=total / n,
        weights={},
        rng=np.random.default_rng(seed),
    )
    assert len(chosen) == total
    assert len({(e.image_id, e.task) for e in chosen}) == number
    assert {e.image_id for e in chosen} == set(offered)
    ids = [e.entry_id for e in chosen]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= {e.entry_id for entries in offered.values() for e in entries}


@settings(max_examples=60)
@given(candidates(tasks=TASKS[:3], images=4), st.floats(0, 1), st.integers(0, 9))
def test_the_maximum_is_reached_and_no_more(offered, some, seed):
    n = len(offered)
    pairs = sum(len(by_task(entries)) for entries in offered.values())
    number = n + round(some * (pairs - n))
    maximum = most(offered, number)

    def choose(total):
        rng = np.random.default_rng(seed)
        return image_centric(
            offered, tasks_per_image=number / n, entries_per_image=total / n, weights={}, rng=rng
        )

    assert len(choose(maximum)) == maximum
    with pytest.raises(UserError, match=f"at most {math.floor(maximum / n * 100) / 100:.2f}"):
        choose(maximum + 1)


def test_the_papers_densities_at_a_thousand_images():
    offered = {
        f"i{i}": [entry(f"i{i}", task, n) for task in TASKS for n in range(9 if task == "vqa" else 3)]
        for i in range(1000)
    }
    rng = np.random.default_rng(0)
    chosen = image_centric(offered, tasks_per_image=4.10, entries_per_image=7.46, weights={}, rng=rng)
    assert len(chosen) == 7460
    assert len({(e.image_id, e.task) for e in chosen}) == 4100
    tasks_per_image = Counter(e.image_id for e in {(e.image_id, e.task): e for e in chosen}.values())
    assert len(set(tasks_per_image.values())) == 7  # a distribution, not 4 everywhere
    share = Counter(e.task for e in chosen)["vqa"] / 7460
    assert share == pytest.approx(1 / 7, abs=0.03)  # many candidates do not swallow the others


def test_densities_out_of_reach_name_the_maximum():
    offered = {f"i{i}": [entry(f"i{i}", "vqa", n) for n in range(3)] for i in range(4)}
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match=r"allow 1 to 1\.00"):
        image_centric(offered, tasks_per_image=2, entries_per_image=3, weights={}, rng=rng)
    with pytest.raises(UserError, match=r"at most 3\.00"):
        image_centric(offered, tasks_per_image=1, entries_per_image=3.5, weights={}, rng=rng)


def test_a_weight_of_zero_leaves_a_task_out_and_a_large_one_favours_it():
    offered = {f"i{i}": [entry(f"i{i}", task, n) for task in TASKS for n in range(2)] for i in range(200)}
    chosen = image_centric(
        offered,
        tasks_per_image=2,
        entries_per_image=2,
        weights={"report": 0, "vqa": 20},
        rng=np.random.default_rng(1),
    )
    tasks = Counter(e.task for e in chosen)
    assert tasks["report"] == 0
    assert tasks["vqa"] > 180


@given(candidates(tasks=("vqa",)), st.integers(0, 60), st.integers(0, 9))
def test_one_task_is_exact_and_gives_every_image_one_first(offered, total, seed):
    available = sum(map(len, offered.values()))
    chosen = one_task(offered, total, lambda entry: 1, np.random.default_rng(seed))
    assert len(chosen) == min(total, available) == len({e.entry_id for e in chosen})
    assert len({e.image_id for e in chosen}) == min(len(offered), len(chosen))


@given(candidates(tasks=("vqa",)), st.integers(0, 200), st.integers(0, 9))
def test_one_task_by_tokens_comes_within_one_entry(offered, total, seed):
    entries = [e for group in offered.values() for e in group]
    chosen = one_task(offered, total, words, np.random.default_rng(seed))
    reached = sum(map(words, chosen))
    if len(chosen) < len(entries):
        assert abs(reached - total) <= max(map(words, entries))


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 20), st.floats(0.1, 9)), min_size=1),
    st.floats(0, 1),
)
def test_share_out_sums_exactly_and_respects_capacities(given_, part):
    capacity = {name: c for name, (c, _) in given_.items()}
    total = round(part * sum(capacity.values()))
    shares = share_out(total, capacity, {name: w for name, (_, w) in given_.items()})
    assert sum(shares.values()) == total
    assert all(0 <= shares[name] <= capacity[name] for name in capacity)


def test_share_out_by_hand():
    # 10 in thirds: a is full at 1, the other 9 go 3:6.
    assert share_out(10, {"a": 1, "b": 9, "c": 9}, {"a": 1, "b": 1, "c": 2}) == {"a": 1, "b": 3, "c": 6}
    assert share_out(1, {"a": 5, "b": 5}, {"a": 1, "b": 3}) == {"a": 0, "b": 1}
    with pytest.raises(ValueError, match="capacities"):
        share_out(3, {"a": 2}, {"a": 1})


def test_kinds_take_turns():
    entries = [entry("i", "vqa", n, "presence" if n < 8 else "count") for n in range(10)]
    for seed in range(20):
        ordered = in_turns(entries, np.random.default_rng(seed))
        assert sorted(ordered, key=lambda e: e.entry_id) == sorted(entries, key=lambda e: e.entry_id)
        assert {e.kind for e in ordered[:2]} == {"presence", "count"} == {e.kind for e in ordered[2:4]}


def met(offered, chosen, pairs, quotas):
    ids = [one.entry_id for one in chosen]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= {one.entry_id for entries in offered.values() for one in entries}
    assert Counter(one.task for one in chosen) == Counter({t: q for t, q in quotas.items() if q})
    assert len({(one.image_id, one.task) for one in chosen}) == pairs
    assert {one.image_id for one in chosen} == set(offered)


@given(candidates(), st.lists(st.integers(0, 12), min_size=7, max_size=7), st.floats(0, 1), st.integers(0, 9))
def test_quotas_are_met_exactly_on_every_image_or_refused(offered, numbers, more, seed):
    quotas = dict(zip(TASKS, numbers, strict=True))
    most_pairs = sum(min(q, sum(t in by_task(e) for e in offered.values())) for t, q in quotas.items())
    pairs = len(offered) + round(more * max(0, most_pairs - len(offered)))
    try:
        chosen = by_quota(offered, pairs=pairs, quotas=quotas, rng=np.random.default_rng(seed))
    except UserError:
        return
    met(offered, chosen, pairs, quotas)


@given(st.integers(7, 30), st.lists(st.integers(1, 9), min_size=7, max_size=7), st.floats(0, 1))
def test_where_every_image_offers_enough_of_all_tasks_any_quotas_are_met(n, weights, more):
    offered = {f"i{i}": [entry(f"i{i}", t, k) for t in TASKS for k in range(60)] for i in range(n)}
    quotas = share_out(8 * n, dict.fromkeys(TASKS, 8 * n), dict(zip(TASKS, weights, strict=True)))
    pairs = n + round(more * (sum(min(n, quota) for quota in quotas.values()) - n))
    met(offered, by_quota(offered, pairs=pairs, quotas=quotas, rng=np.random.default_rng(0)), pairs, quotas)


def test_the_one_image_that_carries_a_task_gets_it():
    """Left to chance, `a` would often carry vqa, and nothing could carry rec."""
    offered = {"a": [entry("a", "vqa", 0), entry("a", "rec", 0)]}
    offered |= {f"i{n}": [entry(f"i{n}", "vqa", 0)] for n in range(5)}
    quotas = {"vqa": 5, "rec": 1}
    for seed in range(10):
        chosen = by_quota(offered, pairs=6, quotas=quotas, rng=np.random.default_rng(seed))
        assert [one.entry_id for one in chosen if one.task == "rec"] == ["a/rec/0"]


def test_quotas_out_of_reach_are_named():
    offered = {"a": [entry("a", "vqa", 0)], "b": [entry("b", "vqa", 0)]}
    for quotas, pairs, message in (
        ({"vqa": 5}, 2, "5 entries of vqa on 2 images are out of reach: 2 are offered"),
        ({"vqa": 1, "rec": 1}, 2, "2 .image, task. pairs are out of reach: the quotas leave 1"),
        ({"vqa": 1}, 1, "leave 1 of 2 images without an entry"),
    ):
        with pytest.raises(UserError, match=message):
            by_quota(offered, pairs=pairs, quotas=quotas, rng=np.random.default_rng(0))

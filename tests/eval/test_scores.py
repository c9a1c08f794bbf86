"""Scores of a whole test set, and differences of two runs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data_recipes.records import Box
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS
from data_recipes.tasks.calculation import Ratio
from eval.answers import known
from eval.baselines import (
    baselines,
    best,
    best_label_set,
    lookup,
    mean_boxes,
    most_frequent,
    safest_ratio,
    subject,
)
from eval.compare import AVERAGE, compare
from eval.scores import held_out_hash, score
from eval.tasks import metrics
from tests.eval.factories import entry, make_mixture
from tests.eval.test_metrics import answer


@pytest.fixture
def truths(mixture_dir):
    return known(read_mixture(mixture_dir).of_split("test"))


def right(answers, share, seed=0):
    """The share of answers that are right; the others are unread."""
    rng = np.random.default_rng(seed)
    return [replace(a, predicted=a.truth if rng.random() < share else None) for a in answers]


def test_perfect_and_empty_runs(truths):
    perfect, empty = score(right(truths, 1.0)), score(right(truths, 0.0))
    assert list(perfect.tasks) == list(TASKS)
    assert perfect.average.value == pytest.approx(100)
    assert perfect.average.ci_low == pytest.approx(100)
    assert empty.average.value == 0
    assert all(scored.unparsed == scored.n for scored in empty.tasks.values())
    json.dumps([scored.to_json() for scored in empty.tasks.values()], allow_nan=False)


def test_values_are_those_of_the_metrics_and_lie_in_their_intervals(truths):
    answers = right(truths, 0.5)
    found = score(answers)
    for task, scored in found.tasks.items():
        mine = [a for a in answers if a.entry.task == task]
        expected = {metric.name: metric.value(mine) for metric in metrics(task, mine)}
        for name, estimate in scored.estimates.items():
            assert estimate.value == pytest.approx(expected[name])
            assert estimate.ci_low - 1e-9 <= estimate.value <= estimate.ci_high + 1e-9
    headlines = [scored.estimates[scored.headline].value for scored in found.tasks.values()]
    assert found.average.value == pytest.approx(np.mean(headlines))


def test_a_metric_without_entries_is_named_not_scored(truths):
    scored = score(right(truths, 0.5)).tasks["calculation"]
    assert "cpar_mae" not in scored.estimates
    assert "cpar_mae" in scored.not_computed


def test_order_of_answers_does_not_matter(truths):
    answers = right(truths, 0.5)
    assert score(answers).average == score(answers[::-1]).average


def test_nothing_to_score():
    with pytest.raises(ValueError, match="no entries"):
        score([])


def test_compare(truths):
    good, bad = score(right(truths, 0.9)), score(right(truths, 0.1, seed=1))
    lines = compare(good, bad)
    assert [line.task for line in lines] == [*TASKS, AVERAGE]
    average = lines[-1]
    assert average.ci_low > 0
    assert average.p == pytest.approx(2 / 2**6, abs=0.01)  # the least that six patients can show
    assert average.value == pytest.approx(good.average.value - bad.average.value)
    assert all(line.p_holm >= line.p for line in lines[:-1])
    same = compare(good, good)
    assert all(line.value == line.ci_low == line.ci_high == 0 and line.p == 1 for line in same)
    opposite = compare(bad, good)
    assert [line.value for line in opposite] == pytest.approx([-line.value for line in lines])


def test_pairing_narrows(truths):
    """Two runs that fail on the same entries differ by little, however wide each one's own interval is."""
    answers = right(truths, 0.5)
    better = [replace(a, predicted=a.truth) if a.entry.entry_id == "test0/vqa/0" else a for a in answers]
    difference = compare(score(better), score(answers))[-1]
    own = score(answers).average
    assert difference.ci_high - difference.ci_low < 0.5 * (own.ci_high - own.ci_low)


def test_other_test_sets_are_not_compared(truths):
    with pytest.raises(ValueError, match="different test sets"):
        compare(score(truths), score(truths[8:]))


def test_held_out_hash_sees_the_test_entries_only(tmp_path):
    def of(folder, **kwargs):
        return held_out_hash(
            e for _, e in read_mixture(make_mixture(tmp_path / folder, **kwargs)).of_split("test")
        )

    assert of("a") == of("b", train=8, train_seed=9, name="other")
    assert of("a") != of("c", seed=5)
    entries = [entry("severity", 1), entry("severity", 2, n=1)]
    assert held_out_hash(entries) == held_out_hash(entries[::-1])
    assert held_out_hash(entries) != held_out_hash([replace(entries[0], prompt="?"), entries[1]])


def test_baselines_of_all_tasks(mixture_dir):
    mixture = read_mixture(mixture_dir)
    found = baselines(known(mixture.of_split("train")), known(mixture.of_split("test")))
    assert list(found) == list(TASKS)
    for values in found.values():
        assert all(0 <= value <= 100 for value in values.values())
        assert best(values) in values
    # Yes or no by question, and a grade: the question is worth knowing.
    assert found["vqa"]["most_frequent_of_question"] >= found["vqa"]["most_frequent"]


def test_baselines_by_hand():
    ratios = [answer("calculation", Ratio("CTR", v), None) for v in (0.40, 0.48, 0.50, 0.52, 0.70)]
    assert safest_ratio(ratios).value == pytest.approx(0.50, abs=0.04)
    labels = [answer("findings", frozenset(s), None) for s in ({"a"}, {"a"}, {"a", "b"}, {"c"})]
    assert best_label_set(labels) == frozenset({"a"})
    boxes = [answer("rec", (Box(0, 0, 0.2, x),), None) for x in (0.2, 0.4)]
    assert mean_boxes(boxes)[0].xyxy == pytest.approx((0, 0, 0.2, 0.3))
    two = (Box(0.5, 0, 1, 1), Box(0, 0, 0.25, 1))
    assert mean_boxes([*boxes, *[answer("rec", two, None)] * 3]) == (two[1], two[0])


def test_lookup_falls_back_from_question_to_kind_to_all():
    train = [
        answer("vqa", "yes", None, prompt="Is there edema?", kind="presence"),
        *[answer("vqa", "no", None, prompt="Is there a mass?", kind="presence")] * 2,
        *[answer("vqa", "left", None, prompt="Which side?", kind="side")] * 5,
    ]
    asked = [
        answer("vqa", "?", None, prompt="Is there edema? Answer briefly.", kind="presence"),
        answer("vqa", "?", None, prompt="Is there air?", kind="presence"),
        answer("vqa", "?", None, prompt="How many?", kind="count"),
    ]
    (guessed,) = lookup(most_frequent, subject, lambda a: a.entry.kind)(train, asked)
    assert [a.predicted for a in guessed] == ["yes", "no", "left"]

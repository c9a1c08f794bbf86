"""Each metric against hand-worked cases or another library, and the laws that hold for all of them."""

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import pearsonr
from sklearn.metrics import (
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    precision_recall_fscore_support,
    root_mean_squared_error,
)

from data_recipes.errors import UserError
from data_recipes.records import Box
from data_recipes.tasks import TASKS
from data_recipes.tasks.calculation import Ratio
from eval.answers import Answer, from_json, to_json
from eval.metrics import token_f1, token_recall
from eval.tasks import metrics, tables
from eval.tasks.rec import matched
from tests.eval.factories import entry

WORDS = st.sampled_from(["the", "heart", "is", "normal", "small", "left", "effusion", "no"])
TEXTS = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)
STARTS, SIZES = st.integers(0, 5), st.integers(1, 5)
BOXES = st.tuples(STARTS, STARTS, SIZES, SIZES).map(
    lambda b: Box(b[0] / 10, b[1] / 10, (b[0] + b[2]) / 10, (b[1] + b[3]) / 10)
)
LABELS = st.sampled_from(["edema", "mass", "nodule", "effusion"])
ANSWERS = {
    "calculation": st.builds(
        Ratio, st.sampled_from(["CTR", "CPAR"]), st.integers(20, 90).map(lambda v: v / 100)
    ),
    "report": TEXTS,
    "severity": st.integers(0, 3),
    "findings": st.frozensets(LABELS),
    "rec": st.lists(BOXES, min_size=1, max_size=3).map(tuple),
    "reg": TEXTS,
    "vqa": st.sampled_from(["yes", "no", "left", "two"]),
}


def answer(task, truth, predicted, **kwargs):
    return Answer(entry(task, truth, **kwargs), "p", truth, predicted)


def values(task, answers):
    return {metric.name: metric.value(answers) for metric in metrics(task, answers)}


def pairs(task):
    """Lists of answers, with unread ones among them."""
    one = ANSWERS[task]
    return st.lists(st.tuples(one, st.none() | one), min_size=1, max_size=15).map(
        lambda found: [answer(task, truth, predicted) for truth, predicted in found]
    )


def test_calculation_by_hand():
    found = values(
        "calculation",
        [
            answer(
                "calculation", Ratio("CTR", 0.50), Ratio("CTR", 0.55)
            ),  # 0.05 off: within, whatever 0.55 - 0.5 is
            answer("calculation", Ratio("CTR", 0.50), Ratio("", 0.56)),
            answer("calculation", Ratio("CPAR", 0.30), Ratio("CTR", 0.30)),  # names the other ratio
            answer("calculation", Ratio("CPAR", 0.30), None),
        ],
    )
    assert found["within_0.05"] == 25
    assert found["mae"] == pytest.approx((0.05 + 0.06 + 1 + 1) / 4)
    assert found["ctr_within_0.05"] == 50
    assert found["cpar_mae"] == 1


@given(pairs("calculation"))
@settings(max_examples=40, deadline=None)
def test_agreement_is_scipys_and_that_of_an_analysis_of_variance(answers):
    read = [a for a in answers if a.predicted is not None and a.predicted.name == a.truth.name]
    truth = np.array([a.truth.value for a in read])
    predicted = np.array([a.predicted.value for a in read])
    found = values("calculation", read) if read else {}
    if len(set(truth)) < 2:
        assert "pearson" not in found
        return
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, predicted))
    expected = pearsonr(truth, predicted).statistic if len(set(predicted)) > 1 else 0
    assert found["pearson"] == pytest.approx(100 * expected, abs=1e-6)
    assert found["icc"] == pytest.approx(100 * icc_of_a_table(np.stack([predicted, truth], axis=1)), abs=1e-6)


def icc_of_a_table(table):
    """ICC(A,1) of subjects by raters, from the sums of squares of a two-way analysis of variance."""
    n, k = table.shape
    grand = table.mean()
    between = k * sum((row.mean() - grand) ** 2 for row in table) / (n - 1)
    raters = n * sum((column.mean() - grand) ** 2 for column in table.T) / (k - 1)
    total = sum((value - grand) ** 2 for value in table.flat)
    rest = (total - between * (n - 1) - raters * (k - 1)) / ((n - 1) * (k - 1))
    return (between - rest) / (between + (k - 1) * rest + k * (raters - rest) / n)


def test_icc_of_a_published_table():
    """Shrout and Fleiss 1979, table 2: six subjects, four judges, ICC(2,1) 0.29. This checks the oracle."""
    judges = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert icc_of_a_table(np.array(judges, dtype=float)) == pytest.approx(0.29, abs=0.005)


def test_a_constant_prediction_agrees_with_nothing():
    truths = [Ratio("CTR", value) for value in (0.4, 0.5, 0.6)]
    found = values("calculation", [answer("calculation", truth, Ratio("CTR", 0.5)) for truth in truths])
    assert (found["pearson"], found["icc"]) == (0, pytest.approx(0, abs=1e-9))
    unread = values("calculation", [answer("calculation", truth, None) for truth in truths])
    assert unread["pearson"] == 0
    assert unread["icc"] < 0.5 * 100
    assert (found["parse_rate"], unread["parse_rate"]) == (100, 0)


def test_several_boxes_are_matched_by_hand():
    left, right = Box(0, 0, 0.4, 0.4), Box(0.6, 0.6, 1, 1)
    half = Box(0, 0, 0.4, 0.2)  # IoU 0.5 with left
    assert matched([right, left], [left, right], 0.5) == 1
    assert matched([half], [left], 0.5) == 1
    assert matched([half], [left]) == pytest.approx(0.5)
    assert matched([left], [left, right], 0.5) == 0.5  # one missed
    assert matched([left, right], [left], 0.5) == 0.5  # one too many
    assert matched([left, left], [left, right]) == pytest.approx(0.5)  # a box counts once
    assert matched(None, [left]) == 0


def test_matching_prefers_the_best_total():
    a, b = Box(0, 0, 0.5, 0.5), Box(0.1, 0, 0.6, 0.5)
    near_both = Box(0.05, 0, 0.55, 0.5)
    # Greedy would give `near_both` to a and leave b with nothing.
    assert matched([near_both, Box(0, 0, 0.5, 0.45)], [a, b], 0.5) == 1


def test_token_f1_by_hand():
    assert token_f1("small left effusion", "left effusion") == pytest.approx(100 * 2 * 2 / 5)
    assert token_f1("a a b", "a b b") == pytest.approx(100 * 2 * 2 / 6)
    assert token_f1("mass", None) == token_f1("mass", "nodule") == 0


def test_token_recall_by_hand():
    assert token_recall("left upper zone", "the left zone of the left lung") == pytest.approx(200 / 3)
    assert token_recall("left left", "left") == 50
    assert token_recall("left", None) == 0


def test_vqa_splits_by_hand():
    found = values(
        "vqa",
        [
            answer("vqa", "yes", "yes", kind="presence"),
            answer("vqa", "no", "yes", kind="presence"),
            answer("vqa", "two", "two", kind="count"),
            answer("vqa", "left", None, kind="side"),
        ],
    )
    assert found["accuracy"] == found["closed_accuracy"] == found["open_exact_match"] == 50
    assert found["open_token_recall"] == 50
    assert (found["accuracy_presence"], found["accuracy_count"], found["accuracy_side"]) == (50, 100, 0)


def test_unread_findings_are_wrong_for_a_normal_image_too():
    normal, unread = answer("findings", frozenset(), frozenset()), answer("findings", frozenset(), None)
    assert values("findings", [normal])["micro_f1"] == 100
    assert values("findings", [normal, unread])["micro_f1"] == 0
    assert values("findings", [normal, unread])["exact_match"] == 50


@given(pairs("report"))
@settings(max_examples=25, deadline=None)
def test_bleu_is_sacrebleus_corpus_bleu(answers):
    expected = sacrebleu.corpus_bleu([a.predicted or "" for a in answers], [[a.truth for a in answers]]).score
    assert values("report", answers)["bleu4"] == pytest.approx(expected, abs=1e-9)


@given(pairs("report"))
@settings(max_examples=20, deadline=None)
def test_rouge_is_rouge_scores_mean(answers):
    scorer = RougeScorer(["rougeL"])
    expected = [scorer.score(a.truth, a.predicted or "")["rougeL"].fmeasure for a in answers]
    assert values("report", answers)["rouge_l"] == pytest.approx(100 * np.mean(expected))


@given(pairs("severity"))
@settings(max_examples=25, deadline=None)
def test_severity_is_sklearns(answers):
    truth = [a.truth for a in answers]
    predicted = [4 if a.predicted is None else a.predicted for a in answers]
    found = values("severity", answers)
    expected = f1_score(truth, predicted, labels=sorted(set(truth)), average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(100 * expected)
    assert found["accuracy"] == pytest.approx(100 * np.mean(np.equal(truth, predicted)))
    matrix = confusion_matrix(truth, predicted, labels=range(5))[:4]
    assert tables("severity", answers)["confusion"].values == matrix.tolist()
    read = [(3 if t < 2 else 0) if p == 4 else p for t, p in zip(truth, predicted, strict=True)]
    assert found["ordinal_mae"] == pytest.approx(mean_absolute_error(truth, read))
    if len({*truth, *read}) > 1:
        kappa = cohen_kappa_score(truth, read, weights="quadratic", labels=range(4))
        assert found["quadratic_kappa"] == pytest.approx(100 * kappa)
    else:
        assert found["quadratic_kappa"] == 100


@given(pairs("findings"))
@settings(max_examples=25, deadline=None)
def test_findings_are_sklearns(answers):
    read = [a for a in answers if a.predicted is not None]
    # A label that never occurs keeps sklearn from taking a single column for something else.
    labels = [*sorted(frozenset().union(*(a.truth for a in read), *(a.predicted for a in read))), "none"]
    in_truth = [label in frozenset().union(*(a.truth for a in read)) for label in labels]
    if not read or not any(in_truth):
        return
    truth = np.array([[label in a.truth for label in labels] for a in read], dtype=int)
    predicted = np.array([[label in a.predicted for label in labels] for a in read], dtype=int)
    found = values("findings", read)
    assert found["micro_f1"] == pytest.approx(100 * f1_score(truth, predicted, average="micro"))
    each = f1_score(truth, predicted, average=None, zero_division=0)
    assert found["macro_f1"] == pytest.approx(100 * each[in_truth].mean())
    # sklearn counts an image without labels in truth and prediction as 0; it is right.
    both = np.where((truth.sum(1) + predicted.sum(1)) == 0, 1.0, 0.0)
    expected = f1_score(truth, predicted, average="samples", zero_division=0) + both.mean()
    assert found["sample_f1"] == pytest.approx(100 * expected)
    table = tables("findings", read)["per_finding"]
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, zero_division=0)
    for label, *row in zip(labels, 100 * precision, 100 * recall, 100 * f1, support, strict=True):
        if label in table.rows:
            mine = dict(zip(table.columns, table.values[table.rows.index(label)], strict=True))
            assert [mine[key] or 0 for key in ("precision", "recall", "F1", "true")] == pytest.approx(row)


@pytest.mark.parametrize("task", TASKS)
def test_laws_of_all_metrics(task):
    @given(pairs(task), st.randoms())
    @settings(max_examples=25, deadline=None)
    def check(answers, random):
        perfect = [Answer(a.entry, a.patient_id, a.truth, a.truth) for a in answers]
        unread = [Answer(a.entry, a.patient_id, a.truth, None) for a in answers]
        shuffled = random.sample(answers, len(answers))
        for metric in metrics(task, answers):
            if np.isnan(metric.value(answers)):
                assert not any(map(metric.where, answers))
                continue
            best, worst = (100, 0) if metric.higher_is_better else (0, 1)
            if metric.name == "ordinal_mae":
                worst = np.mean([max(a.truth, 3 - a.truth) for a in answers])
            bleu_of_short = metric.name.startswith("bleu") and (
                sum(len(a.truth.split()) for a in answers) < 4 * len(answers)
            )
            if metric.name in ("meteor", "cider"):  # their best depends on the reference
                assert metric.value(perfect) >= metric.value(answers) - 1e-9
            elif not bleu_of_short:
                assert metric.value(perfect) == pytest.approx(best)
            # Agreement beyond chance has no fixed value for answers that are all alike.
            if not metric.name.endswith(("kappa", "icc")):
                assert metric.value(unread) == pytest.approx(worst)
            assert metric.value(shuffled) == pytest.approx(metric.value(answers))
            # Additive: any split of the answers gives the same sums.
            counted = [a for a in answers if metric.where(a)]
            parts = [metric.rows(counted[i::3]).sum(axis=0) for i in range(3)]
            np.testing.assert_allclose(sum(parts), metric.rows(counted).sum(axis=0))
            # Vectorised: finishing many sums is finishing each.
            sums = np.stack([metric.rows([a]).sum(axis=0) for a in counted])
            sums = np.concatenate([sums, [sums.sum(axis=0)]])
            singly = [float(metric.finish(row)) for row in sums]
            np.testing.assert_allclose(metric.finish(sums), singly)

    check()


@pytest.mark.parametrize("task", TASKS)
def test_headline_comes_first_in_percent(task):
    @given(pairs(task))
    @settings(max_examples=10, deadline=None)
    def check(answers):
        found = metrics(task, answers)
        assert found[0].unit == "%"
        assert found[0].higher_is_better
        assert len({metric.name for metric in found}) == len(found)

    check()


@pytest.mark.parametrize("task", TASKS)
def test_json_keeps_answers(task):
    @given(ANSWERS[task])
    def check(value):
        assert from_json(task, to_json(value)) == value

    check()
    assert from_json(task, to_json(None)) is None


def test_unknown_task_is_a_users_mistake():
    with pytest.raises(UserError, match="did you mean 'vqa'"):
        metrics("vqaa", [])

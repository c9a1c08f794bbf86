"""The metrics of task `report` against the libraries that define them, and against cases worked by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import align_words, single_meteor_score
from pycocoevalcap.cider.cider import Cider as CocoCider
from sacrebleu.metrics.bleu import BLEU
from sklearn.metrics import f1_score

from eval.answers import Answer
from eval.cider import Cider, plain_words
from eval.clinical.labeller import COMPETITION, OBSERVATIONS, positive
from eval.scores import score
from eval.tasks import metrics, tables
from eval.tasks.report import meteor
from tests.eval.factories import entry

WORDS = st.sampled_from(
    ["the", "heart", "is", "normal", "no", "small", "effusions", "effusion", ".", ",", "Enlarged", "lungs"]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=14).map(" ".join)
REPORTS = st.lists(st.tuples(TEXTS, st.none() | TEXTS), min_size=1, max_size=12)


def answers_of(pairs):
    return [
        Answer(entry("report", truth, image_id=f"i{i}"), f"p{i}", truth, predicted)
        for i, (truth, predicted) in enumerate(pairs)
    ]


def metric(answers, name):
    return next(found for found in metrics("report", answers) if found.name == name)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_is_sacrebleus_on_corpora_and_on_resampled_corpora(order):
    oracle = BLEU(max_ngram_order=order)

    @given(REPORTS, st.randoms())
    @settings(max_examples=30, deadline=None)
    def check(pairs, random):
        answers = answers_of(pairs)
        found = metric(answers, f"bleu{order}")
        rows = found.rows(answers)
        for drawn in ([*range(len(pairs))], [random.randrange(len(pairs)) for _ in pairs]):
            texts = [pairs[i][1] or "" for i in drawn]
            expected = oracle.corpus_score(texts, [[pairs[i][0] for i in drawn]]).score
            assert float(found.finish(rows[drawn].sum(axis=0))) == pytest.approx(expected, abs=1e-9)

    check()


def test_meteor_by_hand():
    # Every word found, in one chunk of four: F 1, penalty 0.5 (1/4)^3.
    assert meteor("The heart is enlarged.", "the heart is enlarged") == pytest.approx(100 * (1 - 0.5 / 64))
    # Stems match: "effusions" and "effusion".
    assert meteor("small effusions", "small effusion") == pytest.approx(100 * (1 - 0.5 / 8))
    # Two of four words of the prediction, two of three of the reference, in two chunks: P 1/2, R 2/3.
    f = 0.5 * (2 / 3) / (0.9 * 0.5 + 0.1 * 2 / 3)
    assert meteor("left lung clear", "left and hazy clear") == pytest.approx(100 * f * (1 - 0.5))
    # "large" and "big" are synonyms in WordNet, and none here.
    assert meteor("large", "big") == meteor("heart", None) == meteor("...", "...") == 0


@given(TEXTS, TEXTS)
@settings(max_examples=60, deadline=None)
def test_meteor_is_nltks_with_exact_and_stem_matches(truth, predicted):
    class NoWordNet:
        def synsets(self, word):
            return []

    words = plain_words(truth), plain_words(predicted)
    if not all(words):
        assert meteor(truth, predicted) == 0
        return
    expected = single_meteor_score(*words, stemmer=PorterStemmer(), wordnet=NoWordNet())
    assert meteor(truth, predicted) == pytest.approx(100 * expected)
    matched, _, _ = align_words(words[1], words[0], stemmer=PorterStemmer(), wordnet=NoWordNet())
    stems = PorterStemmer().stem
    assert all(stems(words[1][i]) == stems(words[0][j]) for i, j in matched)


@given(REPORTS)
@settings(max_examples=60, deadline=None)
def test_cider_is_that_of_the_coco_captions(pairs):
    truths = {i: [" ".join(plain_words(truth))] for i, (truth, _) in enumerate(pairs)}
    found = {i: [" ".join(plain_words(predicted or ""))] for i, (_, predicted) in enumerate(pairs)}
    if not any(text for (text,) in truths.values()):
        return  # the other implementation cannot be asked
    _, expected = CocoCider().compute_score(truths, found)
    cider = Cider(truth for truth, _ in pairs)
    mine = [cider(truth, predicted) for truth, predicted in pairs]
    np.testing.assert_allclose(mine, expected, atol=1e-9)
    assert cider.defined == any(cider(truth, truth) > 0 for truth, _ in pairs)


def test_cider_by_hand():
    # Of two references "heart" is in both and weighs nothing; all other n-grams weigh log 2.
    cider = Cider(["enlarged heart", "normal heart"])
    # Unigrams: only "enlarged" counts, 1. Bigrams: 1. No trigram, no 4-gram.
    assert cider("enlarged heart", "Enlarged heart.") == pytest.approx(10 * (1 + 1 + 0 + 0) / 4)
    # "Normal" shares with the reference what weighs nothing.
    assert cider("enlarged heart", "normal heart") == 0
    # "enlarged" again, one bigram more than the reference: clipped unigram 1 / 2, bigrams 1 / sqrt(2).
    expected = 10 * (1 / 2 + 1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)
    assert cider("enlarged heart", "enlarged enlarged heart") == pytest.approx(expected)


@pytest.mark.parametrize(
    "truths", [["the heart is normal"], ["the heart is normal"] * 3, ["."], ["-", "..."], ["edema"]]
)
def test_test_sets_that_no_ngram_tells_apart_have_no_cider_and_no_nan(truths):
    scored = score(answers_of([(truth, "the heart") for truth in truths]), resamples=50).tasks["report"]
    assert set(scored.not_computed) >= {"cider"}
    text = json.dumps(scored.to_json(), allow_nan=False)  # refuses NaN
    assert "rouge_l" in text


def test_unread_reports_score_nothing():
    answers = answers_of([("no edema .", None), ("small effusion .", None), ("effusion and edema", "")])
    for found in metrics("report", answers):
        assert found.value(answers) == 0, found.name


def test_names_and_headline():
    answers = answers_of([("No edema.", "No edema."), ("Small effusion.", None)])
    assert [found.name for found in metrics("report", answers)] == [
        "rouge_l",
        *("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "cider"),
        *("chexpert_micro_f1", "chexpert_macro_f1", "chexpert5_micro_f1", "chexpert5_macro_f1"),
    ]


STATEMENTS = st.sampled_from(
    [
        "No edema.",
        "Mild edema.",
        "Possible pneumonia.",
        "The heart is enlarged.",
        "Left effusion.",
        "No mass.",
    ]
)
SAID = st.lists(STATEMENTS, min_size=1, max_size=4).map(" ".join)


@pytest.mark.parametrize(("name", "among"), [("chexpert", OBSERVATIONS), ("chexpert5", COMPETITION)])
def test_clinical_f1_is_sklearns(name, among):
    @given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=8))
    @settings(max_examples=30, deadline=None)
    def check(pairs):
        answers = answers_of(pairs)
        truth, found = (
            np.array([[o in positive(pair[side], among) for o in among] for pair in pairs]) for side in (0, 1)
        )
        occurs = truth.any(axis=0)
        each = f1_score(truth, found, average=None, zero_division=0)
        micro = f1_score(truth, found, average="micro", zero_division=1)
        assert metric(answers, f"{name}_micro_f1").value(answers) == pytest.approx(100 * micro)
        macro = metric(answers, f"{name}_macro_f1").value(answers)
        assert macro == pytest.approx(100 * each[occurs].mean() if occurs.any() else np.nan, nan_ok=True)

    check()


def test_clinical_f1_by_hand():
    answers = answers_of(
        [
            ("Small effusion. No pneumothorax.", "There is a pleural effusion."),  # effusion right
            ("Possible edema.", "No edema."),  # uncertain counts as positive: edema missed, No Finding added
            ("The heart is enlarged.", "Cardiomegaly and edema."),  # one right, one added
        ]
    )
    # 2 right, 2 added (No Finding, edema), 1 missed (edema).
    assert metric(answers, "chexpert_micro_f1").value(answers) == pytest.approx(100 * 4 / (4 + 2 + 1))
    assert metric(answers, "chexpert5_micro_f1").value(answers) == pytest.approx(100 * 4 / (4 + 1 + 1))
    # Effusion 1, cardiomegaly 1, edema 0.
    assert metric(answers, "chexpert_macro_f1").value(answers) == pytest.approx(100 * 2 / 3)
    table = tables("report", answers)["per_observation"]
    assert dict(zip(table.rows, table.values, strict=True))["Edema"] == [0, 0, 0, 1, 1]

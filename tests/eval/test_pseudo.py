"""Asking for pseudo-labels: once each, whatever happens in between; agreement, quality, calibration."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.pseudo.filters import Answered
from data_recipes.pseudo.spec import Filters
from data_recipes.records import Box, Entry
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS, Written, task
from data_recipes.tasks.calculation import Ratio
from eval.agreement import agreement
from eval.backends import Output
from eval.predictions import CanonicalBoxes
from eval.pseudo import ask, read_answer
from eval.quality import calibration, quality, right
from tests.eval.factories import entry as made

LIMITS = {task: i + 1 for i, task in enumerate(TASKS)}


class FakeSampler:
    """Answers a question by its prompt and seed, last question first; dies after so many outputs."""

    def __init__(self, dies_after=None):
        self.dies_after, self.given, self.temperatures = dies_after, 0, set()

    def outputs(self, asked, limits, *, seeds, temperature):
        self.temperatures.add(temperature)
        entries = [entry for one in asked for entry in one.entries]
        assert len(entries) == len(limits) == len(seeds)
        for number, entry in reversed(list(enumerate(entries))):
            if self.given == self.dies_after:
                raise KeyboardInterrupt
            self.given += 1
            assert limits[number] == LIMITS[entry.task]
            yield number, Output(f"{entry.entry_id} {seeds[number]}", -number / 1000)


@pytest.fixture
def pairs(mixture_dir):
    return list(read_mixture(mixture_dir).of_split("train"))[:40]


def run(mixture_dir, pairs, out, sampler, **kwargs):
    settings = {"samples": 2, "temperature": 0.5, "seed": 3, "fingerprint": "f"} | kwargs
    return ask(
        lambda: sampler, mixture_dir, pairs, out,
        max_new_tokens=LIMITS, what="round 1", progress=False, **settings,
    )  # fmt: skip


def test_every_question_has_its_likeliest_answer_and_its_draws(mixture_dir, pairs, tmp_path):
    rows = run(mixture_dir, pairs, tmp_path / "r.jsonl", FakeSampler())
    assert list(rows) == [entry.entry_id for _, entry in pairs]
    seeds = set()
    for entry_id, row in rows.items():
        assert row["output"] == f"{entry_id} None"
        assert [text.split()[0] for text in row["samples"]] == [entry_id] * 2
        seeds |= {text.split()[1] for text in row["samples"]}
    assert len(seeds) == 2 * len(pairs)  # no two draws share a seed
    again = run(mixture_dir, pairs[7:], tmp_path / "other.jsonl", FakeSampler())
    assert all(again[name]["samples"] == rows[name]["samples"] for name in again)
    other = run(mixture_dir, pairs, tmp_path / "seed.jsonl", FakeSampler(), seed=4)
    assert all(other[name]["samples"] != rows[name]["samples"] for name in rows)


def test_without_draws_there_is_the_likeliest_answer_alone(mixture_dir, pairs, tmp_path):
    sampler = FakeSampler()
    rows = run(mixture_dir, pairs, tmp_path / "r.jsonl", sampler, samples=0)
    assert sampler.given == len(pairs)
    assert all(row["samples"] == [] for row in rows.values())


def test_asking_goes_on_after_a_kill_and_asks_nothing_twice(mixture_dir, pairs, tmp_path):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(mixture_dir, pairs, whole, FakeSampler())
    with pytest.raises(KeyboardInterrupt):
        run(mixture_dir, pairs, out, FakeSampler(dies_after=50))
    done = len((tmp_path / "killed.part-0.jsonl").read_text().splitlines())
    assert 0 < done < len(pairs)
    rest = FakeSampler()
    run(mixture_dir, pairs, out, rest)
    assert rest.given == 3 * (len(pairs) - done)
    answers = [
        [json.loads(line)["samples"] for line in path.read_text().splitlines()] for path in (whole, out)
    ]
    assert answers[0] == answers[1]
    unused = FakeSampler()
    run(mixture_dir, pairs, out, unused)
    assert unused.given == 0


def answer_of(name, output, kind=None, samples=()):
    from data_recipes.records import Image

    entry = (
        made(name, {"calculation": Ratio("CTR", 0.5), "rec": (Box(0, 0, 1, 1),)}.get(name, "no"), kind=kind)
        if name in ("calculation", "rec", "vqa", "reg")
        else made(name, {"severity": 0}.get(name, frozenset()))
    )
    question = Entry(entry.entry_id, "i0", name, entry.prompt, "", entry.prompt_boxes, entry.provenance)
    image = Image("i0", "p", "train", "fake", "", 100, 100, "PA")
    row = {"output": output, "log_probability": -0.5, "samples": list(samples)}
    return read_answer((image, question), row, CanonicalBoxes())


def test_an_answer_becomes_a_target_in_canonical_form():
    found = answer_of("vqa", "The answer is: **Yes**, there is.", samples=["yes", "no", ""])
    assert (found.entry.target, found.agreement, found.log_probability) == ("yes", pytest.approx(1 / 3), -0.5)
    assert answer_of("severity", "Edema of grade 2").entry.target == "grade 2, interstitial edema"
    boxes = answer_of("rec", "[0.1, 0.2, 0.3, 0.4]")
    assert (boxes.entry.target, boxes.entry.target_boxes) == ("{box}", (Box(0.1, 0.2, 0.3, 0.4),))
    assert answer_of("calculation", "0.48", kind="ctr").entry.target == "CTR 0.48"


@pytest.mark.parametrize(
    ("name", "output"), [("severity", "none of it"), ("rec", "left"), ("vqa", " "), ("findings", "a_b?")]
)
def test_an_answer_that_cannot_be_read_or_written_is_no_target(name, output):
    found = answer_of(name, output, samples=["x"])
    assert not found.parsed
    assert (found.entry.target, found.output) == ("", output)


def test_an_answer_about_the_other_ratio_is_not_read():
    assert not answer_of("calculation", "CPAR 0.48", kind="ctr").parsed


BOX = Box(0, 0, 0.5, 1)


@pytest.mark.parametrize(
    ("name", "answer", "other", "expected"),
    [
        ("calculation", Ratio("CTR", 0.50), Ratio("CTR", 0.55), 1),
        ("calculation", Ratio("CTR", 0.50), Ratio("CTR", 0.56), 0),
        ("severity", 1, 2, 0),
        ("findings", frozenset({"a", "b"}), frozenset({"b", "c"}), 1 / 3),
        ("findings", frozenset(), frozenset(), 1),
        ("rec", (BOX,), (Box(0, 0, 1, 1),), 0.5),
        ("rec", (BOX,), (BOX, Box(0.5, 0, 1, 1)), 0.5),
        ("reg", "left mass", "left mass", 1),
        ("vqa", "yes", "no", 0),
        ("vqa", "yes", None, 0),
        ("report", "There is a left pneumothorax.", "A left pneumothorax is seen.", 1),
        ("report", "The heart is enlarged. There is a nodule.", "There is a nodule.", 0.5),
        ("report", "Good inspiration.", "Good inspiration.", 1),
    ],
)
def test_agreement_is_the_tasks_own_notion(name, answer, other, expected):
    assert agreement(name, answer, [other]) == pytest.approx(expected)
    assert agreement(name, answer, [other, answer]) == pytest.approx((expected + 1) / 2)
    assert agreement(name, answer, []) is None


def severity(number, grade, p, against=()):
    entry = Entry(f"i/severity/{number}", "i", "severity", "?", "", (), "x/severity/edema")
    target = task("severity").render(grade).text if grade is not None else ""
    return Answered(Entry(entry.entry_id, "i", "severity", "?", target, (), "x"), target, p, None, against)


def test_quality_counts_and_scores_each_filter_alone_and_after_the_others():
    """Eight answers about edema; the truth is grade 0 for all, so accuracy is macro-F1's one class."""
    grades = [0, 0, 0, 0, 1, 1, 2, None]
    against = [(), (), (), ("edema_grade",), ("edema_grade",), (), (), ()]
    answers = [severity(n, g, -0.1 * n, a) for n, (g, a) in enumerate(zip(grades, against, strict=True))]
    truths = {a.entry.entry_id: Written("grade 0, no edema") for a in answers}
    filters = Filters(likelihood=0.75, agreement=False)
    found = quality(answers, filters, {"i/severity/0"}, truths, {"i": "p"})["severity"]

    def f1(hits, n):  # of grade 0: every answer is about a true 0
        return round(100 * 2 * hits / (hits + n), 4)

    rows = [(r["filter"], r["left"], r["alone"], r["value"], r["value_alone"]) for r in found["funnel"]]
    assert rows == [
        ("asked", 8, 8, f1(4, 8), f1(4, 8)),
        ("parse", 7, 7, f1(4, 7), f1(4, 7)),
        ("likelihood", 6, 6, f1(4, 6), f1(4, 6)),
        ("consistency", 4, 6, f1(3, 4), f1(3, 6)),
    ]
    assert (found["asked"], found["kept"], found["used"], found["kept_fraction"]) == (8, 4, 1, 0.5)
    assert found["contradicted"] == {"edema_grade": 2}
    assert (found["headline"], found["used_value"], found["judged"]) == ("macro_f1", 100.0, 8)


def test_reports_are_judged_by_what_they_say_too():
    text = "There is a large left pneumothorax."
    entry = made("report", "A large left pneumothorax is seen. The heart is enlarged.")
    found = quality([Answered(entry, "", -0.1)], Filters(), {entry.entry_id}, {
        entry.entry_id: Written(text)
    }, {"i0": "p"})["report"]  # fmt: skip
    assert found["funnel"][0]["value"] < 70
    assert found["also"]["chexpert_micro_f1"] == [pytest.approx(200 / 3, abs=1e-4)] * 3


def test_without_truth_there_are_counts_and_no_scores():
    found = quality([severity(0, 1, -0.1)], Filters(), set(), {}, {"i": "p"})["severity"]
    assert "headline" not in found
    assert all("value" not in row for row in found["funnel"])


def test_an_answer_to_what_is_not_there_is_wrong():
    entry = made("rec", (BOX,))
    answered = Answered(entry, "", -0.1)
    assert right(answered, Written(*task("rec").render((BOX,)))) == 1
    assert right(answered, None) == 0
    report = quality([answered], Filters(consistency=False), set(), {entry.entry_id: None}, {"i0": "p"})[
        "rec"
    ]
    assert (report["funnel"][0]["value"], report["without_truth"]) == (0.0, 1)


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1, max_size=60))
def test_the_calibration_error_is_the_weighted_distance_of_its_bins(pairs):
    found = calibration(pairs, bins=5)
    assert sum(row["n"] for row in found["bins"]) == len(pairs)
    expected = 0.0  # by another route: sums of confidence minus rightness within each fifth
    for place in range(5):
        inside = [(c, r) for c, r in pairs if place == min(4, math.floor(c * 5))]
        expected += abs(sum(c - r for c, r in inside))
    assert found["expected_error"] == pytest.approx(expected / len(pairs))
    assert 0 <= found["expected_error"] <= 1


def test_a_sure_and_right_model_is_calibrated():
    assert calibration([(1.0, 1.0)] * 5)["expected_error"] == 0
    assert calibration([(0.9, 0.0)] * 5)["expected_error"] == pytest.approx(0.9)

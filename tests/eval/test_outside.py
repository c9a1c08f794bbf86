"""Metrics of other tools: the same numbers and intervals as ours from the same values, and honest gaps."""

import hashlib
import json
import math

import numpy as np
import pytest

from data_recipes.errors import UserError
from data_recipes.store import read_mixture
from eval.answers import Answer, truth_of
from eval.outside import merge
from eval.predictions import CanonicalBoxes, prediction
from eval.scores import score
from eval.stats import SEED
from eval.tasks import metrics

RESAMPLES = 300


@pytest.fixture
def answers(mixture_dir):
    """Half of the answers of each task are those of another entry."""
    rng = np.random.default_rng(3)
    known = [(image, entry, truth_of(entry)) for image, entry in read_mixture(mixture_dir).of_split("test")]
    found = []
    for image, entry, truth in known:
        others = [other for _, e, other in known if e.task == entry.task]
        said = truth if rng.random() < 0.5 else others[int(rng.integers(len(others)))]
        found.append(Answer(entry, image.patient_id, truth, said))
    return found


@pytest.fixture
def run(mixture_dir, answers, tmp_path):
    """A scored run, as far as merging reads it."""
    folder = tmp_path / "run"
    folder.mkdir()
    scores = score(answers, resamples=RESAMPLES)
    content = {
        "tasks": {task: scored.to_json() for task, scored in scores.tasks.items()},
        "interval": {"resamples": RESAMPLES, "seed": SEED},
        "model": "fake",
    }
    (folder / "scores.json").write_text(json.dumps(content))
    lines = [
        prediction(entry, image, "anything", CanonicalBoxes())
        for image, entry in read_mixture(mixture_dir).of_split("test")
    ]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write(tmp_path, metrics, **more):
    content = {"schema": 1, "source": "Tool 2.1", "task": "report", "metrics": metrics} | more
    path = tmp_path / "outside.json"
    path.write_text(json.dumps(content))
    return path


def scored(run, task="report"):
    return json.loads((run / "scores.json").read_text())["tasks"][task]


def values(answers, task, name):
    """Per-entry values of a metric of our own that is a mean."""
    mine = [answer for answer in answers if answer.entry.task == task]
    metric = next(metric for metric in metrics(task, mine) if metric.name == name)
    return {answer.entry.entry_id: metric.value([answer]) for answer in mine}


def test_a_mean_gets_value_and_interval_of_our_own_metric(run, answers, tmp_path):
    found = merge(run, write(tmp_path, {"same": {"values": values(answers, "report", "rouge_l")}}))
    own, merged = (scored(run)["metrics"][name] for name in ("rouge_l", "same"))
    assert merged.pop("source") == "Tool 2.1"
    assert merged == own
    assert 0 < own["ci_low"] < own["value"] < own["ci_high"] < 100
    assert not found.problems.counts


def test_numerators_over_denominators_get_value_and_interval_of_a_corpus_f1(run, answers, tmp_path):
    pairs = {}
    for answer in answers:
        if answer.entry.task == "findings":
            both = len(answer.predicted & answer.truth)
            pairs[answer.entry.entry_id] = [200 * both, len(answer.predicted) + len(answer.truth)]
    merge(run, write(tmp_path, {"f1": {"values": pairs}}, task="findings"))
    own, merged = (scored(run, "findings")["metrics"][name] for name in ("micro_f1", "f1"))
    assert merged == own | {"source": "Tool 2.1"}


def test_the_rest_of_the_scores_stays_as_it_was(run, answers, tmp_path):
    before = json.loads((run / "scores.json").read_text())
    path = write(
        tmp_path,
        {"a": {"values": values(answers, "report", "rouge_l"), "unit": "points", "higher_is_better": False}},
        versions={"torch": "2"},
    )
    merge(run, path)
    after = json.loads((run / "scores.json").read_text())
    assert after.pop("outside") == {"Tool 2.1": {"torch": "2"}}
    added = after["tasks"]["report"]["metrics"].pop("a")
    assert (added["unit"], added["higher_is_better"], added["n"]) == ("points", False, 12)
    assert after == before


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, "0.5", True, 10**400, [1], [1, -1], [math.nan, 1]])
def test_a_metric_with_one_value_that_is_none_is_not_computed(run, answers, tmp_path, gap):
    gappy = values(answers, "report", "rouge_l")
    first = next(iter(gappy))
    gappy[first] = gap
    found = merge(run, write(tmp_path, {"gappy": {"values": gappy}}))
    reason = f"1 of 12 entries have no finite value, the first is {first}"
    assert found.not_computed == {"gappy": reason}
    assert scored(run)["not_computed"]["gappy"] == reason
    assert "gappy" not in scored(run)["metrics"]


def test_entries_that_the_tool_or_the_run_lacks_count_as_missing_values(run, answers, tmp_path):
    short = values(answers, "report", "rouge_l")
    short.pop(next(iter(short)))
    assert merge(run, write(tmp_path, {"short": {"values": short}})).not_computed
    # An entry without a prediction has no line, but it is in the test set.
    lines = (run / "predictions.jsonl").read_text().splitlines(keepends=True)
    report = next(i for i, line in enumerate(lines) if '"task": "report"' in line)
    (run / "predictions.jsonl").write_text("".join(lines[:report] + lines[report + 1 :]))
    full = values(answers, "report", "rouge_l")
    found = merge(run, write(tmp_path, {"full": {"values": full}}))
    assert found.not_computed["full"].startswith("1 of 12 entries")


def test_unknown_entries_are_told_and_left_out(run, answers, tmp_path):
    known = values(answers, "report", "rouge_l")
    other = next(iter(values(answers, "reg", "rouge_l")))  # an entry, but of another task
    found = merge(run, write(tmp_path, {"m": {"values": known | {"zz": 1.0, other: 1.0}}}))
    assert found.problems.counts == {"unknown entry_id for m, left out": 2}
    assert found.estimates["m"].n == 12
    assert any("'zz'" in line for line in found.lines())


def test_denominators_that_are_all_zero_leave_nothing_to_judge(run, answers, tmp_path):
    zero = {entry_id: [0, 0] for entry_id in values(answers, "report", "rouge_l")}
    assert "nothing to judge" in merge(run, write(tmp_path, {"z": {"values": zero}})).not_computed["z"]


def test_a_later_merge_takes_the_place_of_an_earlier_one(run, answers, tmp_path):
    good = values(answers, "report", "rouge_l")
    merge(run, write(tmp_path, {}, not_computed={"m": "no weights"}))
    assert scored(run)["not_computed"]["m"] == "no weights"
    merge(run, write(tmp_path, {"m": {"values": good}}))
    assert "m" not in scored(run)["not_computed"]
    once = scored(run)
    merge(run, write(tmp_path, {"m": {"values": good}}))
    assert scored(run) == once
    merge(run, write(tmp_path, {}, not_computed={"m": "no weights"}))
    assert "m" not in scored(run)["metrics"]


def test_a_file_made_from_other_predictions_is_refused(run, answers, tmp_path):
    good = {"m": {"values": values(answers, "report", "rouge_l")}}
    digest = hashlib.sha256((run / "predictions.jsonl").read_bytes()).hexdigest()
    merge(run, write(tmp_path, good, predictions_sha256=digest))
    (run / "predictions.jsonl").write_text((run / "predictions.jsonl").read_text() + "\n")
    with pytest.raises(UserError, match="made from other predictions"):
        merge(run, write(tmp_path, good, predictions_sha256=digest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2, this version reads 1"),
        ({"metric": {}}, "unknown key in .*did you mean 'metrics'"),
        ({"source": " "}, "source must be a text"),
        ({"task": "reports"}, "did you mean 'report'"),
        ({"metrics": []}, "metrics must be a mapping"),
        ({"metrics": {}}, "nothing to merge"),
        ({"metrics": {"m": {"vals": {}}}}, "metric m needs values"),
        ({"metrics": {"m": {"values": {}, "units": "%"}}}, "unknown key .*did you mean 'unit'"),
        ({"metrics": {"m": {"values": {}, "higher_is_better": "yes"}}}, "higher_is_better is 'yes'"),
        ({"metrics": {"rouge_l": {"values": {}}}}, "rouge_l is the name of a metric of our own"),
    ],
)
def test_a_broken_file_is_refused_in_one_line_and_changes_nothing(run, tmp_path, change, message):
    before = (run / "scores.json").read_bytes()
    with pytest.raises(UserError, match=message) as caught:
        merge(run, write(tmp_path, **{"metrics": {"m": {"values": {}}}} | change))
    assert "\n" not in str(caught.value)
    assert (run / "scores.json").read_bytes() == before


def test_a_run_that_was_not_scored_is_refused(tmp_path):
    with pytest.raises(UserError, match="score it first"):
        merge(tmp_path, write(tmp_path, {"m": {"values": {}}}))

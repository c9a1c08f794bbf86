"""The parts of a study's report beside the main table: pseudo-labels, density, transfer, dynamics."""

from __future__ import annotations

import json

import pytest

from eval.compare import AVERAGE
from harness.study.report import build
from harness.study.results import _moment
from harness.study.summary import _correlated
from tests.eval.factories import make_mixture
from tests.harness import studies
from tests.harness.studies import line, report
from tests.taco_probe.dynamics import fakes


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    return make_mixture(tmp_path_factory.mktemp("mixture") / "fake", test=60)


def test_pseudo_labels_are_told_by_task_over_the_runs_of_an_arm(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2], reference="imax")
    studies.finish_all(plan, mixture, lambda run: 0.5)
    for run, kept in zip((run for run in plan.runs if run.arm.name == "dmax"), (0.2, 0.6), strict=True):
        known = {
            "asked": 100,
            "kept_fraction": kept,
            "used": 100 * kept,
            "funnel": [{"value": 60.0}, {"value": 80.0}],
            "headline": "accuracy",
            "used_value": 90.0,
            "calibration": {"expected_error": kept},
        }
        unknown = {"asked": 300, "kept_fraction": 0.0, "used": 0, "funnel": [{}, {}]}
        folder = run.folder / "stages" / "2-pseudo" / "mixture"
        folder.mkdir(parents=True)
        (folder / "pseudo.json").write_text(json.dumps({"tasks": {"vqa": known, "report": unknown}}))
    page = build(plan).page
    found = json.loads((page.parent / "study.json").read_text())
    rows = {row["task"]: row for row in found["pseudo_labels"]}
    assert {row["arm"] for row in rows.values()} == {"dmax"}
    vqa, bare = rows["vqa"], rows["report"]
    assert (vqa["runs"], vqa["kept"], vqa["used"], vqa["calibration"]) == (2, 0.4, 40, 0.4)
    assert (vqa["value"], vqa["value_kept"], vqa["value_used"]) == (60, 80, 90)
    assert (bare["kept"], bare["headline"], bare["value"]) == (0, "", None)
    assert line(found, "Pseudo-labels of dmax: ") == (
        "Pseudo-labels of dmax: 10 % of the answers were kept; mean headline of 1 task 60.0 of all, "
        "90.0 of those used."
    )
    assert "truth not known" in page.read_text()


def test_density_and_transfer_have_their_parts(tmp_path, mixture):
    plan = studies.plan(
        tmp_path,
        recipes=["imax"],
        seeds=[1, 2, 3],
        density=[1, 7.46],
        transfer={"tasks": ["rec", "vqa"], "seeds": [1, 2, 3]},
    )
    studies.finish_all(plan, mixture, lambda run: {"density-1": 0.2, "imax": 0.9}.get(run.arm.name, 0.5))
    page = build(plan).page
    found = json.loads((page.parent / "study.json").read_text())
    steep = next(one for one in found["density"]["differences"] if one["task"] == AVERAGE)
    assert (steep["first"], steep["second"]) == ("density-7.46", "density-1")
    assert steep["low"] > 0
    assert "the interval excludes 0" in line(found, "Density at an equal number of entries")
    deltas = {(one["first"], one["task"]): one for one in found["transfer"]["differences"]}
    assert {name for name, _ in deltas} == {"only-rec", "only-vqa", "without-rec", "without-vqa"}
    assert deltas["without-rec", AVERAGE]["value"] < 0
    assert "of 12 pairs of a task left out and another one scored" in line(found, "Leaving one task out")
    text = page.read_text()
    assert "One task left out (tiny)" in text
    assert 'title="[' in text
    assert (page.parent / "figures" / "leave-one-out.svg").exists()


def test_q_of_the_transfer_matrix_is_adjusted_over_the_cells_that_are_in_question(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax"], seeds=[1, 2], transfer={})
    studies.finish_all(plan, mixture, lambda run: 0.5)
    found = report(plan)
    for prefix, number in (("without-", 42), ("only-", 7)):
        cells = [
            one
            for one in found["transfer"]["differences"]
            if one["first"].startswith(prefix) and one["task"] != AVERAGE
        ]
        assert len(cells) == 49
        # A task that an arm was not trained on differs for sure, and says nothing of the other cells.
        tried = [one for one in cells if (one["first"] == prefix + one["task"]) == (prefix == "only-")]
        assert [one["q"] is not None for one in cells] == [one in tried for one in cells]
        assert not any(one["shown"] for one in cells if one not in tried)
        tried.sort(key=lambda one: one["p"])
        lowest = 1.0
        for place in range(number, 0, -1):  # Benjamini and Hochberg 1995, from the largest p down
            lowest = min(lowest, tried[place - 1]["p"] * number / place)
            assert tried[place - 1]["q"] == pytest.approx(lowest)


@pytest.mark.parametrize(
    ("steps", "maximum", "said"),
    [((20, 20), 20, "at the end"), ((0, 0), 20, "at the start"), ((10, 10), 20, "after 50 % of training"),
     ((10, 20), 20, "at the last measured step")],
)  # fmt: skip
def test_dynamics_are_said_to_be_of_the_moment_they_were_measured_at(steps, maximum, said):
    notes = []
    assert _moment([fakes.measured(step, max_steps=maximum) for step in steps], notes) == said
    assert bool(notes) == (len(set(steps)) > 1)


def test_dynamics_are_set_beside_scores_and_a_planted_relation_is_found(tmp_path, mixture):
    arms = [
        {"name": f"arm{number}", "base": "imax", "arguments": {"lora_r": number + 1}} for number in range(6)
    ]
    plan = studies.plan(tmp_path, recipes=arms, seeds=[1, 2], dynamics={"steps": "end"})
    for run in plan.runs:
        number = int(run.arm.name[3:])
        near = number if number < 2 else number ^ 1  # some neighbours in score are exchanged
        studies.finish(plan, run, mixture, share=0.1 + 0.15 * near, decay=0.6 + 0.35 * number)
    found = report(plan)
    entropy = next(
        one
        for one in found["correlations"]
        if (one["quantity"], one["method"], one["within"]) == ("entropy", "spearman", False)
    )
    # The faster the spectrum decays, the lower its entropy.
    assert entropy["high"] < 0
    assert "12 runs in 6 arms: " in line(found, "SE at the end and the average, over arms")
    assert all(run["dynamics"]["entropy"] > 0 for run in found["runs"])


def test_a_correlation_is_said_to_be_shown_only_where_its_q_allows_it():
    row = {"method": "spearman", "quantity": "entropy", "within": False, "model": "tiny", "value": 0.8,
           "low": 0.1, "high": 0.97, "n": 22, "arms": 11}  # fmt: skip
    said = [
        next(_correlated({"moment": "at the end", "correlations": [row | {"q": q}]})) for q in (0.04, 0.06)
    ]
    assert said[0].endswith("[+0.10, +0.97], q 0.04, 22 runs in 11 arms: a correlation is shown.")
    assert said[1].endswith("q 0.06, 22 runs in 11 arms: no correlation shown.")


def test_q_of_correlations_is_adjusted_over_numbers_ways_and_models(tmp_path, mixture):
    arms = [
        {"name": f"arm{number}", "base": "imax", "arguments": {"lora_r": number + 1}} for number in range(5)
    ]
    plan = studies.plan(
        tmp_path,
        recipes=arms,
        models=studies.TWO,
        seeds=[1, 2],
        dynamics={"steps": "end"},
    )
    for number, run in enumerate(plan.runs):
        studies.finish(plan, run, mixture, share=0.05 * (number * 7 % 20), decay=0.6 + 0.1 * number)
    found = report(plan)
    rows = [one for one in found["correlations"] if one["method"] == "spearman" and one["p"] is not None]
    assert {(one["model"], one["within"]) for one in rows} == {
        (model, within) for model in ("tiny", "other") for within in (False, True)
    }
    least = min(rows, key=lambda one: one["q"])
    assert least["q"] == pytest.approx(
        min(
            one["p"] * len(rows) / place
            for place, one in enumerate(sorted(rows, key=lambda one: one["p"]), 1)
        )
    )

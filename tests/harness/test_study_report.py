"""The report of a study: what was planted is said, and no more than the data allow."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser

import pytest

from data_recipes.errors import UserError
from eval.compare import AVERAGE
from harness.study.report import build
from harness.study.state import read_record, write_record
from harness.study.summary import _correlated
from tests.eval.factories import make_mixture
from tests.eval.run_folders import HOSTILE
from tests.harness import studies


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    return make_mixture(tmp_path_factory.mktemp("mixture") / "fake", test=60)


def told(plan, mixture, shares, **keys):
    """The content of study.json after all runs of these arms are finished."""
    for run in plan.runs:
        if run.arm.name in shares:
            studies.finish(plan, run, mixture, share=shares[run.arm.name], **keys)
    build(plan)
    return json.loads((plan.folder / "report" / "study.json").read_text())


def row(found, first, second, task=AVERAGE, model="tiny"):
    return next(
        one
        for one in found["differences"]
        if (one["first"], one["second"], one["task"], one["model"]) == (first, second, task, model)
    )


def line(found, start):
    return next(one for one in found["summary"] if one.startswith(start))


def test_a_planted_difference_is_said_with_its_numbers_and_an_equal_arm_is_not_told_apart(tmp_path, mixture):
    arms = ["imax", {"name": "same", "base": "imax", "arguments": {"lora_r": 2}}, "dmax"]
    plan = studies.plan(
        tmp_path, recipes=arms, seeds=[1, 2, 3], reference="dmax", contrasts=[["imax", "same"]]
    )
    found = told(plan, mixture, {"imax": 0.9, "same": 0.9, "dmax": 0.4})
    better, even = row(found, "imax", "dmax"), row(found, "imax", "same")
    assert better["low"] > 0
    assert better["seeds"] == [3, 3]
    said = line(found, "imax − dmax: ")
    assert f"+{better['value']:.1f} points on the multi-task average [+{better['low']:.1f}, " in said
    assert "3 seeds each: imax is better." in said
    assert even["low"] < 0 < even["high"]
    assert "no difference shown, as the interval holds 0" in line(found, "imax − same: ")
    assert "worse" not in " ".join(found["summary"])


def test_of_many_missing_runs_the_first_are_named(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2, 3, 4], reference="imax")
    found = told(plan, mixture, {"imax": 0.5})
    assert "4 of 8 runs not done" in line(found, "This is a part")
    assert "more" not in line(found, "This is a part")
    many = studies.plan(tmp_path / "many", recipes=["imax", "dmax"], seeds=list(range(1, 9)))
    found = told(many, mixture, {"imax": 0.5})
    assert line(found, "This is a part").endswith(
        "dmax-tiny-s6 (missing) and 2 more (`imax study plan` lists them)."
    )


def test_the_side_that_is_better_is_named_whichever_it_is(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2, 3], reference="dmax")
    found = told(plan, mixture, {"imax": 0.3, "dmax": 0.9})
    assert row(found, "imax", "dmax")["high"] < 0
    assert ": dmax is better." in line(found, "imax − dmax: ")


def test_one_seed_is_said_to_say_nothing_of_other_seeds(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1], reference="dmax")
    found = told(plan, mixture, {"imax": 0.9, "dmax": 0.4})
    said = line(found, "imax − dmax: ")
    assert "one seed each, so this says nothing of other seeds: the run of imax is better, here." in said
    assert line(found, "One seed only so far: imax, dmax.")
    assert all(one["sd"] is None for one in found["levels"])


def test_seeds_that_disagree_widen_the_interval(tmp_path, mixture):
    width = {}
    for name, spread in (("calm", 0.0), ("wild", 0.25)):
        plan = studies.plan(tmp_path / name, recipes=["imax", "dmax"], seeds=[1, 2, 3], reference="dmax")
        for run in plan.runs:
            studies.finish(plan, run, mixture, share=0.6 + spread * (run.seed - 2))
        build(plan)
        found = json.loads((plan.folder / "report" / "study.json").read_text())
        one = row(found, "imax", "dmax")
        width[name] = one["high"] - one["low"]
    assert width["wild"] > 2 * width["calm"]


def test_a_part_of_a_study_is_reported_with_the_missing_runs_by_name(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2], reference="dmax")
    with pytest.raises(UserError, match="no run is finished"):
        build(plan)
    studies.finish(plan, plan.run("imax-tiny-s1"), mixture, share=0.5)
    failed = plan.run("dmax-tiny-s2")
    write_record(failed.folder, {"key": failed.key, "failed": {"step": "train", "exit": 2, "last_line": "x"}})
    report = build(plan)
    assert report.summary[0] == (
        "This is a part of the study: 3 of 4 runs not done, and what follows rests on the others. Not done: "
        "dmax-tiny-s1 (missing), imax-tiny-s2 (missing), dmax-tiny-s2 (failed)."
    )
    assert any(line == "Not compared with dmax, for lack of finished runs: imax." for line in report.summary)
    assert "train: x" in report.page.read_text()


def test_runs_on_another_test_set_are_left_out_and_named(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2])
    other = make_mixture(tmp_path / "other", test=10, seed=5)
    for run in plan.runs:
        studies.finish(plan, run, other if run.name == "dmax-tiny-s2" else mixture, share=0.5)
    report = build(plan)
    assert "dmax-tiny-s2 was scored on another test set than most runs and is left out." in report.summary


def test_the_report_is_made_again_from_files_alone(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2], dynamics={"steps": "end"})
    studies.finish_all(plan, mixture, lambda run: 0.5)
    first = build(plan)
    content = {path.name: path.read_bytes() for path in first.page.parent.rglob("*") if path.is_file()}
    assert {"index.html", "study.json", "summary.md", "scores.svg", "scores.png", "dynamics.svg"} <= set(
        content
    )
    for run in plan.runs:
        shutil.rmtree(run.folder / "adapter")
        (run.folder / "adapter").mkdir()
    shutil.rmtree(first.page.parent)
    again = build(plan)
    assert {
        path.name: path.read_bytes() for path in again.page.parent.rglob("*") if path.is_file()
    } == content


def test_without_the_test_set_means_are_shown_and_nothing_is_compared(tmp_path):
    mixture = make_mixture(tmp_path / "gone")
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2], reference="dmax")
    studies.finish_all(plan, mixture, lambda run: 0.5)
    shutil.rmtree(mixture)
    found = json.loads((build(plan).page.parent / "study.json").read_text())
    assert found["differences"] == []
    assert all(one["low"] is None and one["sd"] is not None for one in found["levels"])
    assert line(found, "The mixture these runs were scored on is not at hand")


def test_models_are_compared_each_and_counted_together(tmp_path, mixture):
    plan = studies.plan(
        tmp_path, recipes=["imax", "dmax"], models=["tiny", "other"], seeds=[1, 2, 3], reference="dmax"
    )
    for run in plan.runs:
        share = 0.9 if (run.arm.name, run.model.name) == ("imax", "tiny") else 0.4
        studies.finish(plan, run, mixture, share=share)
    found = json.loads((build(plan).page.parent / "study.json").read_text())
    assert ": imax is better." in line(found, "imax − dmax with tiny: ")
    assert "no difference shown" in line(found, "imax − dmax with other: ")
    assert line(found, "Over 2 models imax is better than dmax with 1 and worse with 0 by intervals")


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
    report = build(plan)
    found = json.loads((report.page.parent / "study.json").read_text())
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
    assert "truth not known" in report.page.read_text()


def test_density_and_transfer_have_their_parts(tmp_path, mixture):
    plan = studies.plan(
        tmp_path,
        recipes=["imax"],
        seeds=[1, 2, 3],
        density=[1, 7.46],
        transfer={"tasks": ["rec", "vqa"], "seeds": [1, 2, 3]},
    )
    studies.finish_all(plan, mixture, lambda run: {"density-1": 0.2, "imax": 0.9}.get(run.arm.name, 0.5))
    report = build(plan)
    found = json.loads((report.page.parent / "study.json").read_text())
    steep = next(one for one in found["density"]["differences"] if one["task"] == AVERAGE)
    assert (steep["first"], steep["second"]) == ("density-7.46", "density-1")
    assert steep["low"] > 0
    assert "the interval excludes 0" in line(found, "Density at an equal number of entries")
    deltas = {(one["first"], one["task"]): one for one in found["transfer"]["differences"]}
    assert {name for name, _ in deltas} == {"only-rec", "only-vqa", "without-rec", "without-vqa"}
    assert deltas["without-rec", AVERAGE]["value"] < 0
    assert "of 12 pairs of a task left out and another one scored" in line(found, "Leaving one task out")
    page = report.page.read_text()
    assert "One task left out (tiny)" in page
    assert 'title="[' in page
    assert (report.page.parent / "figures" / "leave-one-out.svg").exists()


def test_q_of_the_transfer_matrix_is_adjusted_over_the_whole_matrix(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax"], seeds=[1, 2], transfer={"train_on_one": False})
    studies.finish_all(plan, mixture, lambda run: 0.5)
    found = json.loads((build(plan).page.parent / "study.json").read_text())
    cells = sorted(
        (one for one in found["transfer"]["differences"] if one["q"] is not None), key=lambda one: one["p"]
    )
    assert len(cells) == 49
    lowest = 1.0
    for place in range(49, 0, -1):  # Benjamini and Hochberg 1995, from the largest p down
        lowest = min(lowest, cells[place - 1]["p"] * 49 / place)
        assert cells[place - 1]["q"] == pytest.approx(lowest)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_nothing_that_a_file_says_becomes_markup_or_mathematics(tmp_path, mixture):
    arms = [{"name": "imax", "label": HOSTILE}, {"name": "dmax", "label": "costs $1 and $2"}]
    plan = studies.plan(
        tmp_path, recipes=arms, seeds=[1, 2], description=HOSTILE, dynamics={"steps": "end"}, reference="dmax"
    )
    studies.finish_all(plan, mixture, lambda run: 0.5)
    write_record(plan.runs[0].folder, read_record(plan.runs[0].folder))
    page = Page(build(plan).page.read_text())
    assert "script" not in page.tags
    assert page.tags.count("img") == 3  # our figures
    assert not [name for name in page.attributes if name.startswith("on")]
    text = (plan.folder / "report" / "figures" / "scores.svg").read_text()
    assert "<script" not in text
    assert "costs $1 and $2" in text


def test_dynamics_are_set_beside_scores_and_a_planted_relation_is_found(tmp_path, mixture):
    arms = [
        {"name": f"arm{number}", "base": "imax", "arguments": {"lora_r": number + 1}} for number in range(6)
    ]
    plan = studies.plan(tmp_path, recipes=arms, seeds=[1, 2], dynamics={"steps": "end"})
    for run in plan.runs:
        number = int(run.arm.name[3:])
        near = number if number < 2 else number ^ 1  # some neighbours in score are exchanged
        studies.finish(plan, run, mixture, share=0.1 + 0.15 * near, decay=0.6 + 0.35 * number)
    found = json.loads((build(plan).page.parent / "study.json").read_text())
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
    said = [next(_correlated({"correlations": [row | {"q": q}]})) for q in (0.04, 0.06)]
    assert said[0].endswith("[+0.10, +0.97], q 0.04, 22 runs in 11 arms: a correlation is shown.")
    assert said[1].endswith("q 0.06, 22 runs in 11 arms: no correlation shown.")


def test_q_of_correlations_is_adjusted_over_numbers_ways_and_models(tmp_path, mixture):
    arms = [
        {"name": f"arm{number}", "base": "imax", "arguments": {"lora_r": number + 1}} for number in range(5)
    ]
    plan = studies.plan(
        tmp_path, recipes=arms, models=["tiny", "other"], seeds=[1, 2], dynamics={"steps": "end"}
    )
    for number, run in enumerate(plan.runs):
        studies.finish(plan, run, mixture, share=0.05 * (number * 7 % 20), decay=0.6 + 0.1 * number)
    found = json.loads((build(plan).page.parent / "study.json").read_text())
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

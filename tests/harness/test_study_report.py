"""The report of a study: what was planted is said, and no more than the data allow."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser

import pytest

from data_recipes.errors import UserError
from eval.compare import AVERAGE
from harness.study.report import build
from harness.study.state import read_record, write_record
from tests.eval.factories import make_mixture
from tests.eval.run_folders import HOSTILE
from tests.harness import studies
from tests.harness.studies import line, report


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    return make_mixture(tmp_path_factory.mktemp("mixture") / "fake", test=60)


def told(plan, mixture, shares, **keys):
    """The content of study.json after all runs of these arms are finished."""
    for run in plan.runs:
        if run.arm.name in shares:
            studies.finish(plan, run, mixture, share=shares[run.arm.name], **keys)
    return report(plan)


def row(found, first, second, task=AVERAGE, model="tiny"):
    return next(
        one
        for one in found["differences"]
        if (one["first"], one["second"], one["task"], one["model"]) == (first, second, task, model)
    )


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
        found = report(plan)
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
    found = report(plan)
    assert found["differences"] == []
    assert all(one["low"] is None and one["sd"] is not None for one in found["levels"])
    assert line(found, "The mixture these runs were scored on is not at hand")


def with_two_models(folder):
    keys = {"recipes": ["imax", "dmax"], "models": studies.TWO, "seeds": [1, 2, 3], "reference": "dmax"}
    return studies.plan(folder, **keys)


def test_models_are_compared_each_and_counted_together(tmp_path, mixture):
    plan = with_two_models(tmp_path)
    for run in plan.runs:
        share = 0.9 if (run.arm.name, run.model.name) == ("imax", "tiny") else 0.4
        studies.finish(plan, run, mixture, share=share)
    found = report(plan)
    assert ": imax is better." in line(found, "imax − dmax with tiny: ")
    assert "no difference shown" in line(found, "imax − dmax with other: ")
    assert line(found, "Over 2 models imax is better than dmax with 1 and worse with 0 by intervals")


def test_over_models_an_arm_with_one_seed_is_not_counted_as_better(tmp_path, mixture):
    plan = with_two_models(tmp_path)
    ones = [run for run in plan.runs if run.seed == 1]
    for run in plan.runs:
        if run in ones:
            studies.finish(plan, run, mixture, share=0.9 if run.arm.name == "imax" else 0.4)
    found = report(plan)
    assert line(found, "imax against dmax over 2 models") == (
        "imax against dmax over 2 models: one seed on a side with each, so nothing is said of the arms."
    )
    for run in plan.runs:
        if run not in ones and run.model.name == "tiny":
            studies.finish(plan, run, mixture, share=0.9 if run.arm.name == "imax" else 0.4)
    found = report(plan)
    assert line(found, "Over 2 models").endswith(
        "better than dmax with 1 and worse with 0 by intervals that exclude 0; no difference is shown "
        "with 0; 1 with one seed on a side not counted."
    )


def test_what_intervals_do_not_cover_and_how_many_there_are_is_said(tmp_path, mixture):
    arms = ["imax", {"name": "same", "base": "imax", "arguments": {"lora_r": 2}}, "dmax"]
    plan = studies.plan(tmp_path, recipes=arms, seeds=[1, 2], contrasts=[["same", "dmax"]])
    found = told(plan, mixture, {"imax": 0.9, "same": 0.9, "dmax": 0.4})
    assert line(found, "Each arm has one draw") == (
        "Each arm has one draw of training images: intervals are for other test patients and other training "
        "seeds, not for other training sets. 3 differences of averages are each judged by their own "
        "interval, of which up to one in twenty excludes 0 where there is no difference."
    )


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

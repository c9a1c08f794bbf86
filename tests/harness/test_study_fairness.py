"""What the report of a study says of fairness and cost: what came out equal, what did not, what runs took."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from data_recipes.errors import UserError
from harness.study.costs import costs
from harness.study.state import read_record, write_record
from tests.eval.factories import make_mixture
from tests.harness import studies
from tests.harness.studies import line, report


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    return make_mixture(tmp_path_factory.mktemp("mixture") / "fake", test=60)


def settings(run, **values):
    """Puts values into the run's run.yaml."""
    path = run.folder / "run.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


def add_stage(run, name, **facts):
    """A stage like the run itself, with other facts."""
    stage = run.folder / "stages" / name
    stage.mkdir(parents=True)
    for file in ("run.yaml", "train.jsonl"):
        shutil.copy(run.folder / file, stage / file)
    own = json.loads((run.folder / "provenance.json").read_text())
    (stage / "provenance.json").write_text(json.dumps(own | facts))
    return stage


def test_arms_that_differ_in_what_should_be_equal_are_warned_about(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2])
    for run in plan.runs:
        if run.name != "dmax-tiny-s2":
            trainable = {"imax": 10, "dmax": 12}[run.arm.name]
            studies.finish(plan, run, mixture, share=0.5, parameters={"trainable": trainable})
    found = report(plan)
    assert "Runs with tiny differ in trainable parameters: 10, 12." in found["warnings"]
    assert "Arms with tiny have different seeds so far (imax: 1, 2; dmax: 1)." in found["warnings"]
    assert "Fairness: 2 warnings" in line(found, "Fairness")


def test_a_match_that_was_not_reached_is_warned_about(tmp_path, mixture):
    small = make_mixture(tmp_path / "small", train=20, test=60)
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"])
    studies.finish(plan, plan.runs[0], mixture, share=0.5)
    studies.finish(plan, plan.runs[1], small, share=0.5)
    found = report(plan)
    values = {one["arm"]: one["values"] for one in found["fairness"]}
    assert (values["imax"]["images"], values["imax"]["entries"]) == (30, 240)
    assert (values["dmax"]["images"], values["dmax"]["entries"]) == (20, 160)
    # 30 steps of 8 entries each, by TrainingArguments' default.
    assert values["imax"]["drawn"] == values["dmax"]["drawn"] == 240
    assert (
        "dmax (tiny) was matched to imax in entries, yet has 160 training entries against 240."
        in found["warnings"]
    )


def test_a_staged_run_counts_the_steps_and_data_of_its_stages(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"])
    run = plan.runs[0]
    studies.finish(plan, run, mixture, share=0.5)
    single = costs(run.folder)
    for name in ("1-first", "2-clean"):
        stage = run.folder / "stages" / name
        stage.mkdir(parents=True)
        for file in ("run.yaml", "provenance.json", "train.jsonl"):
            shutil.copy(run.folder / file, stage / file)
    both = costs(run.folder)
    assert (both.steps, both.drawn, both.tokens_computed) == (2 * single.steps, 2 * single.drawn, 1000)
    assert (both.images, both.entries) == (single.images, single.entries)  # the same data twice
    assert both.train_seconds == 120
    # Two more images beside thirty of the same ids.
    more = make_mixture(tmp_path / "more", train=32)
    settings = yaml.safe_load((stage / "run.yaml").read_text())
    (stage / "run.yaml").write_text(yaml.safe_dump(settings | {"mix": [str(more)]}))
    mixed = costs(run.folder)
    assert (mixed.images, mixed.entries) == (single.images + 2, single.entries + 16)
    record = read_record(run.folder)
    record["attempts"].append({"step": "score", "seconds": None})
    write_record(run.folder, record)
    assert (costs(run.folder).seconds, costs(run.folder).killed) == (60.0, 1)


def test_an_arm_that_drew_more_entries_than_the_reference_is_warned_about(tmp_path, mixture):
    recipes = ["imax", {"name": "longer", "base": "imax", "arguments": {"num_train_epochs": 3}}]
    recipes += [{"name": "dmax", "match": ["images", "entries", "tokens"]}]
    plan = studies.plan(tmp_path, recipes=recipes, transfer={"tasks": ["vqa"]}, reference="imax")
    for run in plan.runs:
        steps = 30 if run.arm.name == "imax" else 33
        studies.finish(plan, run, mixture, share=0.5, sessions=[{"to_step": steps}])
    drew = [line for line in report(plan)["warnings"] if " drew " in line]
    # Not those matched in other things, nor those that train on other tasks.
    assert drew == [
        "longer (tiny) drew 264 entries in training against 240 of imax.",
        "dmax, equal entries (tiny) drew 264 entries in training against 240 of imax.",
    ]


def test_a_staged_arm_that_trained_longer_is_warned_about(tmp_path, mixture):
    stages = [{"name": "first", "mixture": "dmax"}, {"name": "second", "mixture": "dmax"}]
    (tmp_path / "staged.yaml").write_text(yaml.safe_dump({"style": "staged", "stages": stages}))
    plan = studies.plan(tmp_path, recipes=["imax", "staged.yaml"])
    for run in plan.runs:
        studies.finish(plan, run, mixture, share=0.5)
    for name, steps in (("1-first", 30), ("2-second", 20)):
        add_stage(plan.runs[1], name, sessions=[{"to_step": steps}])
    assert report(plan)["warnings"] == ["staged (tiny) drew 400 entries in training against 240 of imax."]


def test_equal_steps_of_stages_with_lengths_of_their_own_are_refused_unless_max_steps_makes_them_so(tmp_path):
    stages = [{"name": "a", "mixture": "dmax", "epochs": 1}, {"name": "b", "mixture": "dmax", "epochs": 1}]
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"style": "staged", "stages": stages}))
    keys = {"recipes": ["imax", str(own)], "match": "steps"}
    with pytest.raises(UserError, match=r"recipe own has stages, .* give it a `match` of its own"):
        studies.plan(tmp_path, **keys)
    plan = studies.plan(tmp_path, **keys, arguments={"max_steps": 90})
    assert plan.arms[1].match == ("steps", "imax")
    recipes = ["imax", {"name": "own", "base": str(own), "match": "entries"}]
    assert studies.plan(tmp_path, **keys | {"recipes": recipes}).arms[1].match == ("entries", "imax")
    # Shares are of a plain run on the mixture, which says itself how long that is.
    shared = studies.plan(tmp_path, **keys | {"recipes": ["imax", "dmax_3stage"]})
    assert shared.arms[1].match == ("steps", "imax")


def test_arms_of_density_and_of_transfer_are_held_to_each_other(tmp_path, mixture):
    blocks = {"density": [1, 2], "transfer": {"tasks": ["rec", "vqa"], "leave_one_out": False}}
    plan = studies.plan(tmp_path, recipes=["dmax"], **blocks)
    commits = {"density-1": "one", "density-2": "other", "only-rec": "third", "only-vqa": "fourth"}
    for run in plan.runs:
        commit = commits.get(run.arm.name, "third")
        trainable = 11 if run.arm.name == "only-rec" else 10
        parameters = {"trainable": trainable}
        studies.finish(plan, run, mixture, share=0.5, commit=commit, parameters=parameters)
    settings(plan.run("density-2-tiny-s1"), learning_rate=0.5)
    assert report(plan)["warnings"] == [
        "Runs with tiny (density) differ in code (commit): one, other.",
        "Runs with tiny (density) differ in learning_rate: the default, 0.5.",
        "Runs with tiny (transfer) differ in trainable parameters: 10, 11.",
        "Runs with tiny (transfer) differ in code (commit): third, fourth.",
    ]


def test_batch_sizes_that_follow_from_batching_are_no_difference_and_others_are(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"])
    for run in plan.runs:
        studies.finish(plan, run, mixture, share=0.5)
    # As `tiny` draws by default: 2 images a step, or 2 times 8 entries; 8 and 1 are not written down.
    settings(plan.runs[0], batching="image", per_device_train_batch_size=2)
    settings(plan.runs[1], batching="entry", gradient_accumulation_steps=2)
    assert not [line for line in report(plan)["warnings"] if "differ in" in line]
    settings(plan.runs[1], gradient_accumulation_steps=4)
    assert "Runs with tiny differ in gradient_accumulation_steps: by batching, 4." in report(plan)["warnings"]


def test_stages_made_by_other_code_are_told(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax"])
    studies.finish(plan, plan.runs[0], mixture, share=0.5, commit="new")
    add_stage(plan.runs[0], "1-first", commit="old", from_cache="stage-1")
    assert "Runs with tiny differ in code (commit): new, old." in report(plan)["warnings"]


def test_what_a_staged_run_costs_on_its_own_counts_annotation_and_what_the_cache_gave(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax"])
    stages = [{"name": "first"}, {"name": "pseudo", "annotation_seconds": 200.0}]
    studies.finish(plan, plan.runs[0], mixture, share=0.5, stages=stages)
    add_stage(plan.runs[0], "1-first", wall_seconds=900.0, from_cache="stage-1")
    add_stage(plan.runs[0], "2-pseudo", wall_seconds=100.0)
    found = report(plan)
    values = found["fairness"][0]["values"]
    assert (values["train_seconds"], values["annotation_seconds"], values["full_seconds"]) == (
        1000,
        200,
        1200,
    )
    assert values["seconds"] == 60  # as this study ran it
    assert found["cost"]["full_seconds"] == 1200
    cost = line(found, "Cost of")
    assert (
        "each run trained on its own, without the cache of stages: 0:20:00, of it 0:03:20 annotation" in cost
    )
    assert "<td>0:20:00</td>" in (plan.folder / "report" / "index.html").read_text()

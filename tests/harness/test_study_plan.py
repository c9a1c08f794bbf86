"""study.yaml and the plan made of it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_recipes.errors import UserError
from data_recipes.recipe import load_recipe
from data_recipes.tasks import TASKS
from eval.backends import BATCH_SIZES
from harness.study.planning import make_plan, read_plan
from harness.study.spec import FOLDER, Dynamics, Evaluation, read_study, study_names
from tests.eval.factories import make_mixture
from tests.harness import studies


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_study_is_read_and_is_called_as_its_file(path):
    study, _ = read_study(path.stem)
    assert study.name == path.stem
    assert study.description


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"recipes": ["imax"], "sedes": [1]}, "unknown key 'sedes': did you mean 'seeds'?"),
        (
            {"recipes": ["imax"], "dynamics": {"step": "end"}},
            "unknown key 'dynamics.step': did you mean 'dynamics.steps'?",
        ),
        (
            {"recipes": [{"name": "a", "bases": "imax"}]},
            "unknown key 'recipes.0.bases': did you mean 'recipes.0.base'?",
        ),
        ({"recipes": ["imax"], "match": "entry"}, "did you mean 'entries'?"),
        ({}, "key recipes is missing"),
        ({"recipes": ["imax"], "seeds": [True]}, "YAML reads yes, no, on, off as true and false"),
        ({"recipes": ["imax"], "seeds": [1, 1]}, "seed 1 is named twice"),
        (
            {"recipes": ["imax"], "density": {"entries_per_image": [1], "seeds": [2, 2]}},
            "seed 2 is named twice",
        ),
        ({"recipes": ["imax"], "transfer": {"seeds": [2, 2]}}, "seed 2 is named twice"),
        ({"recipes": ["imax", "imax"]}, "recipe imax is named twice"),
        ({"recipes": ["imax"], "arguments": {"seed": 3}}, "--seed is set by the study"),
        ({"recipes": ["imax"], "arguments": {"dynamics_sketch": 4}}, "--dynamics_sketch is set by the study"),
        ({"recipes": ["imax"], "density": [None]}, "density.entries_per_image.0 is None"),
        ({"recipes": ["imax"], "density": [[1]]}, "density.entries_per_image.0 is [1]"),
        ({"recipes": ["imax"], "density": [0]}, "density.entries_per_image.0 is 0"),
        ({"recipes": ["imax"], "density": [float("nan")]}, "density.entries_per_image.0 is nan"),
        ({"recipes": ["imax"], "density": [float("inf")]}, "density.entries_per_image.0 is inf"),
        ({"recipes": ["imax"], "seeds": [-1]}, "seeds.0 is -1"),
        ({"recipes": ["imax"], "dynamics": {"steps": "foo"}}, "'foo' is no step; give steps, percentages"),
        ({"recipes": ["imax"], "dynamics": {"steps": ""}}, "give at least one step"),
        ({"recipes": ["imax"], "dynamics": {"fisher": "tru"}}, "did you mean 'true'?"),
        ({"recipes": ["imax"], "dynamics": {"split": "test"}}, "unknown dynamics.split 'test'"),
        ({"recipes": ["imax"], "evaluation": {"split": "train"}}, "unknown evaluation.split 'train'"),
        ({"recipes": ["imax"], "evaluation": {"backend": "vlm"}}, "did you mean 'vllm'?"),
        ({"recipes": ["imax"], "launch": "'"}, 'launch is "\'": a shell could not read that'),
        ({"recipes": ["imax"], "transfer": {"tasks": ["vqaa"]}}, "did you mean 'vqa'?"),
        (
            {"recipes": ["imax"], "transfer": {"train_on_one": False, "leave_one_out": False}},
            "one of train_on_one and leave_one_out must be true",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_says_where(tmp_path, keys, message):
    with pytest.raises(UserError) as caught:
        studies.study(tmp_path, **keys)
    assert message in str(caught.value)
    assert "study.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"recipes": ["imaxx"]}, "unknown recipe 'imaxx': did you mean 'imax'?"),
        ({"recipes": ["imax", "dmax"], "reference": "dmx"}, "unknown arm 'dmx': did you mean 'dmax'?"),
        ({"recipes": ["imax"], "contrasts": [["imax", "dmax"]]}, "unknown arm 'dmax'"),
        ({"recipes": ["imax"], "models": ["./nowhere"]}, "there is no folder ./nowhere"),
        ({"recipes": ["imax"], "models": ["models/nowhere"]}, "there is no folder models/nowhere"),
        ({"recipes": ["imax"], "models": ["tinny"]}, "unknown model 'tinny': did you mean 'tiny'?"),
        ({"recipes": [{"name": "dmax_3stage", "changes": {"stages": 3}}]}, "stages is 3: list them"),
        ({"recipes": [{"name": "dmax_3stage", "changes": {"stages.0.epoch": 3}}]}, "unknown key 'epoch'"),
        ({"recipes": ["imax"], "arguments": {"lora_rr": 3}}, "unknown key 'lora_rr': did you mean 'lora_r'?"),
        ({"recipes": ["imax"], "arguments": {"learning_rate": "high"}}, "--learning_rate"),
        ({"recipes": [{"name": "imax", "arguments": {"lora_r": 0}}]}, "--lora_r must be at least 1, not 0"),
        (
            {"recipes": ["imax"], "models": [{"name": "tiny", "arguments": {"batching": "images"}}]},
            "did you mean 'image'?",
        ),
        ({"recipes": ["imax"], "density": [1, 1]}, "two arms would be called density-1"),
        ({"recipes": ["imax"], "transfer": {"tasks": ["vqa", "vqa"]}}, "two arms would be called only-vqa"),
        (
            {"recipes": ["imax", {"name": "density-1", "base": "imax"}], "density": [1]},
            "two arms would be called density-1",
        ),
        (
            {"recipes": ["dmax"], "density": {"entries_per_image": [1.0], "recipe": "dmax"}},
            "density needs an image-centric recipe",
        ),
        (
            {
                "recipes": [{"name": "a", "base": "imax"}, {"name": "a-b", "base": "dmax"}],
                "models": [{"name": "b-c", "model": "llava-med"}, {"name": "c", "model": "tiny"}],
            },
            "two runs would be called a-b-c-s1",
        ),
    ],
)
def test_what_only_recipes_and_models_tell_fails_at_planning(tmp_path, keys, message):
    (tmp_path / "models").mkdir()
    read, root = studies.study(tmp_path, **keys)
    with pytest.raises(UserError, match=message) as caught:
        make_plan(read, root, tmp_path / "study")
    assert "\n" not in str(caught.value)


def test_what_the_file_may_say_of_dynamics_is_what_training_takes():
    from harness.arguments import CHOICES

    said = get_args(Dynamics.model_fields["fisher"].annotation)
    assert sorted(said) == sorted(CHOICES["dynamics_fisher"])
    backends = get_args(Evaluation.model_fields["backend"].annotation)
    assert sorted(backends) == sorted(BATCH_SIZES)


def test_an_unknown_study_is_told_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'phantom'"):
        read_plan("phantm")
    assert "smoke" in study_names()


def test_runs_come_seed_by_seed_so_that_a_part_compares_like_with_like(tmp_path):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[3, 1])
    assert [run.name for run in plan.runs] == ["imax-tiny-s3", "dmax-tiny-s3", "imax-tiny-s1", "dmax-tiny-s1"]
    assert plan.runs[0].folder == tmp_path / "study" / "runs" / "imax-tiny-s3"
    assert plan.reference == "imax"


def test_several_ways_of_matching_make_an_arm_each_of_decentralised_recipes_only(tmp_path):
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"], match=["entries", "tokens"])
    recipes = {arm.name: arm.recipe for arm in plan.arms}
    assert list(recipes) == ["imax", "dmax-entries", "dmax-tokens"]
    assert recipes["dmax-entries"] == "dmax"  # as the recipe says anyway
    changed = load_recipe(recipes["dmax-tokens"])
    assert changed.match.by == "tokens"
    same = changed.model_copy(
        update={"name": "dmax", "match": changed.match.model_copy(update={"by": "entries"})}
    )
    assert same == load_recipe("dmax")
    one = studies.plan(tmp_path / "one", recipes=["imax", "dmax"], match="images")
    assert [arm.name for arm in one.arms] == ["imax", "dmax"]
    assert [arm.match for arm in one.arms] == [None, ("images", "imax")]


def test_a_recipe_may_be_matched_in_its_own_ways(tmp_path):
    arms = ["imax", {"name": "dmax", "match": ["entries", "tokens"]}, {"name": "other", "base": "dmax"}]
    plan = studies.plan(tmp_path, recipes=arms, match="images")
    assert [(arm.name, arm.match) for arm in plan.arms] == [
        ("imax", None),
        ("dmax-entries", ("entries", "imax")),
        ("dmax-tokens", ("tokens", "imax")),
        ("other", ("images", "imax")),
    ]
    with pytest.raises(UserError, match="imax is matched to no other"):
        studies.plan(tmp_path, recipes=[{"name": "imax", "match": "tokens"}])
    with pytest.raises(UserError, match="match tokens is named twice"):
        studies.plan(tmp_path, recipes=[{"name": "dmax", "match": ["tokens", "tokens"]}])


def test_matching_reaches_the_decentralised_mixtures_of_a_staged_recipe(tmp_path):
    stages = [
        {"name": "first", "mixture": "dmax", "epochs": 1},
        {"name": "pseudo", "annotate": {"mixture": "dmax"}},
        {"name": "clean", "mixture": "imax", "mix": ["dmax"]},
    ]
    staged = {"name": "staged", "style": "staged", "stages": stages}
    (tmp_path / "staged.yaml").write_text(yaml.safe_dump(staged))
    plan = studies.plan(tmp_path, recipes=["staged.yaml"], match=["entries", "tokens"])
    assert [(arm.name, arm.match, arm.staged) for arm in plan.arms] == [
        ("staged-entries", ("entries", "imax"), True),
        ("staged-tokens", ("tokens", "imax"), True),
    ]
    first, pseudo, clean = yaml.safe_load(Path(plan.arms[1].recipe).read_text())["stages"]
    assert load_recipe(first["mixture"]).match.by == "tokens"
    assert pseudo == {"name": "pseudo", "annotate": {"mixture": first["mixture"]}}
    assert clean == {"name": "clean", "mixture": "imax", "mix": [first["mixture"]]}
    assert load_recipe(first["mixture"]).name == "dmax-tokens"


def test_derived_recipes_of_one_name_do_not_overwrite_each_other(tmp_path):
    stages = [{"name": "first", "mixture": "dmax", "epochs": 1}]
    (tmp_path / "staged.yaml").write_text(yaml.safe_dump({"style": "staged", "stages": stages}))
    arms = [
        {"name": "dmax", "match": ["entries", "tokens"], "changes": {"seed": 5}},
        {"name": "staged.yaml", "match": ["tokens"]},
    ]
    plan = studies.plan(tmp_path, recipes=arms)
    recipes = {arm.name: arm.recipe for arm in plan.arms}
    assert load_recipe(recipes["dmax-tokens"]).seed == 5
    first = yaml.safe_load(Path(recipes["staged.yaml"]).read_text())["stages"][0]
    assert load_recipe(first["mixture"]).seed == 0
    # Another study in the same folder leaves the recipes of this one as they are.
    before = Path(recipes["dmax-entries"]).read_text()
    studies.plan(tmp_path, recipes=[{"name": "dmax-entries", "base": "dmax", "changes": {"seed": 6}}])
    assert Path(recipes["dmax-entries"]).read_text() == before


def test_the_key_of_a_changed_staged_recipe_does_not_say_where_the_study_lies(tmp_path):
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.yaml").write_text(
            yaml.safe_dump(load_recipe("dmax", {"seed": seed}).model_dump(exclude_none=True))
        )
        stages = [{"name": "first", "mixture": "own.yaml", "epochs": 1}]
        (tmp_path / name / "staged.yaml").write_text(yaml.safe_dump({"style": "staged", "stages": stages}))
        plan = studies.plan(tmp_path / name, recipes=["staged.yaml"], match="tokens")
        found.append(plan.runs[0].key)
    assert found[0] == found[1] != found[2]


@settings(max_examples=25, deadline=None)
@given(st.floats(1, 7.46), st.integers(50, 20_000))
def test_arms_of_a_density_curve_have_an_equal_number_of_entries(tmp_path_factory, value, total):
    block = {"entries_per_image": [value], "entries": total}
    plan = studies.plan(tmp_path_factory.mktemp("density"), recipes=["imax"], density=block)
    recipe = load_recipe(plan.arms[1].recipe)
    assert recipe.density.entries_per_image == value
    assert abs(recipe.images.train * value - total) <= value / 2 + 1e-6
    assert 1 <= recipe.density.tasks_per_image <= min(value, 4.1) + 1e-4


def test_other_densities_train_on_other_patients_and_are_scored_where_their_recipe_is(tmp_path):
    plan = studies.plan(tmp_path, recipes=["imax"], density=[1, 7.46])
    _, one, own = plan.arms
    assert load_recipe(one.recipe).first_patient > 10_000_000
    assert one.evaluate_on == "imax"
    assert plan.runs[1].scores == plan.runs[1].folder / "eval-imax"
    assert own.recipe == "imax"
    assert plan.of["density-7.46", "tiny"] == plan.of["imax", "tiny"]  # not trained twice
    assert len(plan.runs) == 2


def test_the_transfer_block_trains_on_one_task_and_on_all_but_one(tmp_path):
    plan = studies.plan(tmp_path, recipes=["imax"], seeds=[1, 2], transfer={"seeds": [2]})
    arms = {arm.name: arm for arm in plan.arms}
    assert len(arms) == 2 + 2 * len(TASKS)
    assert arms["only-vqa"].arguments["tasks"] == ["vqa"]
    assert sorted(arms["without-vqa"].arguments["tasks"]) == sorted(set(TASKS) - {"vqa"})
    assert plan.of["all-tasks", "tiny"] == [plan.run("imax-tiny-s2")]
    assert {run.seed for run in plan.runs if run.arm.block == "transfer"} == {2}


def keys(plan):
    return {run.name: run.key for run in plan.runs}


def test_the_key_of_a_run_changes_with_what_touches_its_weights_and_with_nothing_else(tmp_path):
    base = {"recipes": ["imax", "dmax"], "arguments": {"learning_rate": 0.003}, "dynamics": {"steps": "end"}}
    plan = studies.plan(tmp_path, **base)
    for same in (
        {"jobs": 4, "threads": 2},
        {"evaluation": {"limit": 3}},
        {"description": "x"},
        {"seeds": [1, 2]},
    ):
        again = keys(studies.plan(tmp_path, **base | same))
        assert {name: again[name] for name in keys(plan)} == keys(plan), same
    for other in (
        {"arguments": {"learning_rate": 0.001}},
        {"dynamics": {"steps": "0,end"}},
        {"launch": "--num_processes 2"},
        {
            "recipes": [
                {"name": "imax", "changes": {"images.train": 5}},
                {"name": "dmax", "changes": {"seed": 5}},
            ]
        },
    ):
        changed = keys(studies.plan(tmp_path, **base | other))
        assert all(changed[name] != key for name, key in keys(plan).items()), other
    scored = studies.plan(tmp_path, **base, evaluation={"limit": 3})
    assert scored.runs[0].evaluation != plan.runs[0].evaluation


def test_another_mixture_to_be_scored_on_trains_nothing_anew(tmp_path):
    base = {"recipes": ["imax", "dmax"], "density": [1], "dynamics": {"steps": "end"}}
    plan = studies.plan(tmp_path, **base)
    other = studies.plan(tmp_path, **base, evaluation={"mixture": "dmax"})
    assert keys(other) == keys(plan)
    assert [run.evaluation for run in other.runs] != [run.evaluation for run in plan.runs]
    assert [run.scores.name for run in other.runs] == ["eval-dmax"] * 3
    # An arm of the density curve has no validation images of its own.
    assert [run.settings.get("dynamics_mixture") for run in other.runs] == [None, None, "imax"]


def test_the_key_follows_the_content_of_recipe_files_and_of_weights_not_their_place(tmp_path):
    found = []
    for name, images, weights in (("a", 9, b"1"), ("b", 9, b"1"), ("c", 8, b"1"), ("d", 9, b"2")):
        folder = tmp_path / name
        (folder / "net").mkdir(parents=True)
        (folder / "net" / "model.safetensors").write_bytes(weights)
        recipe = load_recipe("imax", {"images.train": images}).model_dump(exclude_none=True)
        (folder / "own.yaml").write_text(yaml.safe_dump(recipe))
        plan = studies.plan(folder, recipes=["own.yaml"], models=["net"])
        assert plan.runs[0].name == "own-net-s1"
        found.append(plan.runs[0].key)
    assert found[0] == found[1]
    assert len({found[0], found[2], found[3]}) == 3


def test_the_matched_recipe_is_part_of_the_key_of_a_decentralised_one(tmp_path):
    changed = {"match": {"changes": {"images": {"train": 7}}}}
    arms = [{"name": "dmax"}, {"name": "less", "base": "dmax", "changes": changed}]
    plan = studies.plan(tmp_path, recipes=arms)
    assert plan.runs[0].key != plan.runs[1].key
    assert load_recipe(plan.arms[1].recipe).match.changes == changed["match"]["changes"]


def test_the_key_follows_what_is_mixed_in_and_the_weights_that_training_starts_from(tmp_path):
    def key(folder, **arguments):
        return studies.plan(folder, recipes=["imax"], arguments=arguments).runs[0]

    found = {}
    for name, size, weights in (("a", 8, b"1"), ("b", 8, b"1"), ("c", 9, b"1"), ("d", 8, b"2")):
        folder = tmp_path / name
        make_mixture(folder / "more", name=f"of-{size}")
        (folder / "from").mkdir()
        (folder / "from" / "adapter_config.json").write_text("{}")
        (folder / "from" / "adapter_model.safetensors").write_bytes(weights)
        found[name] = key(folder, mix=["more"], start="from")
    assert found["a"].key == found["b"].key
    assert len({found[name].key for name in "acd"}) == 3
    assert found["a"].settings["mix"] == [str(tmp_path / "a" / "more")]
    assert found["a"].settings["start"] == str(tmp_path / "a" / "from")
    assert found["a"].trained_on == ["imax", str(tmp_path / "a" / "more")]
    assert key(tmp_path).key not in {run.key for run in found.values()}
    with pytest.raises(UserError, match="unknown recipe 'mor'"):
        key(tmp_path / "a", mix=["mor"])
    with pytest.raises(UserError, match=r"--start .*nowhere: no adapter_config.json there"):
        key(tmp_path / "a", start="nowhere")


def test_the_key_follows_the_files_that_a_recipe_reads(tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    Image.new("L", (8, 8)).save(rows / "a.png")
    found = []
    for answer in ("yes", "no"):
        (rows / "rows.csv").write_text(
            f"image,patient_id,task,question,answer\na.png,p,vqa,Is it?,{answer}\n"
        )
        found.append(studies.plan(tmp_path, recipes=["rows"]).runs[0].key)
    assert found[0] != found[1]

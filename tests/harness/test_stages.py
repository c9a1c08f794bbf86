"""A recipe with stages as one job, with a stand-in for annotation."""

from __future__ import annotations

import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from data_recipes.store import read_mixture, write_mixture
from eval.plan import prepare
from harness import stage_outcome, train
from harness.config import parse
from harness.provenance import hash_weights
from harness.runs import RunFolder
from taco_probe.dynamics import measurement
from tests.harness.staged import ASKED, FLAGS, THREE, make_two, stand_in, write_recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    make_two(folder)
    return folder


@pytest.fixture(scope="module")
def model(flavour_folder):
    return str(flavour_folder("llava"))


def with_stand_in(patch, annotate=None):
    """Puts the stand-in where `harness.annotate` is imported from; returns the calls."""
    calls = []
    real = annotate or stand_in({})

    def counted(*given, **named):
        calls.append(named)
        return real(*given, **named)

    module = types.ModuleType("harness.annotate")
    module.annotate = counted
    patch.setitem(sys.modules, "harness.annotate", module)
    return calls


@pytest.fixture
def annotated(monkeypatch):
    return with_stand_in(monkeypatch)


def job(recipe, model, run, *more):
    return train.main(["--recipe", str(recipe), "--model", model, "--output_dir", str(run), *FLAGS, *more])


def weights(run: Path) -> bytes:
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def run(place, model, tmp_path_factory):
    """A whole run of three stages, measured."""
    folder = tmp_path_factory.mktemp("runs") / "three"
    recipe = write_recipe(place, THREE)
    watched = ["--dynamics_steps", "0,50%,end", "--dynamics_entries", "14", "--dynamics_fisher", "empirical"]
    with pytest.MonkeyPatch.context() as patch:
        calls = with_stand_in(patch)
        assert job(recipe, model, folder, "--seed", "5", *watched) == 0
    assert len(calls) == 1
    return RunFolder(folder)


def test_a_recipe_with_stages_ends_as_an_ordinary_run_on_its_last_clean_mixture(run, place, capfd):
    assert run.finished()
    assert weights(run.path) == weights(run.path / "stages" / "3-last")
    settings = run.settings()
    assert Path(settings["mixture"]) == place / "first"
    assert settings["mixture_hash"] == read_mixture(place / "first").meta["mixture_hash"]
    assert [stage["steps"] for stage in settings["stages"]] == [4, 3, 2]
    assert prepare(str(run.path), split="validation").folder == place / "first"
    assert parse([str(run.settings_file)]).training.seed == 5  # run.yaml serves as a config file


def test_each_stage_is_an_ordinary_run_that_starts_from_the_one_before(run):
    names = ["1-clean", "2-pseudo", "3-last"]
    parts = [RunFolder(run.path / "stages" / name) for name in names]
    assert all(part.finished() for part in parts)
    settings = [part.settings() for part in parts]
    assert [one["max_steps"] for one in settings] == [4, 3, 2]
    own = settings[0]["learning_rate"]
    assert [one["learning_rate"] for one in settings] == [own, own / 4, 1e-3]
    assert [one.get("start_hash") for one in settings] == [
        None, hash_weights(str(parts[0].adapter)), hash_weights(str(parts[1].adapter))
    ]  # fmt: skip
    assert settings[1]["batching"] == "image"
    assert Path(settings[1]["mixture"]) == parts[1].path / "mixture"
    assert settings[2]["data_seed"] != settings[0].get("data_seed")  # the same entries, another order


def test_one_schedule_through_all_stages_is_that_of_a_plain_run(place, model, annotated, tmp_path):
    stages = [
        {"name": "a", "mixture": "first", "share": 0.4},
        {"name": "b", "annotate": ASKED, "share": 0.4},
        {"name": "c", "mixture": "first", "share": 0.2},
    ]
    recipe = write_recipe(place, stages, "whole", schedule="whole")
    length = ["--max_steps", "10", "--logging_steps", "1", "--warmup_steps", "0.3", "--learning_rate", "1e-3"]
    assert job(recipe, model, tmp_path / "whole", *length) == 0
    assert job(place / "first", model, tmp_path / "plain", *length) == 0
    whole, plain = (
        [line["learning_rate"] for line in RunFolder(tmp_path / name).log()] for name in ("whole", "plain")
    )
    assert whole == pytest.approx(plain, rel=1e-9)
    assert len(set(plain)) == 10


def test_a_schedule_that_cannot_be_cut_into_parts_is_refused(place, model, tmp_path, capfd):
    recipe = write_recipe(place, THREE, "whole", schedule="whole")
    flags = ["--lr_scheduler_type", "reduce_lr_on_plateau", "--eval_strategy", "steps", "--eval_steps", "2"]
    assert job(recipe, model, tmp_path / "run", *flags) == 2
    assert "a part of a longer schedule needs one that follows from the step alone" in capfd.readouterr().err


def test_the_log_of_the_whole_counts_steps_through(run):
    lines = run.log()
    assert [(line["step"], line["stage"], line["stage_step"]) for line in lines] == [
        (2, "clean", 2), (4, "clean", 4), (6, "pseudo", 2), (7, "pseudo", 3), (9, "last", 2),
    ]  # fmt: skip
    own = RunFolder(run.path / "stages" / "2-pseudo").log()
    assert [line["loss"] for line in own] == [line["loss"] for line in lines[2:4]]


def test_provenance_has_the_facts_of_every_stage(run, place):
    found = run.provenance()
    clean, pseudo, last = found["stages"]
    assert pseudo["mixture_hash"] == read_mixture(run.path / "stages/2-pseudo/mixture").meta["mixture_hash"]
    assert pseudo["annotated_hash"] == clean["mixture_hash"] == last["mixture_hash"]
    assert pseudo["annotation"]["images"] == 6
    assert pseudo["start_hash"] == clean["adapter_hash"] != pseudo["adapter_hash"]
    assert last["adapter_hash"] == hash_weights(str(run.adapter))
    cost = sum(stage["wall_seconds"] for stage in found["stages"]) + pseudo["annotation_seconds"]
    assert found["wall_seconds"] == pytest.approx(cost, abs=0.1)
    assert found["sessions"][-1]["to_step"] == 9
    assert found["parameters"]["trainable"] > 0


def test_dynamics_are_measured_at_shares_of_the_whole_run_on_one_probe_set(run, place):
    found = measurement.series(run.path)
    assert [one.step for one in found] == [0, 4, 9]
    assert {one.facts["max_steps"] for one in found} == {9}
    assert [one.facts["stage"] for one in found] == ["clean", "clean", "last"]
    held_out = {image.image_id for image in read_mixture(place / "first").images if image.split != "train"}
    assert {entry.rsplit("/", 2)[0] for entry in found[0].facts["entries"]} <= held_out
    measurement.equal_probes(found)
    last = measurement.read_lora(run.path / "dynamics", 9)
    saved = load_file(run.adapter / "adapter_model.safetensors")
    assert all(np.array_equal(last[name], value.numpy()) for name, value in saved.items())


def test_the_first_stage_is_the_plain_run(run, place, model, tmp_path):
    flags = ["--seed", "5", "--max_steps", "4"]
    assert job(place / "first", model, tmp_path / "plain", *flags) == 0
    assert weights(tmp_path / "plain") == weights(run.path / "stages" / "1-clean")


def test_a_finished_run_says_so_and_other_settings_are_refused_by_name(run, place, model, annotated, capfd):
    flags = ["--seed", "5", "--dynamics_steps", "0,50%,end", "--dynamics_entries", "14"]
    flags += ["--dynamics_fisher", "empirical"]
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert job(place / "three.yaml", model, run.path, *flags) == 0
    assert "nothing to do" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before
    assert job(place / "three.yaml", model, run.path, *flags, "--seed", "6") == 2
    assert "seed is 5 there, 6 here" in capfd.readouterr().err
    changed = [{**THREE[0], "steps": 5}, *THREE[1:]]
    assert job(write_recipe(place, changed, "changed"), model, run.path, *flags) == 2
    assert "stages.1.steps is 4 there, 5 here" in capfd.readouterr().err
    assert not annotated


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("moment", ["annotation", "1-clean", "2-pseudo", "3-last", "adapter"])
def test_a_run_cut_anywhere_goes_on_in_the_right_stage(
    run, place, model, tmp_path, monkeypatch, moment, capfd
):
    """Cut at a moment, then the same command: the same bytes, and what was done is not done again."""
    calls = with_stand_in(monkeypatch)
    flags = ["--seed", "5"]
    trained = []

    def cut_train(settings, arguments=(), stage=""):
        name = Path(settings.training.output_dir).name
        trained.append(name)
        if name == moment and trained.count(name) == 1:
            raise Killed
        return real_train(settings, arguments, stage)

    def cut(*given, **named):
        raise Killed

    real_train = train.train
    monkeypatch.setattr(train, "train", cut_train)
    with pytest.MonkeyPatch.context() as patch:
        if moment == "annotation":
            with_stand_in(patch, cut)
        if moment == "adapter":
            patch.setattr(stage_outcome, "copy_adapter", cut)
        with pytest.raises(Killed):
            job(place / "three.yaml", model, tmp_path / "run", *flags)
    assert not RunFolder(tmp_path / "run").finished()
    first = trained.copy()
    assert job(place / "three.yaml", model, tmp_path / "run", *flags) == 0
    done_before = first if moment in ("annotation", "adapter") else first[:-1]
    assert not set(done_before) & set(trained[len(first) :])
    assert len(calls) == 1
    assert weights(tmp_path / "run") == weights(run.path)
    logs = [RunFolder(folder).log() for folder in (tmp_path / "run", run.path)]
    found, expected = ([without_rates(line) for line in log] for log in logs)
    assert found == expected


def without_rates(line):
    return {key: value for key, value in line.items() if "second" not in key}


def test_overwrite_starts_anew_with_all_stages(place, model, tmp_path, annotated):
    recipe = write_recipe(place, THREE[:2], "two")
    assert job(recipe, model, tmp_path, "--seed", "1") == 0
    before = weights(tmp_path / "stages" / "1-clean")
    assert job(recipe, model, tmp_path, "--seed", "2", "--overwrite", "true") == 0
    assert RunFolder(tmp_path).settings()["seed"] == 2
    assert weights(tmp_path / "stages" / "1-clean") != before
    assert len(annotated) == 2


def test_a_mistake_in_the_first_stage_stands_in_nobodys_way(place, model, tmp_path, annotated, capfd):
    recipe = write_recipe(place, THREE, "three")
    assert job(recipe, model, tmp_path / "run", "--lora_targets", "nothing") == 2
    assert "matches no module" in capfd.readouterr().err
    assert job(recipe, model, tmp_path / "run", "--max_steps", "3") == 0


def test_finished_stages_are_taken_from_the_cache(run, place, model, tmp_path, annotated, capfd):
    """The same first two stages with another end: neither trained nor annotated again, the same bytes."""
    cache = ["--seed", "5", "--stage_cache", str(tmp_path / "cache")]
    assert job(place / "three.yaml", model, tmp_path / "one", *cache) == 0
    assert len(annotated) == 1
    capfd.readouterr()
    two = write_recipe(place, [*THREE[:2], {**THREE[2], "steps": 3}], "other")
    assert job(two, model, tmp_path / "two", *cache) == 0
    assert capfd.readouterr().err.count("taken from") == 3  # two stages and a mixture
    assert len(annotated) == 1
    first, second = (RunFolder(tmp_path / name) for name in ("one", "two"))
    taken = [bool(stage["from_cache"]) for stage in second.provenance()["stages"]]
    assert taken == [True, True, False]
    for name in ("1-clean", "2-pseudo"):
        one, other = (RunFolder(whole.path / "stages" / name) for whole in (first, second))
        assert weights(one.path) == weights(other.path)
        assert one.log() == other.log()
    mixture = second.path / "stages" / "2-pseudo" / "mixture"
    assert RunFolder(mixture.parent).settings()["mixture"] == str(mixture)
    assert weights(first.path) == weights(run.path)
    costs = [one.provenance()["stages"][1]["annotation_seconds"] for one in (first, second)]
    assert costs[0] == costs[1]
    # Another seed, or another learning rate, is another stage.
    capfd.readouterr()
    assert job(two, model, tmp_path / "three", *cache[2:], "--seed", "6") == 0
    assert job(two, model, tmp_path / "four", *cache, "--learning_rate", "2e-4") == 0
    assert "taken from" not in capfd.readouterr().err


def test_an_annotation_is_shared_by_stages_that_train_on_it_otherwise(place, model, tmp_path, annotated):
    cache = ["--stage_cache", str(tmp_path / "cache")]
    mixed = write_recipe(place, [THREE[0], {**THREE[1], "mix": ["second"]}], "mixed")
    assert job(write_recipe(place, THREE[:2], "two"), model, tmp_path / "one", *cache) == 0
    assert job(mixed, model, tmp_path / "two", *cache) == 0
    assert len(annotated) == 1
    stage = RunFolder(tmp_path / "two").provenance()["stages"][1]
    assert (stage["from_cache"], stage["mix"][0]["entries"]) == (None, 18)


def test_a_planted_leak_is_refused_before_anything_is_trained(place, model, tmp_path, annotated, capfd):
    """A mixture whose training split has the patients that `first` holds out, as a later stage."""
    whole = read_mixture(place / "first")
    shutil.copytree(place / "first", place / "leaking")
    images = tuple(replace(image, image_id=f"x{image.image_id}", split="train") for image in whole.images)
    entries = tuple(
        replace(entry, entry_id=f"x{entry.entry_id}", image_id=f"x{entry.image_id}")
        for entry in whole.entries
    )
    meta = {**whole.meta, "mixture_hash": "leaking"}
    write_mixture(replace(whole, images=images, entries=entries, meta=meta), place / "leaking")
    recipe = write_recipe(place, [THREE[0], {"name": "b", "mixture": "leaking"}], "leak")
    assert job(recipe, model, tmp_path / "run") == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "leakage: 2 patients of the validation or test split of" in line
    assert str(place / "first") in line
    assert str(place / "leaking") in line
    assert not (tmp_path / "run").exists()


def test_a_leak_in_what_annotation_made_is_refused_before_the_stage_trains(
    place, model, tmp_path, monkeypatch, capfd
):
    def leaking(annotation, *, out, **named):
        shutil.copytree(place / "first", out)
        whole = read_mixture(out)
        images = tuple(replace(image, split="train") for image in whole.images)
        write_mixture(replace(whole, images=images), out)
        return out

    with_stand_in(monkeypatch, leaking)
    assert job(write_recipe(place, THREE), model, tmp_path / "run") == 2
    assert "are in the training split of the mixture of stage pseudo" in capfd.readouterr().err
    assert not (tmp_path / "run" / "stages" / "2-pseudo" / "run.yaml").exists()

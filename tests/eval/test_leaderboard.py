"""From run folders to the board, without a model; and `imax eval` on predictions from elsewhere."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import yaml
from transformers import TrainingArguments

from data_recipes.errors import UserError
from data_recipes.tasks import TASKS
from eval import leaderboard, pairs
from eval.board import sections
from eval.compare import compare, gains
from eval.plan import prepare
from eval.seeds import DEFAULT_SEED
from tests.eval.factories import make_mixture
from tests.eval.run_folders import change_scores, make_run, score_run


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """IMAX and DMAX: other training data, one test set."""
    root = tmp_path_factory.mktemp("scored")
    first = make_mixture(root / "m1", name="imax")
    second = make_mixture(root / "m2", name="dmax", train_seed=7)
    imax = make_run(root / "runs" / "imax", first, recipe="imax", share=0.9)
    dmax = make_run(root / "runs" / "dmax", second, recipe="dmax", share=0.2)
    for folder in (imax, dmax):
        score_run(folder)
    return root / "runs"


@pytest.fixture
def runs(scored, tmp_path):
    """The same, free to be changed."""
    shutil.copytree(scored, tmp_path / "runs")
    return tmp_path / "runs" / "imax", tmp_path / "runs" / "dmax"


@pytest.fixture(scope="module")
def board(scored):
    """The folder of a leaderboard of both, `dmax` given first."""
    leaderboard.build([scored / "dmax", scored / "imax"], scored.parent / "board")
    return scored.parent / "board"


def test_scores_file_has_its_shape(runs):
    scores = json.loads((runs[0] / "scores.json").read_text())
    assert list(scores["tasks"]) == list(TASKS)
    for task in scores["tasks"].values():
        assert next(iter(task["metrics"])) == task["headline"]
        for metric in task["metrics"].values():
            assert {"value", "ci_low", "ci_high", "n"} <= metric.keys()
    for task in TASKS:
        baseline = scores["baselines"][task]
        assert baseline["value"] == max(baseline["values"].values()) == baseline["values"][baseline["best"]]
    assert scores["multi_task_average"]["n"] == 7
    assert scores["mixture_hash"] == "hash-imax"
    assert scores["model"] == "tiny"
    other = json.loads((runs[1] / "scores.json").read_text())
    assert scores["test_hash"] == other["test_hash"]
    assert scores["mixture_hash"] != other["mixture_hash"]
    rows = [json.loads(line) for line in (runs[0] / "predictions.jsonl").read_text().splitlines()]
    assert list(rows[0]) == ["entry_id", "image_id", "patient_id", "task", "output", "parsed", "target"]


def test_leaderboard_ranks_compares_and_says_how_it_came_out(runs):
    (section,) = sections([runs[1], runs[0]])
    assert [run.name for run in section.standings] == ["imax", "dmax"]
    assert section.reference == "dmax"
    (comparison,) = section.comparisons["dmax"]
    assert (comparison.first, comparison.second) == ("imax", "dmax")
    assert comparison.lines[-1].value == pytest.approx(
        section.standings[0].average.value - section.standings[1].average.value, abs=1e-4
    )
    assert section.verdicts[0].startswith("Multi-task average: imax − dmax = +")
    assert section.verdicts[0].endswith("IMAX beat DMAX.")
    assert len(section.verdicts) == 2 + len(TASKS)


def test_verdict_is_honest_the_other_way(runs, tmp_path):
    for folder, recipe in zip(runs, ("dmax", "imax"), strict=True):
        change_scores(folder, recipe=recipe)
    (section,) = sections(runs)
    assert section.verdicts[0].endswith("DMAX beat IMAX.")
    same = shutil.copytree(runs[0], tmp_path / "runs" / "same")
    change_scores(same, recipe="imax")
    (section,) = sections([runs[0], same])
    assert "no difference shown" in section.verdicts[0]
    change_scores(runs[1], recipe="imax")
    (section,) = sections([*runs, same])
    assert not section.verdicts  # two of imax: neither is the answer


def test_the_same_files_give_the_same_page(scored, board, tmp_path):
    leaderboard.build([scored / "dmax", scored / "imax"], tmp_path)
    assert (tmp_path / "index.html").read_bytes() == (board / "index.html").read_bytes()


def test_other_test_sets_are_ranked_apart_with_the_reason(runs, tmp_path):
    """One of the sections has lost its mixture too: its table stays."""
    other = make_run(
        tmp_path / "runs" / "other", make_mixture(tmp_path / "m3", seed=9), recipe="imax", share=0.5
    )
    score_run(other)
    for folder in runs:
        change_scores(folder, mixture=str(tmp_path / "gone"))
    found = leaderboard.build([other, *runs], tmp_path / "board")
    assert [len(section.standings) for section in found] == [1, 2]
    assert all("ranked apart" in section.apart for section in found)
    assert not found[0].notes
    assert not found[1].comparisons
    assert not found[1].verdicts
    assert "not at hand" in found[1].notes[0]
    text = (tmp_path / "board" / "index.html").read_text()
    assert "ranked apart" in text
    assert "not at hand" in text


def test_any_run_can_be_the_reference_and_a_wrong_name_is_told(runs):
    for given in ("imax", str(runs[0])):
        (section,) = sections([runs[1], runs[0]], reference=given)
        assert section.reference == "imax"
        (pair,) = section.comparisons["imax"]
        assert pair.first == "dmax"
    with pytest.raises(UserError, match="unknown reference 'imxa': did you mean 'imax'"):
        sections([*runs], reference="imxa")


def test_all_pairs_are_compared_of_few_runs_and_one_reference_of_many(runs, monkeypatch):
    (section,) = sections([*runs])
    (there,), (back,) = section.comparisons["imax"], section.comparisons["dmax"]
    for one, other in zip(there.lines, back.lines, strict=True):
        assert (one.task, one.p, one.p_holm) == (other.task, other.p, other.p_holm)
        assert (one.value, one.ci_low, one.ci_high) == (-other.value, -other.ci_high, -other.ci_low)
    # The second direction is mirrored, not computed: it must be what computing gives.
    found = {run.name: run.recomputed for run in section.standings}
    for line, expected in zip(back.lines, compare(found["imax"], found["dmax"]), strict=True):
        assert asdict(line) == pytest.approx(asdict(expected))
    assert str(back.gains) == str(gains(found["imax"], found["dmax"]))  # NaN is not equal to itself
    monkeypatch.setattr(pairs, "FEW", 1)
    (section,) = sections([*runs], reference="dmax")
    assert list(section.comparisons) == ["dmax"]


def test_a_run_without_predictions_stays_in_the_ranking(runs):
    (runs[0] / "predictions.jsonl").unlink()
    (section,) = sections([*runs])
    assert [run.name for run in section.standings] == ["imax", "dmax"]
    assert not section.comparisons
    assert section.summary.startswith("imax has the highest average")


def test_predictions_that_do_not_give_the_scores_are_told_and_not_compared(runs):
    text = (runs[1] / "predictions.jsonl").read_text()
    (runs[0] / "predictions.jsonl").write_text(text)
    (section,) = sections([*runs])
    assert "imax: its predictions.jsonl no longer gives its scores" in section.notes[0]
    assert not section.comparisons


def test_scores_that_name_no_test_set_are_refused(runs):
    change_scores(runs[0], test_hash=None, mixture_hash=None)
    with pytest.raises(UserError, match="names no test set"):
        sections([*runs])


@pytest.fixture
def seeds(scored, tmp_path):
    """Three seeds of one experiment, a rerun of one of them, and another experiment."""
    found = []
    for name, seed, rate in (
        ("a", 1, 0.1),
        ("b", 2, 0.1),
        ("c", 3, 0.1),
        ("again", 3, 0.1),
        ("other", 4, 0.2),
    ):
        settings = {"seed": seed, "learning_rate": rate}
        mixture = scored.parent / "m1"
        folder = make_run(tmp_path / "seeds" / name, mixture, recipe="imax", share=0.5, luck=seed, **settings)
        score_run(folder)
        found.append(folder)
    return found


def test_seeds_of_one_experiment_are_one_line_and_runs_stay(seeds):
    (section,) = sections(seeds)
    assert len(section.standings) == 5
    (group,) = section.seed_groups
    assert group.names == ["a", "b", "c"]
    assert group.seeds == [1, 2, 3]
    assert group.left_out == ["again"]
    values = [json.loads((f / "scores.json").read_text())["multi_task_average"]["value"] for f in seeds[:3]]
    assert group.average.mean == pytest.approx(np.mean(values))
    assert group.average.sd == pytest.approx(np.std(values, ddof=1))
    assert (group.average.low, group.average.high) == (min(values), max(values))
    assert group.average.ci_low < group.average.low
    assert group.tasks.keys() == set(TASKS)


def test_groups_of_seeds_are_compared_with_the_first(seeds, scored, tmp_path):
    for name, seed in (("better", 5), ("best", 6)):
        settings = {"seed": seed, "learning_rate": 0.3}
        mixture = scored.parent / "m1"
        folder = make_run(
            tmp_path / "seeds" / name, mixture, recipe="dmax", share=0.95, luck=seed, **settings
        )
        score_run(folder)
        seeds.append(folder)
    (section,) = sections(seeds)
    (pair,) = section.seed_differences
    first, second = section.seed_groups[1], section.seed_groups[0]
    assert (pair.first, pair.second) == (first.name, second.name)
    assert [line.task for line in pair.lines[:-1]] == list(TASKS)
    assert pair.lines[-1].value == pytest.approx(first.average.mean - second.average.mean)
    assert pair.lines[0].p_holm >= pair.lines[0].p
    leaderboard.build(seeds, tmp_path / "board")
    for file in ("index.html", "leaderboard.md", "leaderboard.json"):
        assert "dmax, tiny (better and 1 more)" in (tmp_path / "board" / file).read_text()


def test_a_run_yaml_without_seed_was_trained_with_the_default_of_the_trainer(seeds):
    assert TrainingArguments(output_dir="x").seed == DEFAULT_SEED
    settings = yaml.safe_load((seeds[0] / "run.yaml").read_text())
    del settings["seed"]
    (seeds[0] / "run.yaml").write_text(yaml.safe_dump(settings))
    (section,) = sections(seeds[:2])
    assert section.seed_groups[0].seeds == [DEFAULT_SEED, 2]


def test_models_as_they_came_are_no_replicates(seeds):
    for folder in seeds:
        change_scores(folder, adapter=False)
    (section,) = sections(seeds)
    assert not section.seed_groups


def test_results_of_something_else_do_not_overwrite_the_runs_own(runs, tmp_path):
    imax = runs[0]
    before = (imax / "scores.json").read_bytes()
    out, scores, _ = score_run(imax, limit=3)
    assert out != imax
    assert scores["entries"] == 24
    out, scores, _ = score_run(imax, mixture=str(make_mixture(tmp_path / "m4", name="elsewhere", seed=4)))
    assert out.parent == imax
    assert "elsewhere" in out.name
    assert scores["mixture_name"] == "elsewhere"
    assert (imax / "scores.json").read_bytes() == before
    assert len(sections([imax, out])) == 2


def test_mistakes_of_users(runs, tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        prepare("nowhere")
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        prepare("tinny", mixture="imax")
    with pytest.raises(UserError, match="unknown notation"):
        prepare(str(runs[0]), notation="latex")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no run\.yaml"):
        prepare(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="unknown split"):
        prepare(str(runs[0]), split="tset")
    with pytest.raises(UserError, match=r"no scores\.json"):
        leaderboard.build([tmp_path / "empty"], tmp_path / "board")
    with pytest.raises(UserError, match="given twice"):
        leaderboard.build([runs[0], runs[0]], tmp_path / "board")
    (runs[0] / "scores.json").write_text('{"tasks": {"vqa": 1}}')
    with pytest.raises(UserError, match="score the run again"):
        leaderboard.build([runs[0]], tmp_path / "board")
    for text, what in (("a: [", "no YAML"), ("recipe: x", "is missing"), ("- 1", "key: value")):
        (runs[1] / "run.yaml").write_text(text)
        with pytest.raises(UserError, match=what):
            prepare(str(runs[1]))

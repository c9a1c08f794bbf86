"""From run folders to the page, without a model; and `imax eval` on predictions from elsewhere."""

import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from data_recipes.errors import UserError
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS
from eval import evaluation, leaderboard
from eval.board import sections
from eval.predictions import CanonicalBoxes, prediction
from tests.eval.factories import make_mixture

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> javascript:alert(1) | `x` $a_1$"


def make_run(folder, mixture, *, recipe, share, hostile=False):
    """A run folder with a predictions file in which a share of the answers is right."""
    folder.mkdir(parents=True)
    content = read_mixture(mixture)
    settings = {
        "recipe": recipe,
        "model": "tiny",
        "mixture": str(mixture),
        "mixture_hash": content.meta["mixture_hash"],
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    (folder / "train.jsonl").write_text(
        '{"step": 1, "loss": 2.0, "loss_vqa": 1.0}\n{"step": 2, "loss": 1.0}\n{"ste'
    )
    rng = np.random.default_rng(0)
    wrong = HOSTILE if hostile else "?"
    with (folder / "made.jsonl").open("w") as file:
        for image, entry in content.of_split("test"):
            target = prediction(entry, image, "", CanonicalBoxes())["target"]
            output = target if rng.random() < share else wrong
            file.write(json.dumps({"entry_id": entry.entry_id, "output": output}) + "\n")
    return folder


def score_run(folder, **kwargs):
    file = folder / "made.jsonl"
    options = {
        key: kwargs.pop(key) for key in ("mixture", "output_dir", "split", "limit", "base") if key in kwargs
    }
    plan = evaluation.prepare(str(folder), predictions=file, notation="canonical", progress=False, **options)
    content, problems = evaluation.evaluate(plan, predictions=file, resamples=200, **kwargs)
    return plan.out, content, problems


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """IMAX and DMAX: other training data, one test set."""
    root = tmp_path_factory.mktemp("scored")
    first = make_mixture(root / "m1", name="imax")
    second = make_mixture(root / "m2", name="dmax", train_seed=7)
    imax = make_run(root / "runs" / "imax", first, recipe="imax", share=0.9, hostile=True)
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


def change_scores(folder, **values):
    scores = json.loads((folder / "scores.json").read_text())
    (folder / "scores.json").write_text(json.dumps(scores | values))


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
    (comparison,) = section.comparisons
    assert (comparison.first, comparison.second) == ("imax", "dmax")
    assert comparison.lines[-1].value == pytest.approx(
        section.standings[0].average.value - section.standings[1].average.value, abs=1e-4
    )
    assert section.verdicts[0].startswith("Multi-task average: imax − dmax = +")
    assert section.verdicts[0].endswith("IMAX beat DMAX.")
    assert len(section.verdicts) == 1 + len(TASKS)


def test_markdown_and_json(board):
    written = json.loads((board / "leaderboard.json").read_text())
    assert [run["name"] for run in written["sections"][0]["runs"]] == ["imax", "dmax"]
    text = (board / "leaderboard.md").read_text()
    assert text.index("| imax |") < text.index("| dmax |")
    assert "IMAX beat DMAX" in text


def test_verdict_is_honest_the_other_way(runs, tmp_path):
    for folder, recipe in zip(runs, ("dmax", "imax"), strict=True):
        change_scores(folder, recipe=recipe)
    (section,) = sections(runs)
    assert section.verdicts[0].endswith("DMAX beat IMAX.")
    same = shutil.copytree(runs[0], tmp_path / "runs" / "same")
    change_scores(same, recipe="imax")
    (section,) = sections([runs[0], same])
    assert "no difference shown" in section.verdicts[0]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_self_contained_and_nothing_hostile_becomes_markup(board):
    text = (board / "index.html").read_text()
    page = Page(text)
    assert not {"script", "iframe", "link", "object", "a", "form"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href"):
            assert attrs.get(name, "data:image/").startswith("data:image/")
    assert "<script>alert(1)</script>" in "".join(page.text)  # shown, as text
    assert sum(tag == "image" for tag, _ in page.tags) >= 2 * len(TASKS)
    assert sum(tag == "img" for tag, _ in page.tags) == 3  # scores, differences, losses
    colours = {attrs["stroke"] for tag, attrs in page.tags if tag == "rect"}
    assert {"#22c55e", "#38bdf8", "#ea580c"} <= colours  # true, asked about, predicted
    assert len(text) < 2_000_000


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
        evaluation.prepare("nowhere")
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        evaluation.prepare("tinny", mixture="imax")
    with pytest.raises(UserError, match="unknown notation"):
        evaluation.prepare(str(runs[0]), notation="latex")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no run\.yaml"):
        evaluation.prepare(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="unknown split"):
        evaluation.prepare(str(runs[0]), split="tset")
    with pytest.raises(UserError, match=r"no scores\.json"):
        leaderboard.build([tmp_path / "empty"], tmp_path / "board")
    with pytest.raises(UserError, match="given twice"):
        leaderboard.build([runs[0], runs[0]], tmp_path / "board")
    (runs[0] / "scores.json").write_text('{"tasks": {"vqa": 1}}')
    with pytest.raises(UserError, match="score the run again"):
        leaderboard.build([runs[0]], tmp_path / "board")
    for text, what in (("a: [", "not a YAML"), ("recipe: x", "is missing"), ("- 1", "not a YAML")):
        (runs[1] / "run.yaml").write_text(text)
        with pytest.raises(UserError, match=what):
            evaluation.prepare(str(runs[1]))

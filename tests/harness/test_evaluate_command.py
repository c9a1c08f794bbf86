"""`imax eval` where it scores nothing: exports and merges, and what does not go together."""

import json

import pytest

from data_recipes.store import read_mixture
from harness import cli
from tests.eval.factories import make_mixture


def imax(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(["eval", *arguments])
    streams = capsys.readouterr()
    return caught.value.code, streams.out, streams.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to score: a run folder, or a model with --mixture NAME"),
        (["--format", "lmms-eval"], "--format needs --mixture"),
        (
            ["--format", "lmmseval", "--mixture", "imax"],
            "unknown format 'lmmseval': did you mean 'lmms-eval'?",
        ),
        (["runs/x", "--format", "lmms-eval", "--mixture", "imax"], "--format does not go with RUN"),
        (
            ["--format", "lmms-eval", "--mixture", "imax", "--base", "--predictions", "p.jsonl"],
            "--format does not go with --predictions, --base",
        ),
        (["--merge", "radeval.json"], "--merge needs RUN"),
        (["runs/x", "--merge", "radeval.json", "--mixture", "imax"], "--merge does not go with --mixture"),
        (["runs/x", "--merge", "radeval.json"], "runs/x: no scores.json to merge into: score it first"),
    ],
)
def test_a_wrong_combination_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, said = imax(capsys, *arguments)
    assert code == 2
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("name", "file"), [("lmms-eval", "utils.py"), ("vlmevalkit", "fake_bench.tsv")])
def test_an_export_goes_where_it_is_told_and_says_what_it_holds(capsys, tmp_path, name, file):
    mixture = make_mixture(tmp_path / "mixture")
    out = tmp_path / "out"
    code, said, _ = imax(capsys, "--format", name, "--mixture", str(mixture), "--output_dir", str(out))
    assert code == 0
    assert "fake_bench: 96 entries about 12 images, licence other" in said
    assert (out / file).is_file()


def test_canonical_predictions_of_a_model_that_is_not_ours_are_scored_under_its_name(capsys, tmp_path):
    mixture = make_mixture(tmp_path / "mixture")
    entries = [entry for _, entry in read_mixture(mixture).of_split("test")]
    lines = [json.dumps({"entry_id": e.entry_id, "output": e.target}) for e in entries if not e.target_boxes]
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("\n".join(lines))
    out = tmp_path / "out"
    arguments = ["their-model", "--mixture", str(mixture), "--predictions", str(predictions)]
    code, _, said = imax(capsys, *arguments, "--notation", "canonical", "--output_dir", str(out))
    assert (code, said) == (0, "")
    scores = json.loads((out / "scores.json").read_text())
    assert scores["model"] == "their-model"
    values = {
        task: scored["metrics"][scored["headline"]]["value"] for task, scored in scores["tasks"].items()
    }
    assert values == dict.fromkeys(values, 100.0) | {"rec": 0.0}  # rec has boxes, so nothing was predicted
    code, _, said = imax(capsys, *arguments, "--output_dir", str(out))
    assert code == 2  # in the model's own notation it must be a model that we know
    assert "their-model" in said


def test_merging_prints_what_came_in_and_what_could_not_be_computed(capsys, tmp_path):
    task = {"headline": "rouge_l", "metrics": {"rouge_l": {"value": 50.0}}, "n": 2, "not_computed": {}}
    interval = {"resamples": 100, "seed": 0}
    (tmp_path / "scores.json").write_text(json.dumps({"tasks": {"report": task}, "interval": interval}))
    rows = [{"entry_id": name, "patient_id": name, "task": "report"} for name in "ab"]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outside = {
        "schema": 1,
        "source": "Tool 1",
        "task": "report",
        "metrics": {"fine": {"values": {"a": 30.0, "b": 50.0}}},
        "not_computed": {"green": "no weights"},
    }
    (tmp_path / "outside.json").write_text(json.dumps(outside))
    code, said, _ = imax(capsys, str(tmp_path), "--merge", str(tmp_path / "outside.json"))
    assert code == 0
    assert "report fine: 40.0 [30.0, 50.0], 2 entries\n" in said
    assert "report green: not computed: no weights\n" in said

"""The script that runs in RadEval's environment, with a stand-in for RadEval."""

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from eval import radeval_run

SCRIPT = Path(radeval_run.__file__)
# A package with RadEval's interface: one metric works, one lacks weights, one gives NaN, one gives too few.
STAND_IN = """
class RadEval:
    def __init__(self, metrics, per_sample, show_progress):
        (self.name,) = metrics
        assert per_sample
        if self.name == "green":
            raise OSError("no weights here:\\n try again")
        keys = {"rouge": ["rouge1", "rougeL"], "radcliq": ["radcliq_v1"]}
        self.metric_keys = keys.get(self.name, [self.name])

    def __call__(self, refs, hyps):
        if self.name == "bertscore":
            return {"bertscore": [float("nan")] * len(refs)}
        if self.name == "ratescore":
            return {"ratescore": [1.0]}
        if self.name == "radgraph":
            import RadEval.inner
        return {key: [0.25 * len(hyp) for hyp in hyps] for key in self.metric_keys}
"""


@pytest.fixture
def run(tmp_path):
    package = tmp_path / "stand_in" / "radeval"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "inner.py").write_text("")
    rows = [
        {"entry_id": "a", "task": "report", "output": "x", "parsed": "xx", "target": "t"},
        {"entry_id": "b", "task": "report", "output": "", "parsed": None, "target": "t"},
        {"entry_id": "c", "task": "vqa", "output": "yes", "parsed": "yes", "target": "yes"},
        {"entry_id": "d", "task": "report", "output": "y", "target": "t\u2028t"},
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "predictions.jsonl").write_text(text)

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, str(SCRIPT), "predictions.jsonl", *arguments],
            cwd=tmp_path, env={"PYTHONPATH": str(package.parent)}, capture_output=True, text=True,
        )  # fmt: skip
        out = tmp_path / "radeval.json"
        return done, json.loads(out.read_text()) if out.exists() else None

    call.folder = tmp_path
    return call


def test_the_script_needs_nothing_of_this_project():
    names = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names <= sys.stdlib_module_names


def test_report_lines_are_scored_in_percent_and_named_by_entry(run):
    done, content = run("--metrics", "rouge", "radcliq")
    assert done.returncode == 0, done.stderr
    assert content["metrics"]["rougeL"]["values"] == {"a": 50.0, "b": 0.0, "d": 25.0}
    distance = content["metrics"]["radcliq_v1"]
    assert distance["values"] == {"a": 0.5, "b": 0.0, "d": 0.25}
    assert distance["higher_is_better"] is False
    assert content["task"] == "report"
    assert content["source"].startswith("RadEval ")
    digest = hashlib.sha256((run.folder / "predictions.jsonl").read_bytes()).hexdigest()
    assert content["predictions_sha256"] == digest


def test_what_fails_has_its_reason_and_the_rest_goes_on(run):
    done, content = run("--metrics", "green", "bertscore", "ratescore", "rouge")
    assert done.returncode == 0
    assert set(content["metrics"]) == {"rouge1", "rougeL"}
    assert content["not_computed"]["green"] == "OSError: no weights here: try again"
    assert set(content["not_computed"]) == {"green", "bertscore", "ratescore"}
    assert "1 values for 3 reports" in content["not_computed"]["ratescore"]


def test_parts_that_import_radeval_by_its_former_name_load(run):
    _, content = run("--metrics", "radgraph")
    assert content["not_computed"] == {}


def test_without_radeval_every_value_is_listed_as_not_computed(run):
    (run.folder / "stand_in" / "radeval" / "__init__.py").unlink()
    (run.folder / "stand_in" / "radeval" / "inner.py").unlink()
    (run.folder / "stand_in" / "radeval").rmdir()
    _, content = run()
    assert content["metrics"] == {}
    assert set(content["not_computed"]) == {
        key for name in radeval_run.DEFAULT for key in radeval_run.METRICS[name]
    }
    assert "No module named 'radeval'" in content["not_computed"]["radgraph_simple"]


def test_a_file_without_reports_is_told(run):
    (run.folder / "predictions.jsonl").write_text('{"entry_id": "c", "task": "vqa", "output": "yes"}\n')
    done, content = run()
    assert (done.returncode, content) == (2, None)
    assert "no line of task report" in done.stderr


def test_chexbert_sums_give_the_micro_f1_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = {name: rng.integers(0, 2, (40, 14)) for name in ("refs", "hyps")}
    top5 = [1, 4, 5, 7, 9]
    found = radeval_run.chexbert(lambda texts: labels[texts[0]].tolist(), top5, ["refs"], ["hyps"])
    for name, columns in (("f1chexbert_all_micro_f1", list(range(14))), ("f1chexbert_5_micro_f1", top5)):
        expected = f1_score(labels["refs"][:, columns], labels["hyps"][:, columns], average="micro")
        numerator, denominator = np.sum(found[name], axis=0)
        assert numerator / denominator == pytest.approx(100 * expected)

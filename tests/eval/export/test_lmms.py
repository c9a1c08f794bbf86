"""The export for lmms-eval: with a stand-in for its loop, and (slow) with lmms-eval itself."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from data_recipes.errors import UserError
from eval.export import export
from eval.export.logged import outputs as logged_outputs
from eval.predictions import CanonicalBoxes, answers_from_outputs
from eval.scores import score

ROOT = Path(__file__).resolve().parents[3]


def load(path):
    """A task file with its functions resolved the way lmms-eval does: the module beside it, loaded anew."""

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, node):
        module, name = loader.construct_scalar(node).split(".")
        spec = importlib.util.spec_from_file_location(module, path.parent / f"{module}.py")
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
        return getattr(found, name)

    Loader.add_constructor("!function", function)
    return yaml.load(path.read_text(), Loader)  # a SafeLoader with one more tag


def run(folder, outputs):
    """{task: {metric: value}} as lmms-eval aggregates: items of a metric in a list, one call each."""
    results = {}
    for name in load(folder / "fake_bench.yaml")["task"]:
        task = load(folder / f"{name}.yaml")
        docs = pq.read_table(folder / task["dataset_kwargs"]["data_files"]["test"]).to_pylist()
        items = [task["process_results"](doc, [outputs[doc["entry_id"]].strip()]) for doc in docs]
        results[name.removeprefix("fake_bench_")] = {
            metric["metric"]: metric["aggregation"]([item[metric["metric"]] for item in items])
            for metric in task["metric_list"]
        }
    return results


@pytest.fixture
def folder(mixture_dir, tmp_path):
    return export("lmms-eval", str(mixture_dir), tmp_path / "out")[1]


def ours(pairs, outputs):
    return score(answers_from_outputs(pairs, outputs, CanonicalBoxes()), resamples=100)


def test_every_metric_of_every_task_is_our_own_value(folder, pairs, outputs):
    expected, found = ours(pairs, outputs), run(folder, outputs)
    for task, scored in expected.tasks.items():
        values = {name: estimate.value for name, estimate in scored.estimates.items()}
        assert found[task] == pytest.approx({"headline": values[scored.headline], **values})
        assert 0 < values[scored.headline] < 100  # the outputs tell right from wrong
    headlines = [values["headline"] for values in found.values()]
    assert sum(headlines) / len(headlines) == pytest.approx(expected.average.value)


def test_a_task_file_points_at_its_data_and_the_group_averages_headlines_unweighted(folder):
    group = load(folder / "fake_bench.yaml")
    assert len(group["task"]) == 7
    (metric,) = group["aggregate_metric_list"]
    assert metric == {"metric": "headline", "aggregation": "mean", "weight_by_size": False}
    assert group["metadata"]["mixture_hash"] == "hash-fake"
    for name in group["task"]:
        task = load(folder / f"{name}.yaml")
        assert (folder / task["dataset_kwargs"]["data_files"]["test"]).is_file()
        assert not Path(task["dataset_kwargs"]["data_files"]["test"]).is_absolute()  # the folder can be moved
        assert task["generation_kwargs"]["until"] != ["\n\n"]


def test_prompt_and_image_of_a_document(folder):
    task = load(folder / "fake_bench_rec.yaml")
    doc = pq.read_table(folder / "data" / "rec.parquet").to_pylist()[0]
    kwargs = task["lmms_eval_specific_kwargs"]["default"]
    asked = task["doc_to_text"](doc, lmms_eval_specific_kwargs=kwargs)
    assert asked.startswith(doc["prompt"])
    assert "[x1, y1, x2, y2]" in asked
    assert task["doc_to_text"](doc) == doc["prompt"]
    (image,) = task["doc_to_visual"](doc)
    assert (image.mode, image.size) == ("RGB", (doc["width"], doc["height"]))


def test_part_of_a_task_is_scored_as_that_part_and_what_it_lacks_is_not_a_number(folder, pairs, outputs):
    task = load(folder / "fake_bench_vqa.yaml")
    docs = pq.read_table(folder / "data" / "vqa.parquet").to_pylist()
    counts = [doc for doc in docs if doc["provenance"].endswith("count")]
    items = [task["process_results"](doc, [outputs[doc["entry_id"]]]) for doc in counts]
    aggregate = task["metric_list"][0]["aggregation"]
    some = [pair for pair in pairs if pair[1].entry_id in {doc["entry_id"] for doc in counts}]
    expected = ours(some, outputs).tasks["vqa"].estimates
    assert aggregate([item["accuracy"] for item in items]) == pytest.approx(expected["accuracy"].value)
    assert aggregate([item["accuracy_presence"] for item in items]) == "N/A"


def write_samples(folder, rows, date="20260101_000000"):
    folder.mkdir(exist_ok=True)
    lines = [
        json.dumps({"doc_id": i, "headline": {"metric": "headline", **row}}) for i, row in enumerate(rows)
    ]
    (folder / f"{date}_samples_fake_bench_vqa.jsonl").write_text("\n".join(lines) + "\n")


def test_logged_samples_become_predictions(tmp_path):
    rows = [{"entry_id": "a", "output": "yes\u2028"}, {"entry_id": "b", "output": ""}]
    write_samples(tmp_path / "logs", rows)
    assert list(logged_outputs(tmp_path / "logs")) == rows


def test_samples_of_two_runs_of_other_tasks_or_of_none_are_refused(tmp_path):
    with pytest.raises(UserError, match="--log_samples"):
        list(logged_outputs(tmp_path))
    write_samples(tmp_path / "two", [{"entry_id": "a", "output": "yes"}])
    write_samples(tmp_path / "two", [{"entry_id": "a", "output": "no"}], date="20260102_000000")
    with pytest.raises(UserError, match="several runs"):
        list(logged_outputs(tmp_path / "two"))
    write_samples(tmp_path / "other", [{"output": "yes"}])
    with pytest.raises(UserError, match="not a sample of an exported task"):
        list(logged_outputs(tmp_path / "other"))


def lmms_eval(tmp_path, folder, *model):
    """Runs lmms-eval itself, offline; returns its results by task and the folder of its logs."""
    pytest.importorskip("lmms_eval", reason="lmms-eval is not installed")
    logs = tmp_path / "logs"
    command = [sys.executable, "-m", "lmms_eval", "--model", *model, "--batch_size", "1"]
    command += ["--include_path", str(folder), "--tasks", "fake_bench"]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [*command, "--log_samples", "--output_path", str(logs)],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    files = list(logs.rglob("*_results.json"))
    assert files, done.stderr[-3000:]
    results = json.loads(files[0].read_text())["results"]
    return {
        name.removeprefix("fake_bench").strip("_"): {
            key.removesuffix(",none"): value for key, value in found.items() if key.endswith(",none")
        }
        for name, found in results.items()
    }, logs


def assert_equal(found, scores):
    for task, scored in scores.tasks.items():
        for name, estimate in scored.estimates.items():
            assert found[task][name] == pytest.approx(estimate.value), (task, name)
    assert found[""]["headline"] == pytest.approx(scores.average.value)


@pytest.mark.slow
def test_lmms_eval_itself_prints_our_scores_for_given_outputs(folder, pairs, outputs, tmp_path):
    (tmp_path / "given").mkdir()
    for path in (folder / "data").glob("*.parquet"):
        ids = pq.read_table(path, columns=["entry_id"]).column(0).to_pylist()
        log = {
            "args": {"model": "", "model_args": "", "limit": None},
            "model_configs": {"task": f"fake_bench_{path.stem}"},
            "logs": [{"doc_id": i, "resps": [[outputs[entry_id]]]} for i, entry_id in enumerate(ids)],
        }
        (tmp_path / "given" / f"{path.stem}.json").write_text(json.dumps(log))
    found, logs = lmms_eval(tmp_path, folder, "from_log", "--model_args", f"logs={tmp_path / 'given'}")
    assert {row["entry_id"]: row["output"] for row in logged_outputs(logs)} == {
        entry_id: output.strip() for entry_id, output in outputs.items()
    }
    assert_equal(found, ours(pairs, outputs))


@pytest.mark.slow
def test_lmms_eval_itself_runs_a_local_checkpoint_and_prints_our_scores(folder, pairs, tmp_path):
    pytest.importorskip("decord", reason="lmms-eval's llava_hf imports decord")
    checkpoint = ROOT / "model_adapters" / "tiny" / "checkpoint"
    arguments = f"pretrained={checkpoint},device=cpu,device_map=cpu,dtype=float32"
    found, logs = lmms_eval(tmp_path, folder, "llava_hf", "--model_args", arguments)
    made = {row["entry_id"]: row["output"] for row in logged_outputs(logs)}
    assert len(set(made.values())) > 5  # a model spoke
    assert_equal(found, ours(pairs, made))

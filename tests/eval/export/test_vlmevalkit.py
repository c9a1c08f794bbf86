"""The export for VLMEvalKit: with a stand-in for its base class, and (slow) with VLMEvalKit itself."""

import base64
import importlib.util
import io
import json
import sys
from types import ModuleType

import pandas as pd
import PIL.Image
import pytest

from data_recipes.errors import UserError
from data_recipes.store import open_image
from eval.export import export, vlmevalkit
from eval.export.benchmark import from_row
from eval.predictions import CanonicalBoxes, answers_from_outputs
from eval.scores import score


class StandIn:
    """What VLMEvalKit's `ImageBaseDataset` does with a table, as far as an export depends on it."""

    def __init__(self, dataset):
        self.dataset_name = dataset
        data = self.load_data(dataset)
        where = dict(zip(data["index"], data["image"], strict=True))
        for index, image in where.items():
            if len(image) <= 64:  # the index of the row that holds the image
                assert len(where[image]) > 64
                where[index] = where[image]
        data["image"] = [where[index] for index in data["index"]]
        data["index"] = [int(index) for index in data["index"]]
        self.data = data


@pytest.fixture
def folder(mixture_dir, tmp_path):
    return export("vlmevalkit", str(mixture_dir), tmp_path / "out")[1]


def dataset_class(folder):
    spec = importlib.util.spec_from_file_location("fake_bench", folder / "fake_bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ImaxHarnessBenchmark


@pytest.fixture
def dataset(folder, monkeypatch):
    """The exported class on the stand-in."""
    modules = {name: ModuleType(name) for name in ("vlmeval", "vlmeval.dataset", "vlmeval.smp")}
    base = ModuleType("vlmeval.dataset.image_base")
    base.ImageBaseDataset = StandIn
    modules["vlmeval.smp"].LMUDataRoot = lambda: str(folder)
    for name, module in (modules | {base.__name__: base}).items():
        monkeypatch.setitem(sys.modules, name, module)
    return dataset_class(folder)("fake_bench")


def test_the_class_says_what_vlmevalkit_asks_of_it(dataset):
    assert list(dataset.DATASET_URL) == ["fake_bench"]
    assert dataset.TYPE == "VQA"  # free text, no choices


def test_each_row_has_its_prompt_and_its_image_which_is_stored_once(dataset, folder, mixture_dir, pairs):
    assert len(dataset.data) == len(pairs)
    stored = vlmevalkit.table(str(folder), "fake_bench", dataset.DATASET_MD5["fake_bench"])["image"]
    assert sum(len(text) > 64 for text in stored) == 12
    for row, (image, entry) in zip(dataset.data.to_dict("records"), pairs, strict=True):
        assert from_row(json.loads(row["entry"]))[1] == entry
        assert row["category"] == entry.task
        pixels = PIL.Image.open(io.BytesIO(base64.b64decode(row["image"])))
        assert pixels.tobytes() == open_image(mixture_dir, image).tobytes()
    rec = dataset.data[dataset.data["category"] == "rec"]["question"]
    assert all("[x1, y1, x2, y2]" in question for question in rec)


def write(dataset, outputs, path):
    """A prediction file as VLMEvalKit writes it: all columns but the image, and `prediction`."""
    frame = dataset.data.drop(columns="image")
    ids = [json.loads(entry)["entry_id"] for entry in frame["entry"]]
    frame["prediction"] = [outputs[entry_id] for entry_id in ids]
    if path.suffix == ".tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif path.suffix == ".xlsx":
        frame.to_excel(path, index=False)
    else:
        path.write_text(json.dumps(frame.to_dict("records")))
    return str(path)


@pytest.mark.parametrize("suffix", [".tsv", ".json", ".xlsx"])
def test_a_prediction_file_gets_our_scores(dataset, pairs, outputs, tmp_path, suffix):
    if suffix == ".xlsx":
        pytest.importorskip("openpyxl", reason="openpyxl, which VLMEvalKit brings, is not installed")
    found = dataset.evaluate(write(dataset, outputs, tmp_path / f"model_fake_bench{suffix}"), model="judge")
    expected = score(answers_from_outputs(pairs, outputs, CanonicalBoxes()))
    assert found["overall"] == pytest.approx(expected.average.value)
    written = json.loads((tmp_path / "model_fake_bench_scores.json").read_text())
    for task, scored in expected.tasks.items():
        assert written["tasks"][task] == scored.to_json()
        for name, estimate in scored.estimates.items():
            assert found[f"{task}/{name}"] == pytest.approx(estimate.value)
    assert written["test_hash"] == expected.test_hash
    assert written["problems"] == {}


@pytest.mark.parametrize("suffix", [".tsv", ".json"])
def test_words_that_pandas_takes_for_missing_stay_answers(dataset, pairs, tmp_path, suffix):
    """ "None" answers `findings` with the empty set; as a missing value it would be unreadable."""
    outputs = {entry.entry_id: "None" for _, entry in pairs}
    dataset.evaluate(write(dataset, outputs, tmp_path / f"model{suffix}"))
    written = json.loads((tmp_path / "model_scores.json").read_text())
    assert written["tasks"]["findings"]["unparsed"] == 0


def test_missing_and_unknown_rows_are_told_and_missing_ones_count_as_wrong(
    dataset, pairs, outputs, tmp_path, capsys
):
    path = tmp_path / "model.json"
    rows = [{"index": 0, "prediction": "CTR 0.50"}, {"index": 999, "prediction": "x"}]
    path.write_text(json.dumps([*rows, {"index": 1, "prediction": None}]))
    dataset.evaluate(str(path))
    written = json.loads((tmp_path / "model_scores.json").read_text())
    assert written["problems"]["unknown index, left out"] == 1
    assert written["problems"]["entry without a prediction, counts as wrong"] == len(pairs) - 2
    assert "unknown index" in capsys.readouterr().out
    unread = sum(scored["unparsed"] for scored in written["tasks"].values())
    assert unread == len(pairs) - 1


def test_files_that_do_not_fit_are_refused(dataset, folder, tmp_path):
    (tmp_path / "a.tsv").write_text("index\tanswer\n1\tx\n")
    with pytest.raises(UserError, match="column prediction is missing"):
        dataset.evaluate(str(tmp_path / "a.tsv"))
    (tmp_path / "a.json").write_text("{broken")
    with pytest.raises(UserError, match="can't read predictions"):
        dataset.evaluate(str(tmp_path / "a.json"))
    with pytest.raises(UserError, match=r"\.xlsx, \.tsv or \.json"):
        dataset.evaluate(str(tmp_path / "a.pkl"))
    with pytest.raises(UserError, match="is not the file that this class was exported with"):
        vlmevalkit.table(str(folder), "fake_bench", "0" * 32)
    with pytest.raises(UserError, match="is missing"):
        vlmevalkit.table(str(tmp_path), "fake_bench", "0" * 32)


def test_nothing_of_the_mixtures_own_words_goes_into_code(mixture_dir, tmp_path):
    meta = json.loads((mixture_dir / "mixture.json").read_text())
    meta["name"] = meta["mixture_hash"] = '"""\nraise SystemExit("injected")\n"""'
    (mixture_dir / "mixture.json").write_text(json.dumps(meta))
    _, out = export("vlmevalkit", str(mixture_dir), tmp_path / "hostile")
    (code,) = out.glob("*.py")
    assert "SystemExit" not in code.read_text()


@pytest.mark.slow
def test_vlmevalkit_itself_builds_runs_and_scores_the_dataset(
    folder, mixture_dir, pairs, outputs, tmp_path, monkeypatch
):
    datasets = pytest.importorskip("vlmeval.dataset", reason="VLMEvalKit is not installed")
    from vlmeval.inference import infer_data_job

    monkeypatch.setenv("LMUData", str(folder))
    monkeypatch.setattr(datasets, "DATASET_CLASSES", [*datasets.DATASET_CLASSES, dataset_class(folder)])
    built = datasets.build_dataset("fake_bench")
    assert type(built).__name__ == "ImaxHarnessBenchmark"
    rows = iter([from_row(json.loads(entry)) for entry in built.data["entry"]])
    originals = {image.image_id: open_image(mixture_dir, image) for image, _ in pairs}
    seen = set()

    class Model:
        def set_dump_image(self, dump):
            pass

        def use_custom_prompt(self, dataset):
            return False

        def generate(self, message, dataset):
            shown, asked = message
            image, entry = next(rows)
            seen.add(shown["value"])
            with PIL.Image.open(shown["value"]) as pixels:
                assert pixels.convert("L").tobytes() == originals[image.image_id].tobytes()
            assert asked["value"].startswith(entry.prompt.split("{box}")[0])
            return outputs[entry.entry_id]

    infer_data_job(Model(), str(tmp_path), "rote", built)
    assert len(seen) == 12  # one file an image
    found = built.evaluate(str(tmp_path / "rote_fake_bench.xlsx"))
    expected = score(answers_from_outputs(pairs, outputs, CanonicalBoxes()))
    assert found["overall"] == pytest.approx(expected.average.value)
    assert pd.read_excel(tmp_path / "rote_fake_bench.xlsx").shape[0] == len(pairs)

"""The MIMIC-shaped folder of the benchmark: its tables join as those of the real one do."""

from __future__ import annotations

import json
import zipfile

import polars as pl
import pytest

from benchmarks import mimic_pandas
from benchmarks.mimic_root import LABELS, write_root
from data_recipes.funnel import Funnel
from data_recipes.recipe import build, load_recipe
from data_recipes.scan import read, read_json
from data_recipes.sections import split_sections
from data_recipes.store import read_meta
from data_recipes.tasks import TASKS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mimic")
    return folder, write_root(folder, scale=0.01)


def test_sizes_are_in_proportion_and_tables_join(root):
    folder, number = root
    funnel = Funnel("test")
    keys = {name: name for name in ("dicom_id", "subject_id", "study_id")}
    metadata = read(
        folder / "mimic-cxr-jpg/mimic-cxr-2.0.0-metadata.csv.gz", {**keys, "view": "ViewPosition"}, funnel
    )
    split = read(folder / "mimic-cxr-jpg/mimic-cxr-2.0.0-split.csv.gz", {**keys, "split": "split"}, funnel)
    ratios = read(folder / "cxr-cardiomegaly/CTRs.csv", {"dicom_id": "dicom_file", "CTR": "CTR"}, funnel)
    assert metadata.height == split.height == number["images"] == 3_771
    assert metadata["subject_id"].n_unique() == number["patients"] == 654
    assert ratios.height == number["ratios"] == 962
    joined = ratios.with_columns(pl.col("dicom_id").str.strip_suffix(".dcm")).join(metadata, on="dicom_id")
    assert joined.height == ratios.height
    assert set(joined["view"]) == {"PA"}
    assert set(split["split"]) <= {"train", "validate", "test"}
    labels = read(
        folder / "mimic-cxr-jpg/mimic-cxr-2.0.0-chexpert.csv.gz",
        {"study_id": "study_id"} | {name: name for name in LABELS},
        funnel,
    )
    assert set(labels["Edema"]) <= {"1.0", "0.0", "-1.0", None}
    assert labels.height == number["studies"] - 8


def test_questions_boxes_and_reports_have_their_shapes(root):
    folder, _ = root
    columns = {"image": "image_id", "answer": "answer"}
    found = read_json(folder / "mimic-ext-mimic-cxr-vqa/dataset/train.json", columns, Funnel("test"))
    assert {"yes", "no", "left lung, right lung"} <= set(found["answer"])
    coco = json.loads((folder / "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json").read_text())
    shown = {image["id"]: image for image in coco["images"]}
    for box in coco["annotations"]:
        x, y, width, height = box["bbox"]
        image = shown[box["image_id"]]
        assert x + width <= image["width"]
        assert y + height <= image["height"]
    with zipfile.ZipFile(folder / "mimic-cxr/mimic-cxr-reports.zip") as archive:
        texts = [archive.read(name).decode() for name in archive.namelist()]
    sections = [split_sections(text) for text in texts]
    assert all("impression" in found for found in sections)
    assert 0 < sum("findings" not in found for found in sections) < len(sections) / 3


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name in ("one", "two"):
        write_root(tmp_path / name, scale=0.001, seed=3)
    for path in (tmp_path / "one").rglob("*.csv*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_the_recipe_makes_the_entries_that_the_join_with_pandas_makes(root, tmp_path):
    folder, _ = root
    recipe = load_recipe("imax_mimic", {"options.root": str(folder), "options.pixels": "skip"})
    meta = read_meta(build(recipe, tmp_path / "ours", progress=False))
    theirs = mimic_pandas.build(folder, tmp_path / "theirs")
    ours = {task: sum(split["per_task"][task] for split in meta["counts"].values()) for task in TASKS}
    assert {task: number for task, number in ours.items() if number} == theirs
    written = json.loads((tmp_path / "theirs/mixture.json").read_text())["counts"]
    for split, counted in written.items():
        said = meta["counts"][split]["per_task"]
        assert {task: said[task] for task in counted} == counted

"""The published annotation files that torchxrayvision carries: counts are those of the files, whole."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest

from data_recipes.harvest import Harvest
from data_recipes.recipe import build, load_recipe
from data_recipes.sources import file_options, file_source
from data_recipes.store import read_meta
from tests.data_recipes.datasets import needs_data

pytestmark = needs_data


def harvest(source: str, **options) -> Harvest:
    found = file_source(source).harvest(file_options(source, options), 0)
    assert any("torchxrayvision" in note for note in found.notes)
    assert found.funnel.rejected == []
    return found


def steps(found: Harvest) -> dict[str, tuple[int, int]]:
    return {step.step: (step.came, step.kept) for step in found.funnel.steps}


def tasks(found: Harvest) -> dict[str, int]:
    return dict(found.entries["task"].value_counts().rows())


def test_nih():
    found = harvest("nih")
    assert found.images.height == 112_120
    assert found.images["patient_id"].n_unique() == 30_805
    assert dict(found.images["view"].value_counts().rows())["PA"] == 67_310
    boxes = found.entries.filter(pl.col("task") == "rec")
    assert boxes["boxes"].list.len().sum() == 984
    assert boxes["image_id"].n_unique() == 880
    assert found.entries.filter(pl.col("task") == "reg")["target"].n_unique() == 8
    assert tasks(found)["findings"] == 112_120
    assert set(tasks(found)) == {"findings", "vqa", "rec", "reg"}
    labels = found.entries.filter(pl.col("task") == "findings")["target"]
    assert (labels == "no finding").sum() == 60_361  # as Wang et al. publish it
    answers = found.entries.filter(pl.col("task") == "vqa")["target"].value_counts().rows()
    assert len({number for _, number in answers}) == 1  # as many yes as no


def test_expert_labels_of_nih():
    found = harvest("nih", labels="expert")
    assert steps(found)["read google2019_nih-chest-xray-labels.csv.gz"] == (4_376, 4_376)
    assert steps(found)["experts' labels of known images"] == (4_376, 4_376)
    assert steps(found)["mined labels"] == (112_120, 112_120 - 4_376)
    lists = found.entries.filter(pl.col("provenance") == "nih/findings/among")
    names = {"fracture": 186, "pneumothorax": 238, "lung opacity": 2_166, "nodule or mass": 605}
    for name, number in names.items():
        assert lists["target"].str.split(", ").list.contains(name).sum() == number
    split = lists.join(found.images, on="image_id")["split"].value_counts()
    assert dict(split.rows()) == {"test": 1_962, "validation": 2_414}


def test_vindr():
    found = harvest("vindr", fusion="any", unknown_size="extent")
    assert found.images.height == 15_000
    reached = steps(found)
    assert reached["read vinbigdata-train.csv.gz"] == (67_914, 67_914)
    assert reached["rows with a box"] == (67_914, 36_096)
    assert reached["readers' boxes fused"] == (36_096, 36_096)
    assert found.entries.filter(pl.col("task") == "rec")["image_id"].n_unique() == 4_394


def test_vindr_fused():
    wbf, majority = harvest("vindr"), harvest("vindr", fusion="majority")
    kept = [steps(found)["readers' boxes fused"][1] for found in (wbf, majority)]
    assert 0 < kept[1] < kept[0] < 36_096
    healthy = [
        (found.entries.filter(pl.col("task") == "findings")["target"] == "no finding").sum()
        for found in (wbf, majority)
    ]
    assert healthy[0] == 15_000 - 4_394  # nobody found anything
    assert healthy[1] > healthy[0]


def test_rsna():
    found = harvest("rsna")
    assert steps(found)["read kaggle_stage_2_train_labels.csv.zip"] == (30_227, 30_227)
    assert steps(found)["rows with a box"] == (30_227, 9_555)
    assert found.images.height == 26_684
    assert found.entries.filter(pl.col("task") == "rec")["boxes"].list.len().sum() == 9_555


def test_siim():
    found = harvest("siim")
    assert steps(found)["read siim-pneumothorax-train-rle.csv.gz"] == (12_954, 12_954)
    assert found.images.height == 12_047
    assert steps(found)["masks"] == (3_576, 3_576)  # every code can be read
    assert tasks(found)["rec"] == 2_669


@pytest.mark.slow
def test_chexpert():
    found = harvest("chexpert", views=["PA", "AP", "lateral", "unknown"])
    assert found.images.height == 223_414
    assert found.images["patient_id"].n_unique() == 64_540


def test_openi():
    found = harvest("openi", views=["PA", "AP", "lateral", "unknown"])
    assert steps(found)["read reports"] == (3_955, 3_955)
    assert found.images.height == 7_470
    assert steps(found)["read nlmcxr_dicom_metadata.csv.gz"] == (7_469, 7_469)
    with_findings = harvest(
        "openi",
        views=["PA", "AP", "lateral", "unknown"],
        report={"sections": ["findings"], "priors": "keep", "removed": "keep"},
    )
    told = with_findings.entries.filter(pl.col("task") == "report")["image_id"]
    studies = with_findings.images.filter(pl.col("image_id").is_in(told.implode()))["patient_id"].n_unique()
    assert studies <= 3_425  # some of the 3,425 have no image
    assert studies > 3_300


@pytest.mark.slow
def test_padchest():
    found = harvest("padchest", views=["PA", "AP", "lateral", "unknown"], adults=False)
    assert found.images.height == 160_861
    assert found.images["patient_id"].n_unique() == 67_625


@pytest.mark.parametrize(
    ("name", "entries"),
    [("imax_vindr", {"findings": 15_000}), ("imax_nih", {"findings": 112_120, "rec": 984})],
)
@pytest.mark.slow
def test_a_recipe_builds_without_pixels_and_says_so(tmp_path, name, entries):
    folder = build(load_recipe(name), tmp_path / "out", progress=False)
    meta = read_meta(folder)
    for task, number in entries.items():
        assert sum(split["per_task"][task] for split in meta["counts"].values()) == number
    assert any("without pixels" in note for note in meta["notes"])
    assert any("torchxrayvision" in note for note in meta["notes"])
    assert all(step["came"] == step["kept"] + sum(step["dropped"].values()) for step in meta["funnel"])
    card = (folder / "README.md").read_text()
    assert "## Where rows went" in card
    assert "views:" in card


def test_reading_the_package_does_not_import_torch():
    code = (
        "import sys; from data_recipes.sources import file_source, file_options;"
        "file_source('siim').harvest(file_options('siim', {}), 0);"
        "assert not {'torch', 'torchxrayvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


_CARRIED = ("nih", "vindr", "rsna", "siim", "openi", "padchest", "chexpert")


@pytest.mark.parametrize(
    "source",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("padchest", "chexpert"))) for name in _CARRIED],
)
def test_every_row_is_accounted_for_from_the_table_to_the_entries(source):
    """Each step goes on with what an earlier step kept, or says that it reads a table or makes new rows."""
    found = harvest(source)
    kept: set[int] = set()
    for step in found.funnel.steps:
        assert step.came == step.kept + sum(step.dropped.values())
        reads = step.step.startswith(("read ", "parse "))
        makes = step.step == "written as vqa" or (source, step.step) == ("openi", "one row an image")
        assert reads or makes or step.came in kept, step
        kept.add(step.kept)
    written = {
        step.step.removeprefix("written as "): step.kept
        for step in found.funnel.steps
        if step.step.startswith("written as ")
    }
    assert written == tasks(found)
    assert found.images.height in kept

"""CTR and CPAR of the images of five sources from the masks of CheXmask."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_recipes import stream
from data_recipes.harvest import Harvest
from tests.data_recipes import (
    mimic,
    test_source_chexpert,
    test_source_nih,
    test_source_padchest,
    test_source_padchest_gr,
    test_source_vindr,
)
from tests.data_recipes.datasets import dropped, harvest, reasons, write
from tests.data_recipes.test_masks import code_of

SIZE = (40, 50)  # height, width
HEAD = "Dice RCA (Mean),Dice RCA (Max),Landmarks,Left Lung,Right Lung,Heart,Height,Width\n"


def ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    return ((xs - x) / width) ** 2 + ((ys - y) / height) ** 2 <= 1


def chest(heart: float = 8) -> dict[str, np.ndarray]:
    """Masks of a chest whose heart is so wide (half)."""
    return {
        "Left Lung": ellipse(37, 20, 9, 16), "Right Lung": ellipse(12, 20, 10, 17),
        "Heart": ellipse(27, 28, heart, 7),
    }  # fmt: skip


def row(image: str, masks: dict[str, np.ndarray] | None = None, **cells: Any) -> str:
    masks = masks or chest()
    landmarks = '"[[1 2]\n [3 4]]"'  # as numpy prints arrays: quoted, over several lines
    known = {"mean": 0.9, "max": 0.95, "landmarks": landmarks, **{o: code_of(m) for o, m in masks.items()}}
    known |= {"height": SIZE[0], "width": SIZE[1], **cells}
    return ",".join(map(str, (image, *known.values()))) + "\n"


def measured(masks: dict[str, np.ndarray]) -> tuple[str, str]:
    """The targets, measured on the masks themselves."""
    lungs = masks["Left Lung"] | masks["Right Lung"]
    wide = [np.flatnonzero(mask.any(axis=0)) for mask in (masks["Heart"], lungs)]
    ctr = (wide[0][-1] - wide[0][0] + 1) / (wide[1][-1] - wide[1][0] + 1)
    cpar = masks["Heart"].sum() / (masks["Left Lung"].sum() + masks["Right Lung"].sum())
    return f"CTR {ctr:.2f}", f"CPAR {cpar:.2f}"


def ratios(found: Harvest) -> dict[str, tuple[str, ...]]:
    """Image -> targets of its calculation entries."""
    rows = found.entries.filter(found.entries["task"] == "calculation")
    told: dict[str, tuple[str, ...]] = {}
    for image, target in rows.select("image_id", "target").rows():
        told[image] = (*told.get(image, ()), target)
    return told


def nih(root: Path, *rows: str, **options: Any) -> Harvest:
    table = "Image Index," + HEAD + "".join(rows)
    return harvest("nih", write(root, {**test_source_nih.FILES, "ChestX-Ray8.csv": table}), **options)


PA, AP = test_source_nih.image(0), test_source_nih.image(2)


@pytest.mark.parametrize("heart", [5, 8, 11])
def test_ratios_are_those_measured_on_the_masks(tmp_path, heart):
    found = nih(tmp_path, row(PA, chest(heart)))
    assert ratios(found) == {PA: measured(chest(heart))}
    assert any("CheXmask" in note for note in found.notes)
    prompts = found.entries.filter(found.entries["task"] == "calculation")["prompt"].to_list()
    assert "CTR" in prompts[0] or "cardiothoracic" in prompts[0]


@pytest.mark.parametrize(
    ("source", "tables", "file", "column", "image", "theirs"),
    [
        ("nih", test_source_nih.FILES, "ChestX-Ray8", "Image Index", PA, PA),
        ("chexpert", {"train.csv": test_source_chexpert.TRAIN}, "CheXpert", "Path",
         "CheXpert-v1.0-small/train/patient2/study1/view1_frontal.jpg",
         "train/patient2/study1/view1_frontal.jpg"),  # CheXmask has no edition in its paths
        ("padchest", {test_source_padchest.NAME: test_source_padchest.TABLE}, "Padchest", "ImageID",
         "0.png", "0.png"),
        ("padchest_gr", test_source_padchest_gr.files(*test_source_padchest_gr.STUDIES), "Padchest",
         "ImageID", "i1.png", "i1.png"),
        ("vindr", {"train.csv": test_source_vindr.TRAIN, "train_meta.csv": test_source_vindr.META},
         "VinDr-CXR", "image_id", "a", "a"),
    ],
)  # fmt: skip
def test_each_dataset_has_its_own_file_and_name_for_the_column_of_ids(
    tmp_path, source, tables, file, column, image, theirs
):
    packed = gzip.compress((f"{column}," + HEAD + row(theirs) + row("someone else")).encode())
    root = write(tmp_path, {**tables, f"OriginalResolution/{file}.csv.gz": packed})
    found = harvest(source, root)
    assert ratios(found) == {image: measured(chest())}
    assert dropped(found, "masks of images kept") == {"its image is not used": 1}


def test_mimic_takes_what_cxr_cardiomegaly_does_not_measure(tmp_path):
    """Of the images of `mimic.core`, a1 has ratios of its own, f1 has none, and a2 is lateral."""
    masks = "dicom_id," + HEAD + row("a1") + row("f1") + row("a2")
    tables = {**mimic.core(), "OriginalResolution/MIMIC-CXR-JPG.csv": masks}
    found = harvest("mimic", write(tmp_path, tables))
    assert ratios(found)["f1"] == measured(chest())
    assert ratios(found)["a1"] == ("CTR 0.50",)
    alone = {name: text for name, text in tables.items() if "CTRs" not in name}
    only = harvest("mimic", write(tmp_path / "alone", alone))
    assert set(ratios(only)) == {"a1", "f1"}


def test_masks_of_low_quality_are_left_out_and_the_limit_is_a_policy(tmp_path):
    rows = (row(PA, mean=0.6999), row(test_source_nih.image(1), mean=0.7))
    found = nih(tmp_path, *rows)
    assert set(ratios(found)) == {test_source_nih.image(1)}
    assert dropped(found, "quality of masks") == {"Dice RCA (Mean) below 0.7": 1}
    assert len(ratios(nih(tmp_path, *rows, masks={"dice": 0.5}))) == 2


def test_where_mean_and_maximum_are_interchanged_the_lower_is_the_mean(tmp_path):
    found = nih(tmp_path, row(PA, mean=0.9, max=0.6))
    assert ratios(found) == {}
    assert dropped(found, "quality of masks") == {"Dice RCA (Mean) below 0.7": 1}


def test_the_views_that_are_measured_are_a_policy(tmp_path):
    rows = (row(PA), row(AP))
    assert set(ratios(nih(tmp_path, *rows))) == {PA}
    assert dropped(nih(tmp_path, *rows), "views to measure") == {"view AP": 2}
    assert set(ratios(nih(tmp_path, *rows, masks={"views": ["AP"]}))) == {AP}


def test_tables_of_preprocessed_masks_have_the_same_names_and_are_passed_by(tmp_path):
    other = "Image Index," + HEAD.replace(",Height,Width", "") + "x,0.9,0.9,,1 1,1 1,1 1\n"
    write(tmp_path, {"A Preprocessed/ChestX-Ray8.csv": other})  # found first, by its folder
    found = nih(tmp_path / "B", row(PA))
    assert len(ratios(found)) == 1
    whole = harvest("nih", tmp_path)
    assert len(ratios(whole)) == 1


def test_masks_that_are_none_are_rejected_by_row(tmp_path):
    image = test_source_nih.image
    rows = (
        row(PA),
        row(PA),
        row(image(1), Heart="1 2 3"),
        row(image(3), width=7),
        row(image(4), {**chest(), "Heart": np.ones(SIZE, bool)}),
        row(image(5), mean="good"),
        "too,short\n",
    )
    found = nih(tmp_path, *rows, masks={"views": ["PA", "AP"]})
    assert set(ratios(found)) == {PA}
    assert {(at, why) for file, at, why in reasons(found) if file == "ChestX-Ray8.csv"} == {
        (2, "image id is taken by an earlier row"),
        (3, "mask of the heart is missing, empty or not of the size said"),
        (4, "mask of the heart is missing, empty or not of the size said"),
        (5, "heart is wider than the chest"),
        (6, "Dice RCA (Mean) is no number from 0 to 1"),
        (7, "has 2 fields, the header has 9"),
    }


def test_a_table_in_many_pieces_gives_the_same(tmp_path, monkeypatch):
    rows = [row(test_source_nih.image(n % 6), chest(5 + n % 3), mean=0.71 + n / 1000) for n in range(6)]
    options = {"masks": {"views": ["PA", "AP"]}}
    whole = nih(tmp_path, *rows, **options)
    monkeypatch.setattr(stream, "_BLOCK", max(map(len, rows)) + 200)
    pieces = nih(tmp_path, *rows, **options)
    assert len(ratios(whole)) == 6
    assert pieces.entries.equals(whole.entries)

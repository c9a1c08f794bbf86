"""Source `montgomery`, quirk by quirk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_recipes.check import check
from data_recipes.recipe import build, load_recipe
from data_recipes.sources import fingerprint
from data_recipes.store import read_mixture
from tests.data_recipes.datasets import boxes_of, dropped, harvest, picture, reasons, said, write

READINGS = {
    "MCUCXR_0001_0": "Patient's Sex: F \r\nPatient's Age: 027Y\r\nnormal\r\n",
    "MCUCXR_0002_0": "Patient's Sex: M\nPatient's Age: 040Y\nnormal; stable since the prior exam\n",
    "MCUCXR_0104_1": "Patient's Sex: M\nPatient's Age: 31Y\nCavity in the right\nupper lobe. Active TB.\n",
    "MCUCXR_0108_1": "Patient's Sex: M\nPatient's Age: 31Y\n",
}
FILES = {f"MontgomerySet/ClinicalReadings/{name}.txt": text for name, text in READINGS.items()}
IMAGES = [*READINGS, "MCUCXR_0113_1"]


def mask(root: Path, folder: str, image: str, box: tuple[int, int, int, int] | None, mode: str = "1") -> None:
    """Writes a mask of 40 x 20 pixels (width, height)."""
    path = root / f"MontgomerySet/ManualMask/{folder}/{image}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((20, 40), bool)
    if box:
        pixels[box[1] : box[3], box[0] : box[2]] = True
    PIL.Image.fromarray(pixels.astype(np.uint8) * 255).convert(mode).save(path)


@pytest.fixture
def root(tmp_path):
    for number, image in enumerate(IMAGES):
        picture(tmp_path, f"MontgomerySet/CXR_png/{image}.png", 40 + number, 20)  # no two have equal pixels
    mask(tmp_path, "rightMask", "MCUCXR_0001_0", (4, 2, 16, 18))
    mask(tmp_path, "leftMask", "MCUCXR_0001_0", (24, 4, 36, 16), "L")
    return write(tmp_path, {**FILES, "MontgomerySet/notes.txt": "no reading"})


def test_the_name_of_a_file_says_tuberculosis_or_normal(root):
    found = harvest("montgomery", root)
    assert dict(said(found, "findings")) == {
        "MCUCXR_0001_0": "no finding", "MCUCXR_0002_0": "no finding", "MCUCXR_0104_1": "tuberculosis",
        "MCUCXR_0108_1": "tuberculosis", "MCUCXR_0113_1": "tuberculosis",
    }  # fmt: skip
    asked = found.entries.filter(found.entries["prompt"].str.contains("evidence of tuberculosis"))
    answers = dict(asked.select("image_id", "target").rows())
    assert sorted(answers.values()) == ["no", "no", "yes", "yes"]
    assert answers["MCUCXR_0001_0"] == "no"


def test_a_reading_is_the_report_without_sex_age_and_priors(root):
    found = harvest("montgomery", root)
    assert dict(said(found, "report")) == {
        "MCUCXR_0001_0": "normal", "MCUCXR_0104_1": "Cavity in the right upper lobe. Active TB.",
    }  # fmt: skip
    assert dropped(found, "readings") == {"no sentence is left": 2, "has no reading": 1}
    kept = dict(said(harvest("montgomery", root, priors="keep"), "report"))
    assert kept["MCUCXR_0002_0"] == "normal; stable since the prior exam"
    assert set(found.entries.filter(found.entries["task"] == "report")["provenance"]) == {
        "montgomery/report/reading"
    }


def test_images_and_masks_of_one_name_are_told_apart_by_their_folder(root):
    found = harvest("montgomery", root, pixels="copy")
    assert found.images["file"].to_list() == [f"MontgomerySet/CXR_png/{image}.png" for image in IMAGES]


def test_lungs_have_boxes_and_there_is_no_ratio(root):
    found = harvest("montgomery", root)
    targets = [target for _, target in said(found, "reg")]
    assert dict(zip(targets, boxes_of(found, "reg")["MCUCXR_0001_0"], strict=True)) == {
        "right lung": [0.1, 0.1, 0.4, 0.9], "left lung": [0.6, 0.2, 0.9, 0.8],
    }  # fmt: skip
    assert "calculation" not in set(found.entries["task"])
    assert boxes_of(harvest("montgomery", root, organs=False)) == {}


def test_empty_and_broken_masks_are_rejected_by_file(root):
    mask(root, "leftMask", "MCUCXR_0104_1", None)
    (root / "MontgomerySet/ManualMask/rightMask/MCUCXR_0104_1.png").write_bytes(b"no mask")
    mask(root, "leftMask", "MCUCXR_9999_1", (1, 1, 2, 2))  # of no image: passed by
    found = harvest("montgomery", root)
    rejected = {file.rpartition("/")[0].rpartition("/")[2]: why for file, _, why in reasons(found)}
    assert rejected["leftMask"] == "mask is empty"
    assert "truncated or no image" in rejected["rightMask"]
    assert set(boxes_of(found)) == {"MCUCXR_0001_0"}


def test_a_structure_may_be_1_instead_of_255(root):
    before = boxes_of(harvest("montgomery", root), "reg")
    path = root / "MontgomerySet/ManualMask/rightMask/MCUCXR_0001_0.png"
    ones = np.asarray(PIL.Image.open(path).convert("L")) // 255
    assert ones.max() == 1
    PIL.Image.fromarray(ones).save(path)
    assert boxes_of(harvest("montgomery", root), "reg") == before


def test_a_changed_reading_changes_the_fingerprint(root):
    options = {"root": str(root), "pixels": "skip"}
    before = fingerprint("montgomery", options)
    (root / "MontgomerySet/ClinicalReadings/MCUCXR_0108_1.txt").write_text("changed")
    assert fingerprint("montgomery", options) != before


def test_the_recipe_builds_from_the_files(root, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    recipe = load_recipe("imax_montgomery", {"options.root": str(root)})
    folder = build(recipe, tmp_path / "out", progress=False)
    mixture = read_mixture(folder)
    assert {image.image_id for image in mixture.images} == set(IMAGES)
    assert {entry.task for entry in mixture.entries} >= {"findings", "report", "rec", "reg"}
    assert check(folder).sound

"""Labels of radiologists for source `nih`, quirk by quirk."""

from __future__ import annotations

import pytest

from data_recipes.errors import UserError
from tests.data_recipes.datasets import dropped, harvest, reasons, said, write
from tests.data_recipes.test_source_nih import FILES, image

HEAD = "Image Index,Finding Labels,Patient ID,Fracture,Pneumothorax,Airspace opacity,Nodule or mass"
GOOGLE = "google2019_nih-chest-xray-labels.csv"


def row(number: int, answers: str, *more: str) -> str:
    """Answers are those to the four findings, Y, N or H."""
    words = {"Y": "YES", "N": "NO", "H": "HEDGE", "?": "MAYBE", "-": ""}
    return ",".join([image(number), "Mass", "1", *(words[letter] for letter in answers), *more]) + "\n"


def both(*rows: str) -> str:
    return f"{HEAD},Set Id\n" + "".join(rows)


TABLE = both(row(0, "NNNN", "val"), row(3, "NYYN", "test"), row(5, "YNNH", "test"))


def found_in(root, **options):
    return harvest("nih", root, labels="expert", **options)


def test_images_with_expert_labels_are_asked_about_their_four_findings_and_hold_no_mined_label(tmp_path):
    found = found_in(write(tmp_path, {**FILES, GOOGLE: TABLE}))
    lists = found.entries.filter(found.entries["task"] == "findings")
    theirs = lists.filter(lists["provenance"] == "nih/findings/among")
    assert dict(theirs.select("image_id", "target").rows()) == {
        image(0): "no finding", image(3): "lung opacity, pneumothorax",
    }  # fmt: skip
    for prompt in theirs["prompt"]:
        assert "fracture, lung opacity, nodule or mass, pneumothorax" in prompt
    mined = lists.filter(lists["provenance"] == "nih/findings/multi-label")
    assert set(mined["image_id"]) == {image(1), image(2), image(4)}
    assert dropped(found, "mined labels") == {"labelled by experts": 3}
    asked = found.entries.filter(
        (found.entries["task"] == "vqa") & found.entries["image_id"].is_in([image(0), image(3), image(5)])
    )
    names = ("fracture", "pneumothorax", "lung opacity", "nodule or mass")
    assert asked.height
    assert all(any(name in prompt for name in names) for prompt in asked["prompt"])


def test_mined_labels_are_the_default(tmp_path):
    root = write(tmp_path, {**FILES, GOOGLE: TABLE})
    assert len(said(harvest("nih", root), "findings")) == 6
    assert set(harvest("nih", root).images["split"]) == {""}


def test_a_hedge_is_neither_listed_nor_asked_about(tmp_path):
    found = found_in(write(tmp_path, {**FILES, GOOGLE: TABLE}))
    assert dropped(found, "lists of experts' findings") == {"an expert label is uncertain": 1}
    asked = found.entries.filter(found.entries["task"] == "vqa")["prompt"].to_list()
    assert not any("nodule or mass" in prompt for prompt in asked)  # nobody is known to have one
    fracture = found.entries.filter(found.entries["prompt"].str.contains("evidence of fracture"))
    assert sorted(fracture.select("image_id", "target").rows()) == [(image(3), "no"), (image(5), "yes")]


def test_their_sets_are_splits_and_hold_all_images_of_a_patient_out(tmp_path):
    found = found_in(write(tmp_path, {**FILES, GOOGLE: TABLE}))
    # Images 0 and 1 are of one patient, 2 and 3, 4 and 5 too.
    assert found.images["split"].to_list() == ["validation"] * 2 + ["test"] * 4
    assert set(found_in(tmp_path, splits="drawn").images["split"]) == {""}


@pytest.mark.parametrize("prefix", ["four_findings_expert_labels_", ""])
def test_googles_own_files_have_a_set_each_under_either_name(tmp_path, prefix):
    files = {
        f"{prefix}validation_labels.csv": f"{HEAD}\n" + row(0, "NNNN"),
        f"{prefix}test_labels.csv": f"{HEAD}\n" + row(3, "NYYN") + row(5, "YNNH"),
    }
    found = found_in(write(tmp_path / "theirs", {**FILES, **files}))
    one = found_in(write(tmp_path / "one", {**FILES, GOOGLE: TABLE}))
    assert found.entries.drop("file", "row").equals(one.entries.drop("file", "row"))
    assert found.images.equals(one.images)


def test_another_table_of_test_labels_is_not_taken_for_theirs(tmp_path):
    root = write(tmp_path, {**FILES, "test_labels.csv": "id,label\n1,2\n"})
    with pytest.raises(UserError, match=r"holds no google2019_nih-chest-xray-labels.csv or"):
        found_in(root)


def test_rows_that_are_none_are_rejected(tmp_path):
    rows = (row(0, "NNNN", "val"), row(0, "NNNN", "val"), row(3, "N?NN", "test"), row(4, "N-NN", "test"),
            row(5, "NNNN", "train"), row(9, "NNNN", "test"))  # fmt: skip
    found = found_in(write(tmp_path, {**FILES, GOOGLE: both(*rows)}))
    assert {(at, why) for file, at, why in reasons(found) if file == GOOGLE} == {
        (2, "image id is taken by an earlier row"),
        (3, "Pneumothorax is not YES, NO or HEDGE"),
        (4, "Pneumothorax is missing"),
        (5, "Set Id is not val or test"),
        (6, "its image is in no table of images"),
    }

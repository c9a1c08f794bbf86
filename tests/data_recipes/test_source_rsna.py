"""Source `rsna`, quirk by quirk."""

from __future__ import annotations

import json

import pytest

from data_recipes.errors import UserError
from tests.data_recipes.datasets import boxes_of, dropped, harvest, reasons, said, write

LABELS = """patientId,x,y,width,height,Target
p1,256,512,128,256,1
p1,0,0,512,512,1
p2,,,,,0
p3,,,,,1
p4,900,900,400,400,1
p5,,,,,0
"""
NAME = "stage_2_train_labels.csv"


def test_boxes_are_x_y_width_height_and_one_image_may_have_several(tmp_path):
    found = harvest("rsna", write(tmp_path, {NAME: LABELS}))
    assert boxes_of(found) == {"p1": [[0, 0, 0.5, 0.5], [0.25, 0.5, 0.375, 0.75]]}
    assert len(said(found, "rec")) == 1
    assert said(found, "reg") == [("p1", "lung opacity")] * 2


def test_an_image_without_boxes_is_kept_and_a_row_without_the_box_it_should_have_is_rejected(tmp_path):
    found = harvest("rsna", write(tmp_path, {NAME: LABELS}))
    assert found.images.height == 5
    assert dropped(found, "rows with a box") == {"no box: Target is 0": 2}
    assert {(row, why.split(":")[0]) for _, row, why in reasons(found)} == {
        (4, "box lacks a coordinate"),
        (5, "box leaves the image"),
    }
    # Target is believed where the box is not: p3 and p4 are never asked as if they had no opacity
    assert {image: answer for image, answer in said(found, "vqa") if image in ("p3", "p4")}.keys() <= {
        "p3",
        "p4",
    }
    assert all(answer == "yes" for image, answer in said(found, "vqa") if image in ("p1", "p3", "p4"))
    assert all(answer == "no" for image, answer in said(found, "vqa") if image in ("p2", "p5"))


def test_views_come_from_the_table_of_headers(tmp_path):
    headers = ",BodyPartExamined,PatientID,ViewPosition\n0,CHEST,p1,AP\n1,CHEST,p2,PA\n"
    root = write(tmp_path, {NAME: LABELS, "kaggle_stage_2_train_images_dicom_headers.csv": headers})
    found = harvest("rsna", root, views=["AP"])
    assert found.images["image_id"].to_list() == ["p1"]
    assert dropped(found, "views") == {"view PA": 1, "view unknown": 3}


def test_with_the_mapping_patients_have_the_ids_they_have_in_source_nih(tmp_path):
    mapping = [{"subset_img_id": "p1", "img_id": "00000007_003.png"}]
    files = {NAME: LABELS, "pneumonia-challenge-dataset-mappings_2018.json": json.dumps(mapping)}
    found = harvest("rsna", write(tmp_path, files))
    assert found.images["patient_id"].to_list() == ["nih-7", "p2", "p3", "p4", "p5"]
    files["pneumonia-challenge-dataset-mappings_2018.json"] = '[{"other": 1}]'
    with pytest.raises(UserError, match="is no list of subset_img_id and img_id"):
        harvest("rsna", write(tmp_path, files))

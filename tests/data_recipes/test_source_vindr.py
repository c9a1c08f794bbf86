"""Source `vindr`, quirk by quirk."""

from __future__ import annotations

import pytest

from tests.data_recipes.datasets import boxes_of, dropped, harvest, picture, reasons, said, write

TRAIN = """image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
a,Cardiomegaly,3,R1,100,400,300,600
a,Cardiomegaly,3,R2,120,400,320,600
a,Nodule/Mass,8,R3,10,10,50,50
b,No finding,14,R1,,,,
b,No finding,14,R2,,,,
b,No finding,14,R3,,,,
c,ILD,5,R1,0,0,100,100
c,No finding,14,R2,,,,
c,No finding,14,R3,,,,
"""
META = "image_id,dim0,dim1\na,1000,500\nb,1000,500\nc,1000,500\n"  # height, width


@pytest.fixture
def root(tmp_path):
    return write(tmp_path, {"train.csv": TRAIN, "train_meta.csv": META})


def test_boxes_of_readers_who_mean_the_same_are_fused(root):
    found = harvest("vindr", root)
    assert boxes_of(found)["a"] == [[0.22, 0.4, 0.62, 0.6], [0.02, 0.01, 0.1, 0.05]]
    assert dropped(found, "readers' boxes fused") == {"fused with another reader's box": 1}
    assert dict(said(found, "findings")) == {
        "a": "cardiomegaly, nodule or mass", "b": "no finding", "c": "interstitial lung disease",
    }  # fmt: skip


def test_a_majority_of_readers_decides_on_boxes_and_findings(root):
    found = harvest("vindr", root, fusion="majority")
    assert boxes_of(found) == {"a": [[0.22, 0.4, 0.62, 0.6]]}
    assert dict(said(found, "findings")) == {"a": "cardiomegaly", "b": "no finding", "c": "no finding"}


def test_any_keeps_the_box_of_each_reader(root):
    assert len(boxes_of(harvest("vindr", root, fusion="any"))["a"]) == 3


def test_the_test_set_is_a_consensus_without_readers_and_the_column_has_two_spellings(tmp_path):
    train = TRAIN.replace("rad_id", "rad_ID")
    test = "image_id,class_name,x_min,y_min,x_max,y_max\nt,Atelectasis,50,100,100,200\nu,No finding,,,,\n"
    meta = META + "t,1000,500\n"
    root = write(
        tmp_path, {"annotations_train.csv": train, "annotations_test.csv": test, "train_meta.csv": meta}
    )
    found = harvest("vindr", root, fusion="majority")
    assert boxes_of(found)["t"] == [[0.1, 0.1, 0.2, 0.2]]
    split = dict(found.images.select("image_id", "split").rows())
    assert split == {"a": "train+validation", "b": "train+validation", "c": "train+validation"} | {
        "t": "test",
        "u": "test",
    }
    assert "rad" not in str(reasons(found))
    assert boxes_of(found)["a"] == [[0.22, 0.4, 0.62, 0.6]]


def test_without_a_table_of_sizes_the_image_file_says_the_size(tmp_path):
    root = write(tmp_path, {"train.csv": TRAIN})
    picture(root, "train/a.png", 500, 1000)
    found = harvest("vindr", root, unknown_size="drop")
    assert boxes_of(found) == {"a": [[0.22, 0.4, 0.62, 0.6], [0.02, 0.01, 0.1, 0.05]]}
    assert reasons(found) == {("train.csv", 7, "size of its image is not known"): 1}


def test_a_size_that_nobody_says_is_the_extent_of_the_boxes_and_the_card_says_so(tmp_path):
    found = harvest("vindr", write(tmp_path, {"train.csv": TRAIN}))
    assert boxes_of(found)["c"] == [[0, 0, 1, 1]]
    assert any("size of 2 images is not known" in note for note in found.notes)


def test_broken_rows_are_rejected_and_the_class_is_believed(tmp_path):
    bad = TRAIN + "b,Atelectasis,0,R1,9,9,5,5\nb,,0,R1,1,1,5,5\nb,Mass,0,R1,one,1,5,5\nb,Edema,0,R1,1,1,5,\n"
    found = harvest("vindr", write(tmp_path, {"train.csv": bad, "train_meta.csv": META}))
    assert {(row, why.split(":")[0]) for _, row, why in reasons(found)} == {
        (10, "box is empty or reversed"),
        (11, "class is missing"),
        (12, "x1 is no number"),
        (13, "box lacks a coordinate"),
    }
    assert dict(said(found, "findings"))["b"] == "atelectasis, edema"

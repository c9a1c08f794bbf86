"""Source `nih`, quirk by quirk."""

from __future__ import annotations

import pytest

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.recipe import build, load_recipe
from data_recipes.splits import crossing
from data_recipes.store import read_mixture
from tests.data_recipes.datasets import boxes_of, dropped, harvest, needs_data, picture, reasons, said, write

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
LABELS = HEADER + "\n" + "".join(
    f"{n:08d}_000.png,{labels},0,{n // 2},50,F,{view},2500,2048,0.1,0.1\n"
    for n, (labels, view) in enumerate(
        [("Cardiomegaly|Effusion", "PA"), ("No Finding", "PA"), ("Pleural_Thickening", "AP"),
         ("No Finding", "PA"), ("Infiltration", "PA"), ("Mass", "AP")]
    )
)  # fmt: skip
BOXES = """Image Index,Finding Label,Bbox [x,y,w,h],,,
00000000_000.png,Cardiomegaly,256,512,512,256
00000004_000.png,Infiltrate,0,0,1024.4,512
"""
FILES = {"Data_Entry_2017.csv": LABELS, "BBox_List_2017.csv": BOXES}


def image(n: int) -> str:
    return f"{n:08d}_000.png"


def test_labels_are_findings_in_the_words_of_the_project(tmp_path):
    found = harvest("nih", write(tmp_path, FILES))
    assert dict(said(found, "findings")) == {
        image(0): "cardiomegaly, pleural effusion", image(1): "no finding", image(2): "pleural thickening",
        image(3): "no finding", image(4): "infiltration", image(5): "mass",
    }  # fmt: skip
    assert found.images["patient_id"].to_list()[:3] == ["nih-0", "nih-0", "nih-1"]
    assert found.images["width"].unique().to_list() == [1024]


def test_boxes_under_the_broken_header_are_x_y_w_h_at_1024(tmp_path):
    found = harvest("nih", write(tmp_path, FILES))
    assert boxes_of(found)[image(0)] == [[0.25, 0.5, 0.75, 0.75]]


def test_boxes_under_a_mended_header_are_read_too(tmp_path):
    mended = BOXES.replace("Bbox [x,y,w,h],,,", "x,y,w,h")
    found = harvest("nih", write(tmp_path, {**FILES, "BBox_List_2017.csv": mended}))
    assert boxes_of(found)[image(0)] == [[0.25, 0.5, 0.75, 0.75]]


def test_infiltrate_of_the_boxes_is_infiltration_of_the_labels(tmp_path):
    found = harvest("nih", write(tmp_path, FILES))
    assert said(found, "reg", image(4)) == [(image(4), "infiltration")]


def test_a_box_a_hair_over_the_border_is_cut_and_one_in_another_scale_is_rejected(tmp_path):
    scaled = BOXES + "00000005_000.png,Mass,1200,900,300,300\n00000005_000.png,Mass,5,5,0,9\n"
    scaled += "00000005_000.png,Mass,x,5,9,9\n99999999_000.png,Mass,1,1,9,9\n"
    found = harvest("nih", write(tmp_path, {**FILES, "BBox_List_2017.csv": scaled}))
    assert boxes_of(found)[image(4)] == [[0, 0, 1, 0.5]]
    assert image(5) not in boxes_of(found)
    assert reasons(found) == {
        ("BBox_List_2017.csv", 3, "box leaves the image: is it in the scale of another?"): 1,
        ("BBox_List_2017.csv", 4, "box is empty or reversed: it needs x1 < x2 and y1 < y2"): 1,
        ("BBox_List_2017.csv", 5, "x is no number"): 1,
        ("BBox_List_2017.csv", 6, "its image is in no table of images"): 1,
    }


def test_views_are_a_policy(tmp_path):
    found = harvest("nih", write(tmp_path, FILES), views=["AP"])
    assert found.images["image_id"].to_list() == [image(2), image(5)]
    assert dropped(found, "views") == {"view PA": 4}
    assert dropped(found, "boxes of images kept") == {"its image was left out": 2}


def test_a_view_that_is_none_of_ours_is_unknown(tmp_path):
    odd = LABELS.replace("50,F,AP", "50,F,OBLIQUE", 1)
    found = harvest("nih", write(tmp_path, {**FILES, "Data_Entry_2017.csv": odd}))
    assert dropped(found, "views") == {"view unknown": 1}


def test_duplicate_and_missing_ids_are_rejected_by_row(tmp_path):
    more = LABELS + f"{image(0)},Mass,0,9,50,F,PA,1,1,1,1\n,Mass,0,9,50,F,PA,1,1,1,1\n"
    found = harvest("nih", write(tmp_path, {**FILES, "Data_Entry_2017.csv": more}))
    assert reasons(found) == {
        ("Data_Entry_2017.csv", 7, "image id is taken by an earlier row"): 1,
        ("Data_Entry_2017.csv", 8, "image id is missing"): 1,
    }


def test_official_lists_are_the_authority_over_splits(tmp_path):
    lists = {
        "train_val_list.txt": "".join(f"{image(n)}\n" for n in (0, 1, 2, 4, 5)),
        "test_list.txt": f"{image(3)}\n",  # of the patient of image 2
    }
    root = write(tmp_path, {**FILES, **lists})
    found = harvest("nih", root)
    assert (
        found.images["split"].to_list() == ["train+validation"] * 2 + ["test"] * 2 + ["train+validation"] * 2
    )
    assert any("1 patients stood in two splits" in note for note in found.notes)
    assert set(harvest("nih", root, splits="drawn").images["split"]) == {""}


def test_caps_hold_for_each_image_over_all_tasks_and_for_each_task_in_all(tmp_path):
    found = harvest("nih", write(tmp_path, FILES), image_cap=2)
    assert found.entries.group_by("image_id").len()["len"].max() == 2
    assert sum(dropped(found, "image_cap").values()) > 0
    few = harvest("nih", tmp_path, task_caps={"findings": 2}, image_cap=2)
    assert few.entries.filter(few.entries["task"] == "findings").height == 2
    again = harvest("nih", tmp_path, task_caps={"findings": 2}, image_cap=2)
    assert again.entries.equals(few.entries)
    with pytest.raises(UserError, match="image_cap is 0"):
        harvest("nih", tmp_path, image_cap=0)


def test_caps_hold_for_each_image(tmp_path):
    found = harvest("nih", write(tmp_path, FILES), caps={"vqa": 1})
    per_image = found.entries.filter(found.entries["task"] == "vqa").group_by("image_id").len()
    assert per_image["len"].max() == 1
    assert sum(dropped(found, "caps").values()) > 0
    with pytest.raises(UserError, match="did you mean 'vqa'"):
        harvest("nih", tmp_path, caps={"vqaa": 1})


def test_a_renamed_column_is_one_clear_line(tmp_path):
    renamed = LABELS.replace("Finding Labels", "Findings_Label")
    with pytest.raises(UserError, match="no column 'Finding Labels': did you mean 'Findings_Label'"):
        harvest("nih", write(tmp_path, {**FILES, "Data_Entry_2017.csv": renamed}))


def test_pixels_are_found_in_any_folder_and_a_broken_one_takes_its_entries(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    root = write(tmp_path / "root", FILES)
    for n in (0, 1, 2, 3, 4):
        picture(root, f"images_00{n % 2}/images/{image(n)}", 16, 16)
    (root / f"images_000/images/{image(4)}").write_bytes(b"no image")
    outside = tmp_path / "outside.png"
    picture(tmp_path, "outside.png")
    (root / f"images_000/images/{image(5)}").symlink_to(outside)
    recipe = load_recipe("imax_nih", {"options.root": str(root), "options.pixels": "copy"})
    folder = build(recipe, tmp_path / "out", progress=False)
    mixture = read_mixture(folder)
    assert {i.image_id for i in mixture.images} == {image(n) for n in range(4)}
    assert {(i.width, i.height) for i in mixture.images} == {(16, 16)}
    assert not crossing(mixture.images)
    assert check(folder).sound
    last = {step["step"]: step for step in mixture.meta["funnel"]}["image files"]
    assert (last["came"], last["kept"], last["dropped"]) == (6, 4, {"file missing or unusable": 2})
    text = (folder / "rejected.jsonl").read_text()
    assert "lies outside the folder" in text
    assert "truncated or no image" in text
    assert str(tmp_path) not in (folder / "README.md").read_text()
    assert mixture.meta["recipe"]["options"]["views"] == ["PA", "AP"]  # defaults are recorded


@needs_data
def test_without_a_root_pixels_cannot_be_copied():
    with pytest.raises(UserError, match="needs --root"):
        build(load_recipe("imax_nih", {"options.pixels": "copy"}), progress=False)


def test_a_root_without_images_is_one_clear_line(tmp_path):
    recipe = load_recipe("imax_nih", {"options.root": str(write(tmp_path / "root", FILES))})
    with pytest.raises(
        UserError, match=r"none of 6 image files can be used, first: .* is missing; --pixels skip"
    ):
        build(recipe, tmp_path / "out", progress=False)

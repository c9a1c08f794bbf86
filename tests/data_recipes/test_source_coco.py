"""Source `coco`, quirk by quirk."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from data_recipes.check import check
from data_recipes.coco_json import _box
from data_recipes.errors import UserError
from data_recipes.recipe import build
from data_recipes.recipe_file import ImageCentric
from data_recipes.store import read_mixture
from tests.data_recipes.datasets import boxes_of, dropped, harvest, picture, reasons, said, write

COCO = {
    "images": [
        {"id": 1, "file_name": "a.png", "width": 20, "height": 10, "patient_id": 7},
        {"id": 2, "file_name": "b.png", "width": 20, "height": 10, "patient_id": 7},
        {"id": 3, "file_name": "c.png", "width": 20, "height": 10, "patient_id": 8},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 1, 5, 5], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 20, 10], "area": 200},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [1, 1, 4, 4], "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "Nodule"}, {"id": 2, "name": "Pleural_Effusion", "supercategory": "x"}],
}


def root_of(tmp_path, changed=None, name="instances.json"):
    return write(tmp_path, {name: json.dumps(changed or COCO)})


def changed(**more):
    result = copy.deepcopy(COCO)
    for key, rows in more.items():
        result[key] += rows
    return result


def test_categories_are_findings_questions_and_phrases(tmp_path):
    found = harvest("coco", root_of(tmp_path))
    assert said(found, "findings") == [
        ("a.png", "nodule, pleural effusion"), ("b.png", "no finding"), ("c.png", "no finding"),
    ]  # fmt: skip
    assert boxes_of(found) == {"a.png": [[0.25, 0.1, 0.5, 0.6], [0, 0, 1, 1]]}
    assert said(found, "reg") == [("a.png", "nodule"), ("a.png", "pleural effusion")]
    assert set(found.entries["task"]) == {"findings", "vqa", "rec", "reg"}
    assert found.images["patient_id"].to_list() == ["7", "7", "8"]
    assert any("field 'patient_id'" in note for note in found.notes)


def test_crowds_and_images_without_annotation_are_policies(tmp_path):
    root = root_of(tmp_path)
    assert dropped(harvest("coco", root), "outlines of groups") == {"of a crowd": 1}
    assert boxes_of(harvest("coco", root, crowd="keep"))["b.png"] == [[0.05, 0.1, 0.25, 0.5]]
    found = harvest("coco", root, unannotated="ignore")
    assert [image for image, _ in said(found, "findings")] == ["a.png"]
    with pytest.raises(UserError, match="did you mean 'drop'"):
        harvest("coco", root, crowd="dropp")


def test_a_file_a_split_named_after_it_or_said(tmp_path):
    parts = {}
    for name in ("train", "val", "odd"):
        part = copy.deepcopy(COCO)
        for row in part["images"]:
            row["file_name"] = f"{name}-{row['file_name']}"
            row["patient_id"] = f"{name}-{row['patient_id']}"
        parts[f"annotations/instances_{name}2017.json"] = json.dumps(part)
    root = write(tmp_path, parts)
    found = harvest("coco", root)
    assert dict(found.images.select("image_id", "split").rows())["train-a.png"] == "train"
    assert dict(found.images.select("image_id", "split").rows())["val-a.png"] == "validation"
    assert dict(found.images.select("image_id", "split").rows())["odd-a.png"] == ""
    assert found.images.height == 9  # ids are those of a file: 1 is another image in each
    assert len(boxes_of(found)) == 3
    found = harvest("coco", root, files={"test": "annotations/instances_odd2017.json"})
    assert found.images["split"].to_list() == ["test"] * 3
    with pytest.raises(UserError, match="did you mean"):
        harvest("coco", root, files={"test": "annotations/instances_od.json"})


def test_a_folder_a_split_with_its_json_beside_the_images(tmp_path):
    for split in ("train", "valid"):
        part = copy.deepcopy(COCO)
        for row in part["images"]:
            picture(tmp_path, f"{split}/{row['file_name']}", 20, 10)
            row["patient_id"] = f"{split}{row['patient_id']}"
        write(tmp_path, {f"{split}/_annotations.coco.json": json.dumps(part)})
    found = harvest("coco", tmp_path, pixels="copy")
    assert found.images.height == 6
    assert dict(found.images.select("file", "split").rows())["valid/a.png"] == "validation"


def test_bad_annotations_are_rejected_by_row_and_the_good_ones_survive(tmp_path):
    bad = [
        {"id": 4, "image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2]},
        {"id": 5, "image_id": 1, "category_id": 9, "bbox": [1, 1, 2, 2]},
        {"id": 6, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2]},
        {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, "2", 2]},
        {"id": 8, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 2]},
        {"id": 9, "image_id": 1, "category_id": 1, "bbox": [15, 1, 15, 2]},
        {"id": 10, "image_id": 1, "category_id": 1},
        "no object",
        {"id": 11, "image_id": 1, "category_id": 1, "bbox": [1, 1, 10**400, 2]},
        {"id": 12, "image_id": 1, "category_id": 1, "segmentation": {"counts": "abc", "size": [10, 20]}},
    ]
    found = harvest("coco", root_of(tmp_path, changed(annotations=bad)))
    where = "instances.json:annotations"
    assert {(file, row) for file, row, _ in reasons(found)} == {(where, row) for row in range(4, 14)}
    said_of = {row: why for _, row, why in reasons(found)}
    assert said_of[4] == "its image is in no table of images"
    assert said_of[5] == "category 9 is not in categories"
    assert "not four numbers" in said_of[6]
    assert "not four numbers" in said_of[7]
    assert "empty or reversed" in said_of[8]
    assert "leaves the image" in said_of[9]
    assert "neither a bbox nor an outline" in said_of[10]
    assert said_of[11] == "is no object"
    assert "compressed mask" in said_of[13]
    assert boxes_of(found) == {"a.png": [[0.25, 0.1, 0.5, 0.6], [0, 0, 1, 1]]}


def test_bad_images_are_rejected_by_row(tmp_path):
    bad = [{"file_name": "d.png"}, "no object", {"id": 6}, {"id": 7, "file_name": "a.png", "patient_id": 7}]
    found = harvest("coco", root_of(tmp_path, changed(images=bad)))
    where = "instances.json:images"
    assert reasons(found) == {
        (where, 4, "id is missing"): 1,
        (where, 5, "id is missing"): 1,
        (where, 6, "no image is named"): 1,
        (where, 7, "image is taken by an earlier row"): 1,
    }
    assert found.images.height == 3


def test_an_id_of_several_images_is_ambiguous_with_all_that_is_said_of_it(tmp_path):
    more = [{"id": 1, "file_name": "z.png", "width": 20, "height": 10, "patient_id": 9}]
    found = harvest("coco", root_of(tmp_path, changed(images=more)))
    assert [image for image, _ in said(found, "findings")] == ["b.png", "c.png"]
    assert {row for file, row, why in reasons(found) if "stands for several images" in why} == {1, 2, 4}


def test_annotations_with_one_id_are_all_read_and_repeated_ones_once(tmp_path):
    more = [
        {"id": 1, "image_id": 3, "category_id": 1, "bbox": [1, 1, 4, 4]},
        {"id": 1, "image_id": 3, "category_id": 1, "bbox": [1, 1, 4, 4]},
    ]
    found = harvest("coco", root_of(tmp_path, changed(annotations=more)))
    assert boxes_of(found)["c.png"] == [[0.05, 0.1, 0.25, 0.5]]
    assert dropped(found, "boxes said once") == {"said before": 1}


def test_ids_as_text_and_numbers_are_the_same(tmp_path):
    mixed = copy.deepcopy(COCO)
    mixed["annotations"][0] |= {"image_id": "1", "category_id": 1.0}
    assert boxes_of(harvest("coco", root_of(tmp_path, mixed)))["a.png"][0] == [0.25, 0.1, 0.5, 0.6]


def test_an_outline_stands_for_a_missing_box(tmp_path):
    polygons = [[5, 1, 10, 1, 10, 6], [6, 2, 7, 3, 8, 2]]
    mask = {"size": [10, 20], "counts": [53, 4, 6, 4, 133]}
    more = [
        {"id": 4, "image_id": 3, "category_id": 1, "segmentation": polygons},
        {"id": 5, "image_id": 3, "category_id": 2, "bbox": [], "segmentation": mask},
    ]
    found = harvest("coco", root_of(tmp_path, changed(annotations=more)))
    assert boxes_of(found)["c.png"] == [[0.25, 0.1, 0.5, 0.6], [0.25, 0.3, 0.35, 0.7]]


def test_the_box_of_run_lengths_is_that_of_the_mask():
    rng = np.random.default_rng(3)
    for _ in range(200):
        mask = rng.random((rng.integers(1, 7), rng.integers(1, 7))) < 0.2
        flat = [*mask.T.ravel().tolist()]
        runs, value = [0], False
        for pixel in flat:
            if pixel != value:
                runs.append(0)
                value = pixel
            runs[-1] += 1
        box, why = _box({"segmentation": {"size": list(mask.shape), "counts": runs}})
        if not mask.any():
            assert box is None
            assert why
            continue
        ys, xs = np.nonzero(mask)
        assert box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_resized_files_do_no_harm_and_turned_ones_do(tmp_path):
    picture(tmp_path, "images/a.png", 40, 20)
    picture(tmp_path, "images/c.png", 10, 20)
    more = [{"id": 9, "image_id": 3, "category_id": 1, "bbox": [1, 1, 4, 4]}]
    found = harvest("coco", root_of(tmp_path, changed(annotations=more)), pixels="copy")
    assert boxes_of(found) == {"a.png": [[0.25, 0.1, 0.5, 0.6], [0, 0, 1, 1]]}
    assert reasons(found) == {
        ("instances.json:annotations", 4, "image file has another shape than the JSON says"): 1
    }


def test_without_sizes_in_the_json_those_of_the_files_count(tmp_path):
    bare = copy.deepcopy(COCO)
    for row in bare["images"]:
        del row["width"], row["height"]
    picture(tmp_path, "a.png", 20, 10)
    assert boxes_of(harvest("coco", root_of(tmp_path, bare)))["a.png"][0] == [0.25, 0.1, 0.5, 0.6]


def test_patients_by_field_by_pattern_or_by_image(tmp_path):
    root = root_of(tmp_path)
    with pytest.raises(UserError, match="unknown field of images 'patientid': did you mean 'patient_id'"):
        harvest("coco", root, patient="patientid")
    found = harvest("coco", root, patient_from="([ab])")
    assert found.images["patient_id"].to_list() == ["a", "b"]
    assert [row for _, row, why in reasons(found) if "finds no patient" in why] == [3]
    bare = copy.deepcopy(COCO)
    for row in bare["images"]:
        del row["patient_id"]
    found = harvest("coco", root_of(tmp_path, bare))
    assert found.images["patient_id"].to_list() == ["a.png", "b.png", "c.png"]
    assert any("patient of its own" in note for note in found.notes)


def test_files_that_are_no_coco_are_passed_over_or_named(tmp_path):
    captions = {"images": [], "annotations": [{"caption": "x"}]}
    root = root_of(tmp_path)
    write(root, {"captions.json": json.dumps(captions), "broken.json": "{"})
    assert harvest("coco", root).images.height == 3
    (root / "instances.json").unlink()
    with pytest.raises(
        UserError, match=r"images, annotations and categories \(it has broken\.json, captions"
    ):
        harvest("coco", root)
    with pytest.raises(UserError, match=r"captions\.json has no list 'categories'"):
        harvest("coco", root, files={"train": "captions.json"})
    with pytest.raises(UserError, match="needs --root"):
        build(ImageCentric(name="x", source="coco"), tmp_path / "x")


def test_hostile_paths_are_rejected_and_the_rest_is_a_sound_mixture(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    picture(tmp_path, "secret.png", 20, 10)
    root = tmp_path / "root"
    for name in "abc":
        picture(root, f"images/{name}.png", 20, 10)
    (root / "images/link.png").symlink_to(tmp_path / "secret.png")
    names = ["../secret.png", str(tmp_path / "secret.png"), "link.png"]
    bad = [{"id": 10 + n, "file_name": name, "patient_id": 9} for n, name in enumerate(names)]
    write(root, {"annotations/all.json": json.dumps(changed(images=bad))})
    out = build(
        ImageCentric(name="own", source="coco", options={"root": str(root)}), tmp_path / "out", progress=False
    )
    assert {image.image_id for image in read_mixture(out).images} == {"a.png", "b.png", "c.png"}
    lines = (out / "rejected.jsonl").read_text().splitlines()
    assert len(lines) == 3
    # ../secret.png starts beside the JSON file, and so stays inside: there is no such file
    assert sum("lies outside" in line for line in lines) == 2
    assert sum("is missing" in line for line in lines) == 1
    assert check(out).sound

"""Source `chexpert`, quirk by quirk."""

from __future__ import annotations

import pytest

from data_recipes.sources.chexpert import LABELS
from tests.data_recipes.datasets import dropped, harvest, picture, reasons, said, write

HEAD = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(LABELS) + "\n"


def row(path: str, view: str = "Frontal,AP", **values: str) -> str:
    cells = [values.get(label.replace(" ", "_"), "") for label in LABELS]
    return f"CheXpert-v1.0-small/{path},Female,60,{view}," + ",".join(cells) + "\n"


TRAIN = HEAD + "".join(
    [
        row("train/patient1/study1/view1_frontal.jpg", Edema="1.0", Fracture="-1.0", Support_Devices="1.0"),
        row("train/patient1/study1/view2_lateral.jpg", "Lateral,", Edema="1.0"),
        row("train/patient2/study1/view1_frontal.jpg", "Frontal,PA", No_Finding="1.0"),
        row("train/patient3/study1/view1_frontal.jpg", Pneumonia="-1.0"),
        row("train/patient4/study1/view1_frontal.jpg", Pneumonia="0.0"),
        row("train/patient5/study1/view1_frontal.jpg", Edema="0.0", No_Finding="1.0", Support_Devices="1.0"),
    ]
)


def findings(found) -> dict[str, str]:
    return {image.split("/")[2]: target for image, target in said(found, "findings")}


@pytest.fixture
def root(tmp_path):
    return write(tmp_path, {"train.csv": TRAIN})


def test_uncertain_labels_are_neither_listed_nor_asked_about_by_default(root):
    found = harvest("chexpert", root)
    assert findings(found) == {
        "patient1": "edema, support device", "patient2": "no finding", "patient5": "support device",
    }  # fmt: skip
    assert dropped(found, "lists of findings") == {
        "only uncertain labels": 1, "neither a finding nor 'no finding'": 1,
    }  # fmt: skip
    asked = found.entries.filter(found.entries["prompt"].str.contains("fracture|pneumonia"))
    assert asked.height == 0  # nobody is known to have either


@pytest.mark.parametrize(
    ("uncertain", "first", "third"),
    [
        ("positive", "edema, fracture, support device", "pneumonia"),
        ("negative", "edema, support device", None),
    ],
)
def test_uncertain_labels_may_count_as_present_or_absent(root, uncertain, first, third):
    found = findings(harvest("chexpert", root, uncertain=uncertain))
    assert found["patient1"] == first
    assert found.get("patient3") == third


def test_what_is_not_mentioned_is_absent_or_not_asked_about(root):
    def asked_no(found) -> list[str]:
        about = found.entries.filter(
            found.entries["prompt"].str.contains("edema") & (found.entries["target"] == "no")
        )
        return [image.split("/")[2] for image in about["image_id"]]

    assert len(asked_no(harvest("chexpert", root))) == 1
    assert asked_no(harvest("chexpert", root, unmentioned="ignore")) == ["patient5"]  # 0.0, and not blank


def test_labels_are_those_of_the_study_and_the_view_policy_chooses_images(root):
    assert dropped(harvest("chexpert", root), "views") == {"view lateral": 1}
    both = harvest("chexpert", root, views=["PA", "AP", "lateral"])
    patients = both.images.group_by("patient_id").len().rows()
    assert ("chexpert-patient1", 2) in patients
    targets = [target for image, target in said(both, "findings") if "patient1/" in image]
    assert targets == ["edema, support device", "edema"]


def test_the_validation_file_is_the_test_set(tmp_path):
    valid = HEAD + row("valid/patient9/study1/view1_frontal.jpg", Edema="1.0")
    found = harvest("chexpert", write(tmp_path, {"train.csv": TRAIN, "valid.csv": valid}))
    assert set(found.images["split"].head(5)) == {"train+validation"}
    assert found.images["split"][-1] == "test"


def test_paths_count_from_the_edition_or_from_inside_it(tmp_path):
    root = write(tmp_path / "outer", {"CheXpert-v1.0-small/train.csv": TRAIN})
    name = "train/patient2/study1/view1_frontal.jpg"
    picture(root, f"CheXpert-v1.0-small/{name}")
    outer = harvest("chexpert", root, pixels="copy")
    inner = harvest("chexpert", root / "CheXpert-v1.0-small", pixels="copy")
    assert outer.images["file"][1] == f"CheXpert-v1.0-small/{name}"
    assert inner.images["file"][1] == name


def test_bad_paths_and_values_are_rejected(tmp_path):
    bad = TRAIN + row("train/nobody.jpg", Edema="1.0") + row("train/patient8/study1/v.jpg", Edema="maybe")
    found = harvest("chexpert", write(tmp_path, {"train.csv": bad}))
    assert {(row_, why) for _, row_, why in reasons(found)} == {
        (7, "path names no patient and study"),
        (8, "Edema is no number"),
    }


def test_a_path_that_leaves_the_root_is_never_read(tmp_path):
    bad = HEAD + row("../../patient1/study1/secret.jpg", Edema="1.0")
    root = write(tmp_path / "root", {"train.csv": bad})
    picture(tmp_path, "patient1/study1/secret.jpg")
    from data_recipes.stock import open_stock

    options = {"root": str(root), "pixels": "copy"}
    everywhere = lambda images: images["split"].replace({"": "train"})  # noqa: E731
    stock = open_stock("chexpert", options, tmp_path / "out", everywhere, ["findings"], seed=0, shuffle=False)
    assert stock.take(None, label="", progress=False) == []
    assert "lies outside the folder" in stock.rejected[0].reason

"""Source `chexpert_plus`, quirk by quirk."""

from __future__ import annotations

import json

import pytest

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.recipe import build, load_recipe
from data_recipes.sources.chexpert import LABELS
from data_recipes.store import read_mixture
from tests.data_recipes.datasets import dropped, harvest, picture, reasons, said, write

TABLE = "df_chexpert_plus_240401.csv"
HEAD = (
    "path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,split,report,section_findings,"
    "section_impression\n"
)


def path(patient: int, split: str = "train", name: str = "view1_frontal") -> str:
    return f"{split}/patient{patient}/study1/{name}.jpg"


def row(image: str, findings: str = "", impression: str = "", view: str = "Frontal,AP") -> str:
    split, patient = image.split("/")[:2]
    texts = '","'.join((f"NARRATIVE: {findings} {impression}", findings, impression))
    return f'{image},{image[:-3]}dcm,{view},{patient},{split},"{texts}"\n'


def labels(image: str, **values: float) -> str:
    told = {label: values.get(label.replace(" ", "_")) for label in LABELS}
    return json.dumps({"path_to_image": image, **told}) + "\n"


ROWS = HEAD + "".join(
    [
        row(path(1), "Clear lungs. No change since the prior study.",
            "\n1.  NO ACUTE DISEASE.\n\n2. NORMAL HEART."),
        row(path(1, name="view2_lateral"), "Clear lungs.", "1. NO ACUTE DISEASE.", "Lateral,"),
        row(path(2), "", "1. SMALL EFFUSION, 2.5 CM.\n2. UNCHANGED EDEMA.", "Frontal,PA"),
        row(path(3)),
        row(path(4, "valid"), "Edema."),
    ]
)  # fmt: skip
IMPRESSION = "".join(
    [
        labels(path(1), No_Finding=1.0),
        labels(path(1, name="view2_lateral"), No_Finding=1.0),
        labels(path(2), Pleural_Effusion=1.0, Edema=-1.0),
        labels(path(3), No_Finding=1.0),
        labels(path(4, "valid"), No_Finding=1.0),
    ]
)
FINDINGS = "".join(labels(path(n, s), Edema=1.0) for n, s in ((1, "train"), (2, "train"), (4, "valid")))
FILES = {TABLE: ROWS, "chexbert_labels/impression_fixed.json": IMPRESSION,
         "chexbert_labels/findings_fixed.json": FINDINGS}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return write(tmp_path, FILES)


def test_a_report_is_the_findings_or_else_the_impression_without_its_numbers(root):
    found = harvest("chexpert_plus", root)
    assert dict(said(found, "report")) == {
        path(1): "Clear lungs.", path(2): "SMALL EFFUSION, 2.5 CM.", path(4, "valid"): "Edema.",
    }  # fmt: skip
    assert dropped(found, "report texts") == {"report has none of the sections": 1}
    first = harvest("chexpert_plus", root, report={"sections": ["impression"], "priors": "keep"})
    assert dict(said(first, "report")) == {
        path(1): "NO ACUTE DISEASE. NORMAL HEART.", path(2): "SMALL EFFUSION, 2.5 CM. UNCHANGED EDEMA.",
    }  # fmt: skip


def test_labels_of_an_empty_section_are_not_believed(root):
    found = harvest("chexpert_plus", root)
    assert dict(said(found, "findings")) == {path(1): "no finding", path(2): "pleural effusion"}
    assert dropped(found, "labels with a text") == {"section impression is empty": 2}


def test_the_section_whose_labels_are_used_is_a_policy(root):
    found = harvest("chexpert_plus", root, labels="findings")
    assert dict(said(found, "findings")) == {path(1): "edema", path(4, "valid"): "edema"}
    assert dropped(found, "labels with a text") == {"section findings is empty": 1}
    assert dropped(found, "images with labels") == {"no row of labels is about it": 1}
    none = harvest("chexpert_plus", root, labels="none")
    assert set(none.entries["task"]) == {"report"}


def test_without_a_file_of_labels_there_are_reports_and_a_note(tmp_path):
    found = harvest("chexpert_plus", write(tmp_path, {TABLE: ROWS}))
    assert set(found.entries["task"]) == {"report"}
    assert any("impression_fixed.json was not found" in note for note in found.notes)


def test_uncertain_labels_follow_the_policies_of_chexpert(root):
    assert dict(said(harvest("chexpert_plus", root, uncertain="positive"), "findings"))[path(2)] == (
        "edema, pleural effusion"
    )


def test_the_validation_set_is_the_test_set_and_patients_have_the_ids_of_chexpert(root):
    found = harvest("chexpert_plus", root)
    assert found.images.select("patient_id", "split").unique(maintain_order=True).rows() == [
        ("chexpert-patient1", "train+validation"), ("chexpert-patient2", "train+validation"),
        ("chexpert-patient3", "train+validation"), ("chexpert-patient4", "test"),
    ]  # fmt: skip
    assert set(harvest("chexpert_plus", root, splits="drawn").images["split"]) == {""}


def test_where_no_column_says_the_split_the_path_does(tmp_path):
    lines = [line.replace(",split,", ",other,") for line in ROWS.splitlines()]
    found = harvest("chexpert_plus", write(tmp_path, {TABLE: "\n".join(lines)}))
    assert found.images["split"].to_list()[-1] == "test"


def test_views_choose_images_of_a_study(root):
    assert dropped(harvest("chexpert_plus", root), "views") == {"view lateral": 1}
    both = harvest("chexpert_plus", root, views=["PA", "AP", "lateral"])
    assert both.images.height == 5


def test_files_are_found_below_any_folder_with_any_suffix(root):
    picture(root, "PNG/PNG/train/patient1/study1/view1_frontal.png")
    picture(root, "PNG/PNG/train/patient2/study1/view1_frontal.png", 4, 4)
    files = dict(harvest("chexpert_plus", root, pixels="copy").images.select("image_id", "file").rows())
    assert files[path(1)] == "PNG/PNG/train/patient1/study1/view1_frontal.png"
    assert files[path(2)] == "PNG/PNG/train/patient2/study1/view1_frontal.png"
    assert files[path(3)] == path(3)  # so that what is missing has a name


def test_rows_that_are_none_are_rejected(tmp_path):
    bad = IMPRESSION + "{not json\n[1]\n" + labels(path(1)) + labels("train/patient9/study1/x.jpg")
    bad += json.dumps({"path_to_image": path(2), "Edema": "maybe"}) + "\n"
    table = ROWS + row("train/nobody.jpg", "Text.") + row(path(1), "Twice.")
    name = "impression_fixed.json"
    found = harvest("chexpert_plus", write(tmp_path, {TABLE: table, name: bad}))
    assert {tuple(rejection) for rejection in reasons(found)} == {
        (TABLE, 6, "path names no patient and study"),
        (TABLE, 7, "image id is taken by an earlier row"),
        (name, 6, "is no object"),
        (name, 7, "is no object"),
        (name, 8, "image id is taken by an earlier row"),
        (name, 9, "its image is in no table of images"),
        (name, 10, "Edema is no number"),
    }


def test_a_file_of_labels_that_has_none_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="holds no line that is an object"):
        harvest("chexpert_plus", write(tmp_path, {**FILES, "chexbert_labels/impression_fixed.json": "\x00"}))


def test_a_recipe_builds_from_the_files(root, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    for number, split in ((1, "train"), (2, "train"), (3, "train"), (4, "valid")):
        picture(root, f"PNG/{path(number, split)[:-4]}.png", 8 + number, 8)
    changes = {"options.root": str(root), "options.splits": "official"}
    folder = build(load_recipe("imax_chexpert_plus", changes), tmp_path / "out", progress=False)
    mixture = read_mixture(folder)
    assert {image.split for image in mixture.images} >= {"test"}
    assert {entry.task for entry in mixture.entries} == {"report", "findings", "vqa"}
    assert check(folder).sound

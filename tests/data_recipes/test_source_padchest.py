"""Source `padchest`, quirk by quirk."""

from __future__ import annotations

import pytest

from tests.data_recipes.datasets import dropped, harvest, reasons, said, write

NAME = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEAD = ",ImageID,PatientID,Projection,Pediatric,Rows_DICOM,Columns_DICOM,Report,MethodLabel,Labels\n"
TABLE = HEAD + "".join(
    f"{n},{n}.png,{patient},{view},{child},2000,{width},{report},{by},{labels}\n"
    for n, (patient, view, child, width, report, by, labels) in enumerate(
        [
            ("p1", "PA", "No", 1000, " sin hallazg . torax normal .", "Physician", "['normal']"),
            ("p1", "L", "No", 1000, "torax", "Physician", "['normal']"),
            ("p2", "AP_horizontal", "No", 1000, " . ", "RNN_model",
             "\"['COPD signs', ' pneumonia', '', 'pneumonia']\""),
            ("p3", "PA", "PED", 1000, "nin", "Physician", "['normal']"),
            ("p4", "PA", "No", "None", "sin cambi .", "Physician", "\"['unchanged', 'normal']\""),
            ("p5", "PA", "No", 1000, "x .", "RNN_model", "nan"),
            ("p6", "PA", "No", 1000, "y .", "RNN_model", "[]"),
            ("p7", "EXCLUDE", "No", 1000, "y .", "RNN_model", "['exclude']"),
            ("p8", "PA", "No", 1000, "z .", "RNN_model", "pneumonia"),
            ("p9", "PA", "No", 1000, "w .", "RNN_model", "\"['nipples', \"\"Chilaiditi's sign\"\"]\""),
        ]
    )
)  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return write(tmp_path, {NAME: TABLE})


def test_labels_are_lists_written_as_text_with_blanks_doubles_and_capitals(root):
    found = dict(said(harvest("padchest", root), "findings"))
    assert found["0.png"] == "no finding"
    assert found["2.png"] == "copd signs, pneumonia"
    assert found["9.png"] == "chilaiditi's sign, nipples"
    assert found["4.png"] == "no finding"  # "unchanged" says nothing of this image


def test_images_whose_labels_say_nothing_have_no_findings(root):
    found = harvest("padchest", root)
    assert dropped(found, "images with labels") == {"no label says anything of the image": 2}
    assert "5.png" not in dict(said(found, "findings"))
    assert {(row, why) for _, row, why in reasons(found)} == {(9, "labels are no list")}


def test_reports_are_spanish_stems_and_say_so(root):
    found = harvest("padchest", root)
    reports = found.entries.filter(found.entries["task"] == "report")
    assert dict(reports.select("image_id", "target").rows())["0.png"] == "sin hallazg. torax normal."
    assert set(reports["provenance"]) == {"padchest/report/es-stems"}
    assert dropped(found, "report texts") == {"no report": 1}
    assert said(harvest("padchest", root, reports="none"), "report") == []


def test_projections_are_views_and_children_are_left_out(root):
    found = harvest("padchest", root)
    views = dict(found.images.select("image_id", "view").rows())
    assert views["2.png"] == "AP"
    assert dropped(found, "views") == {"view lateral": 1, "view unknown": 1}
    assert dropped(found, "ages") == {"of a child": 1}
    assert "3.png" in dict(said(harvest("padchest", root, adults=False), "findings"))


def test_labels_by_physicians_alone_are_a_policy(root):
    found = harvest("padchest", root, labels="physician")
    assert set(dict(said(found, "findings"))) == {"0.png", "4.png"}
    assert len(said(found, "report")) == 6  # reports need no labels


def test_sizes_are_those_of_the_dicom_file_where_it_says_them(root):
    sizes = dict(harvest("padchest", root).images.select("image_id", "width").rows())
    assert (sizes["0.png"], sizes["4.png"]) == (1000, 0)

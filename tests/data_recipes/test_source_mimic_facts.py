"""Source `mimic`: what each dataset of the family says, quirk by quirk."""

from __future__ import annotations

import io
import tarfile

import polars as pl
import pytest

from data_recipes.errors import UserError
from tests.data_recipes.datasets import boxes_of, dropped, harvest, reasons, said, write
from tests.data_recipes.mimic import REPORTS, archive, core, labels, put, report_name, table


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return put(tmp_path_factory.mktemp("mimic"))


@pytest.fixture(scope="module")
def found(root):
    return harvest("mimic", root)


def kinds(found, task: str) -> dict[str, str]:
    rows = found.entries.filter(pl.col("task") == task).select("image_id", "provenance").rows()
    return {image: kind.rpartition("/")[2] for image, kind in rows}


def test_the_report_is_the_findings_else_the_impression_else_the_last_paragraph(found):
    assert said(found, "report") == [
        ("a1", "The lungs are clear."),  # and not the sentence on an earlier image
        ("b1", "Small effusion."),  # and not the one with ___
        ("b2", "Small effusion."),
        ("c1", "The heart is enlarged. No effusion."),
    ]
    assert dropped(found, "report texts") == {"no sentence is left": 1}


def test_only_the_reports_of_images_that_are_kept_are_read(found):
    (step,) = [step for step in found.funnel.steps if step.step == "read reports"]
    assert step.came == 4  # of five in the archive


def test_reports_may_lie_in_a_tar_archive_or_in_folders(tmp_path, found):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as target:
        for study, text in REPORTS.items():
            info = tarfile.TarInfo(f"mimic/{report_name(study)}")
            info.size = len(text.encode())
            target.addfile(info, io.BytesIO(text.encode()))
    tarred = write(tmp_path / "tar", core(**{"mimic-cxr-reports.tar.gz": packed.getvalue()}))
    folders = {f"mimic-cxr/{report_name(study)}": text for study, text in REPORTS.items()}
    unpacked = write(tmp_path / "folders", core(**folders))
    assert said(harvest("mimic", tarred), "report") == said(found, "report")
    assert said(harvest("mimic", unpacked), "report") == said(found, "report")


def test_a_report_folder_that_is_a_link_out_of_the_root_is_not_followed(tmp_path):
    write(tmp_path / "elsewhere", {report_name("51"): REPORTS["51"]})
    root = write(tmp_path / "root", core())
    (root / "mimic-cxr").mkdir()
    (root / "mimic-cxr/files").symlink_to(tmp_path / "elsewhere/files")
    assert said(harvest("mimic", root), "report") == []


def test_a_broken_report_costs_itself_only(tmp_path):
    packed = archive(REPORTS)
    place = packed.index(b"The heart is enlarged")
    broken = packed[:place] + b"X" + packed[place + 1 :]
    found = harvest("mimic", write(tmp_path, core(**{"mimic-cxr-reports.zip": broken})))
    assert [image for image, _ in said(found, "report")] == ["a1", "b1", "b2"]
    ((name, row, why),) = reasons(found)
    assert (name, row) == (report_name("53"), 1)
    assert why.startswith("is broken in the archive")


def test_labels_of_the_study_stand_with_each_of_its_images(found):
    assert said(found, "findings") == [
        ("a1", "edema"), ("b1", "no finding"), ("b2", "no finding"), ("d1", "cardiomegaly"),
    ]  # fmt: skip
    assert dropped(found, "lists of findings") == {"only uncertain labels": 1}


def test_the_radiologists_labels_of_the_test_set_replace_those_of_the_labeller(root, found):
    assert kinds(found, "findings")["d1"] == "radiologist"
    assert kinds(found, "findings")["a1"] == "chexpert"
    labeller = harvest("mimic", root, test_labels="labeller")
    assert dict(said(labeller, "findings"))["d1"] == "lung opacity"


def test_the_other_labeller_and_other_policies_on_uncertain_labels(root):
    assert dict(said(harvest("mimic", root, labeller="negbio"), "findings"))["a1"] == "pneumothorax"
    positive = harvest("mimic", root, uncertain="positive")
    assert dict(said(positive, "findings"))["a1"] == "edema, fracture"
    assert dict(said(positive, "findings"))["c1"] == "pneumonia"


def test_rows_of_labels_for_unknown_or_repeated_studies_are_rejected(tmp_path):
    rows = [{"study_id": study, "Edema": "1.0"} for study in ("51", "51", "99")]
    root = write(tmp_path, core(**{"mimic-cxr-2.0.0-chexpert.csv": labels(*rows)}))
    assert {(row, why) for _, row, why in reasons(harvest("mimic", root))} == {
        (2, "study is taken by an earlier row"),
        (3, "its study is in no table of images"),
    }


def test_questions_on_labels_are_left_out_where_presence_is_none(root):
    asked = harvest("mimic", root, presence="none", questions=[])
    assert said(asked, "vqa") == []
    assert len(said(harvest("mimic", root, questions=[]), "vqa")) > 0


def test_an_edema_grade_is_that_of_the_best_source(found):
    assert said(found, "severity") == [
        ("b2", "grade 3, alveolar edema"), ("a1", "grade 1, vascular congestion"),
        ("b1", "grade 1, vascular congestion"),
    ]  # fmt: skip
    assert kinds(found, "severity") == {"b2": "consensus", "a1": "expert", "b1": "regex"}
    assert dropped(found, "one grade an image") == {"graded by a better source, or twice": 2}
    assert ("regex_report_edema_severity.csv", 4, "edema_severity is not 0, 1, 2 or 3") in reasons(found)
    assert any("1 by consensus, 1 by expert, 1 by regex" in note for note in found.notes)


def test_boxes_of_ms_cxr_are_width_and_height_and_one_phrase_may_have_two(found):
    assert boxes_of(found) == {
        "a1": [[0.1, 0.1, 0.4, 0.3], [0.6, 0.1, 0.9, 0.3]], "c1": [[0, 0, 0.5, 0.5]],
    }  # fmt: skip
    assert [target for _, target in said(found, "reg")] == ["left base", "left base", "pneumonia"]
    assert said(found, "rec")[0] == ("a1", "{box} {box}")


def test_ms_cxr_as_a_table_says_the_same_and_its_test_patients_are_held_out(tmp_path, found):
    header = [
        "dicom_id",
        "category_name",
        "label_text",
        "path",
        "x",
        "y",
        "w",
        "h",
        "image_width",
        "image_height",
        "split",
    ]
    rows = [
        ["a1", "Pneumonia", "left base", "", 100, 200, 300, 400, 1000, 2000, "train"],
        ["a1", "Pneumonia", "left base", "", 600, 200, 300, 400, 1000, 2000, "train"],
        ["c1", "Pneumonia", "", "", 0, 0, 500, 1000, 1000, 2000, "test"],
    ]
    root = write(tmp_path, core(**{"MS_CXR_Local_Alignment_v1.1.0.csv": table(header, rows)}))
    same = harvest("mimic", root)
    assert boxes_of(same) == boxes_of(found)
    assert said(same, "reg") == said(found, "reg")
    assert dict(same.images.select("image_id", "split").rows()) == {
        "a1": "train", "b1": "train", "b2": "train", "c1": "test", "d1": "test",
    }  # fmt: skip


def test_answers_are_lists_and_an_empty_one_is_none(root, found):
    assert said(found, "vqa", "a1")[-3:] == [("a1", "no"), ("a1", "none"), ("a1", "no")]
    assert ("b1", "left lung, right lung") in said(found, "vqa")
    short = harvest("mimic", root, empty_answer="drop")
    assert ("a1", "none") not in said(short, "vqa")
    assert dropped(short, "empty answers") == {"answer is the empty list": 1}


def test_questions_on_unknown_images_and_rows_that_are_no_objects_are_rejected(found):
    assert ("valid.json", 1, "its image is in no table of images") in reasons(found)
    assert ("valid.json", 2, "is no object") in reasons(found)
    assert dropped(found, "questions of images kept") == {"its image was left out": 1}  # the lateral one


def test_questions_on_differences_are_dropped_and_others_go_to_the_one_image_of_the_study(root, found):
    assert dropped(found, "questions on one image") == {"asks for the difference from an earlier image": 1}
    assert dropped(found, "image of a question") == {"the image it is about was left out, or is not known": 1}
    asked = found.entries.filter(pl.col("prompt").str.contains("nodule"))
    assert asked["image_id"].to_list() == ["a1"]


def test_a_table_may_say_which_image_of_its_study_a_question_is_about(tmp_path):
    root = put(
        tmp_path,
        **{"mimic_all.csv": table(["study_id", "dicom_id", "view"], [["52", "b2", "PA"], ["51", "a2", ""]])},
    )
    found = harvest("mimic", root)
    asked = found.entries.filter(pl.col("prompt").str.contains("Which view|nodule"))
    assert asked["image_id"].to_list() == ["b2"]  # a2 is lateral, and was left out


def test_scene_graphs_are_read_only_when_asked_for(root, found):
    assert not any("scene graph" in step.step for step in found.funnel.steps)
    graphs = harvest("mimic", root, imagenome=["regions"])
    assert dropped(graphs, "images with a scene graph") == {"has no scene graph": 2}
    assert any(why.startswith("is no scene graph") for _, _, why in reasons(graphs))  # c1


def test_regions_of_a_scene_graph_are_boxes_of_the_original_image(root):
    found = harvest("mimic", root, imagenome=["regions"])
    phrases = found.entries.filter((pl.col("task") == "reg") & (pl.col("image_id") == "a1"))
    told = dict(zip(phrases["target"], phrases["boxes"].to_list(), strict=True))
    assert told["cardiac silhouette"] == [[0.2, 0.5, 0.7, 0.8]]
    assert told["left lung"] == [[0.5, 0.05, 0.95, 0.75]]
    assert any("box leaves the image" in why for _, _, why in reasons(found))  # of b1
    one = harvest("mimic", root, imagenome=["regions"], graph_sample=1)
    assert dropped(one, "regions taken") == {"more than 1 of its graph": 1}


def test_attributes_are_asked_about_as_often_with_yes_as_with_no(root):
    options = {"imagenome": ["questions"], "graph_sample": 9, "hold_out": ["questions"], "splits": "drawn"}
    found = harvest("mimic", root, **options)
    asked = found.entries.filter(pl.col("provenance").str.ends_with("/region"))
    told = {
        (image, prompt.partition("?")[0]): target
        for image, prompt, target in asked.select("image_id", "prompt", "target").rows()
    }
    assert told == {
        ("a1", "Is there lung opacity in the left lung"): "yes",
        ("b1", "Is there lung opacity in the left lung"): "no",
        ("a1", "Is there pneumonia in the left lung"): "no",
        ("b1", "Is there pneumonia in the left lung"): "yes",
    }  # and nothing on the large heart, which no graph denies


def test_scene_graphs_may_label_findings(root):
    found = harvest("mimic", root, labeller="imagenome")
    assert said(found, "findings") == [
        ("a1", "enlarged cardiac silhouette, lung opacity"),
        ("b1", "pneumonia"),
    ]


def test_scene_graphs_may_lie_in_a_folder(tmp_path, root):
    import zipfile

    with zipfile.ZipFile(root / "imagenome/silver_dataset/scene_graph.zip") as packed:
        graphs = {f"imagenome/silver_dataset/{name}": packed.read(name) for name in packed.namelist()}
    folder = write(tmp_path, core(**graphs))
    options = {"labeller": "imagenome", "imagenome": ["regions"]}
    assert said(harvest("mimic", folder, **options), "findings") == said(
        harvest("mimic", root, **options), "findings"
    )


def test_an_unknown_value_of_an_option_gets_a_guess(root):
    with pytest.raises(UserError, match="did you mean 'chexpert'"):
        harvest("mimic", root, labeller="chexprt")
    with pytest.raises(UserError, match="did you mean 'findings'"):
        harvest("mimic", root, require=["finding"])

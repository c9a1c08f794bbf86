"""Source `padchest_gr`, quirk by quirk."""

from __future__ import annotations

import json
from typing import Any

import pytest

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.recipe import build, load_recipe
from data_recipes.store import read_mixture
from tests.data_recipes.datasets import boxes_of, dropped, harvest, picture, reasons, said, write

REPORTS, TABLE = "grounded_reports_20240819.json", "master_table.csv"


def finding(en: str, labels: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """A sentence; without labels one of nothing abnormal, which lacks the other keys."""
    told = {"sentence_en": en, "sentence_es": f"{en.rstrip('.')} (es).", "abnormal": labels is not None}
    return {**told, **({"labels": labels, "locations": []} if labels is not None else {}), **more}


def study(number: int, *findings: Any) -> dict[str, Any]:
    return {
        "StudyID": f"s{number}", "ImageID": f"i{number}.png", "PreviousStudyID": None, "findings": [*findings]
    }  # fmt: skip


NODULE = finding("Nodule in the left lung.", ["nodule", "granuloma"], boxes=[[0.6, 0.2, 0.8, 0.4]],
                 extra_boxes=[[0.62, 0.2, 0.82, 0.4]], progression=None)  # fmt: skip
STABLE = finding("Stable cardiomegaly.", ["cardiomegaly"], boxes=[[0.3, 0.5, 0.7, 0.8]],
                 extra_boxes=[], progression="stable")  # fmt: skip
EFFUSION = finding("COPD signs with effusion", ["Pleural_effusion"], extra_boxes=[],
                   boxes=[[0.0, 0.6, 0.2, 0.9], [0.8, 0.6, 1.0, 0.9]])  # fmt: skip
STUDIES = [
    study(1, NODULE, STABLE, finding("No effusion.")),
    study(2, finding("Clear lungs.")),
    study(3, EFFUSION),
    study(4, STABLE),
]
MASTER = """StudyID,ImageID,label,boxes_count,split,PatientID
s1,i1.png,nodule,1,train,p1
s1,i1.png,cardiomegaly,1,train,p1
s2,i2.png,Normal,0,validation,p2
s3,i3.png,pleural effusion,2,test,p3
s4,i4.png,cardiomegaly,1,test,p4
"""


def files(*studies: Any, master: str = MASTER) -> dict[str, str]:
    return {REPORTS: json.dumps([*studies]), TABLE: master}


@pytest.fixture
def root(tmp_path):
    return write(tmp_path, files(*STUDIES))


def test_a_report_is_the_sentences_that_compare_with_nothing_earlier(root):
    found = harvest("padchest_gr", root)
    assert dict(said(found, "report")) == {
        "i1.png": "Nodule in the left lung. No effusion.", "i2.png": "Clear lungs.",
        "i3.png": "COPD signs with effusion.",
    }  # fmt: skip
    assert dropped(found, "sentences of reports") == {"compares with an earlier image": 2}
    assert dropped(found, "report texts") == {"no sentence is left": 1}
    kept = dict(said(harvest("padchest_gr", root, priors="keep"), "report"))
    assert kept["i4.png"] == "Stable cardiomegaly."


def test_the_language_of_reports_and_phrases_is_a_policy_and_recorded(root):
    found = harvest("padchest_gr", root, language="spanish")
    reports = found.entries.filter(found.entries["task"] == "report")
    assert dict(reports.select("image_id", "target").rows())["i2.png"] == "Clear lungs (es)."
    assert set(reports["provenance"]) == {"padchest_gr/report/es"}
    english = harvest("padchest_gr", root).entries
    assert set(english.filter(english["task"] == "report")["provenance"]) == {"padchest_gr/report/en"}
    assert said(found, "reg", "i1.png") == [("i1.png", "nodule in the left lung (es)")]


def test_labels_of_abnormal_sentences_are_findings(root):
    found = harvest("padchest_gr", root)
    assert dict(said(found, "findings")) == {
        "i1.png": "cardiomegaly, granuloma, nodule", "i2.png": "no finding", "i3.png": "pleural effusion",
        "i4.png": "cardiomegaly",
    }  # fmt: skip
    drawn = harvest("padchest_gr", root, splits="drawn").entries  # all in one split, so that all are asked
    asked = drawn.filter(drawn["prompt"].str.contains("free of findings"))
    assert ("i2.png", "yes") in asked.select("image_id", "target").rows()
    assert sorted(asked["target"]) == ["no", "yes"]


def test_an_abnormal_sentence_without_a_label_makes_its_list_of_findings_unknown(tmp_path):
    root = write(tmp_path, files(study(1, NODULE, finding("Something.", [])), *STUDIES[1:]))
    found = harvest("padchest_gr", root)
    assert dropped(found, "images with labels") == {"an abnormal sentence has no label": 1}
    assert "i1.png" not in dict(said(found, "findings"))


def test_a_study_without_a_sentence_says_nothing_of_its_image(tmp_path):
    found = harvest("padchest_gr", write(tmp_path, files(study(1), STUDIES[1])))
    assert dropped(found, "images with labels") == {"study has no sentence": 1}


def test_a_sentence_is_a_phrase_with_all_its_boxes_in_fractions(root):
    found = harvest("padchest_gr", root)
    assert boxes_of(found) == {
        "i1.png": [[0.6, 0.2, 0.8, 0.4]], "i3.png": [[0, 0.6, 0.2, 0.9], [0.8, 0.6, 1, 0.9]],
    }  # fmt: skip
    prompts = found.entries.filter(found.entries["task"] == "rec")["prompt"].to_list()
    assert any("nodule in the left lung" in prompt for prompt in prompts)
    assert any("COPD signs with effusion" in prompt for prompt in prompts)  # an abbreviation stays one
    assert dropped(found, "sentences with boxes") == {"has no box": 2, "compares with an earlier image": 2}


def test_labels_may_be_the_phrases(root):
    found = harvest("padchest_gr", root, phrases="label")
    assert {target for _, target in said(found, "reg")} == {"cardiomegaly", "pleural effusion"}
    assert len(boxes_of(found)["i1.png"]) == 3  # two labels of one box, which tell nobody which is meant
    assert dropped(found, "boxes that tell what is meant") == {"another phrase has nearly the same box": 2}


@pytest.mark.parametrize(
    ("readers", "boxes"),
    [
        ("first", [[0.6, 0.2, 0.8, 0.4]]),
        ("wbf", [[0.61, 0.2, 0.81, 0.4]]),
        ("majority", [[0.61, 0.2, 0.81, 0.4]]),
        ("any", [[0.6, 0.2, 0.8, 0.4], [0.62, 0.2, 0.82, 0.4]]),
    ],
)
def test_the_second_readers_boxes_are_a_policy(root, readers, boxes):
    found = boxes_of(harvest("padchest_gr", root, readers=readers))
    assert found["i1.png"] == boxes
    assert len(found["i3.png"]) == 2  # nobody else read it: the first reader's boxes stand


def test_the_master_table_has_a_row_a_sentence_and_says_patient_and_split(root):
    found = harvest("padchest_gr", root)
    assert found.images.select("patient_id", "split").rows() == [
        ("padchest-p1", "train"), ("padchest-p2", "validation"), ("padchest-p3", "test"),
        ("padchest-p4", "test"),
    ]  # fmt: skip
    assert dropped(found, "one row a study") == {"a further row of its study": 1}
    assert set(harvest("padchest_gr", root, splits="drawn").images["split"]) == {""}


def test_views_come_from_padchests_own_table(tmp_path):
    padchest = "ImageID,Projection\ni1.png,PA\ni2.png,L\n"
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    found = harvest("padchest_gr", write(tmp_path, {**files(*STUDIES), name: padchest}))
    views = dict(found.images.select("image_id", "view").rows())
    assert views == {"i1.png": "PA", "i3.png": "unknown", "i4.png": "unknown"}
    assert dropped(found, "sentences of images kept") == {"its image was left out": 1}


def test_studies_and_sentences_that_are_none_are_rejected_by_their_place(tmp_path):
    bad = [
        "no study", {"StudyID": "s5"}, {"StudyID": "s1", "ImageID": "i5.png", "findings": None},
        study(9, finding("Unknown.")),
        study(3, "no finding", finding("", ["nodule"]), finding("Odd.", ["nodule"], abnormal="yes"),
              finding("Labels.", "nodule"), finding("Box.", ["nodule"], boxes=[[0, 0, 1]]),
              finding("Truth.", ["nodule"], boxes=[[0, 0, True, 1]]),
              finding("Pixels.", ["nodule"], boxes=[[10, 10, 200, 200]]),
              finding("Reversed.", ["mass"], boxes=[[0.5, 0.5, 0.4, 0.9]])),
    ]  # fmt: skip
    found = harvest("padchest_gr", write(tmp_path, files(*STUDIES[:2], *bad)))
    assert sorted((row, why) for _, row, why in reasons(found).elements()) == sorted(
        [
            (3, "study is no object with an ImageID and a list of findings"),
            (4, "study is no object with an ImageID and a list of findings"),
            (5, "its findings are no list"),
            (6, "patient id is missing"),
            (6, "its image is in no table of images"),
            (7, "finding has no sentence_en"),
            (7, "finding has no sentence_en"),
            (7, "abnormal is neither true nor false"),
            (7, "labels are no list of words"),
            (7, "box is not four numbers"),
            (7, "box is not four numbers"),
            (7, "box leaves the image: is it in the scale of another?"),
            (7, "box is empty or reversed: it needs x1 < x2 and y1 < y2"),
        ]
    )
    assert dict(said(found, "report"))["i3.png"] == "Pixels. Reversed."


def test_a_file_that_is_cut_or_no_list_is_one_clear_line(tmp_path):
    whole = json.dumps(STUDIES)
    for text, message in ((whole[:-9], "is truncated"), ('{"a": 1}', "holds no list")):
        with pytest.raises(UserError, match=message):
            harvest("padchest_gr", write(tmp_path, {REPORTS: text, TABLE: MASTER}))


def test_the_recipe_builds_from_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    root = write(tmp_path / "root", files(*STUDIES))
    for number in range(1, 5):
        picture(root, f"Padchest_GR_files/PadChest_GR/i{number}.png", 16, 8 + number)
    recipe = load_recipe("imax_padchest_gr", {"options.root": str(root)})
    folder = build(recipe, tmp_path / "out", progress=False)
    mixture = read_mixture(folder)
    assert {image.split for image in mixture.images} == {"train", "validation", "test"}
    assert {entry.task for entry in mixture.entries} == {"report", "findings", "vqa", "rec", "reg"}
    assert check(folder).sound
    assert mixture.meta["recipe"]["options"]["language"] == "english"

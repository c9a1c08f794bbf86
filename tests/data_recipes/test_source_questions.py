"""Sources `vqa_rad` and `slake`, quirk by quirk."""

from __future__ import annotations

import json

import pytest

from data_recipes.errors import UserError
from tests.data_recipes.datasets import dropped, harvest, picture, reasons, said, write

RAD = "VQA_RAD Dataset Public.json"


def rad(
    image: str, question: str, answer, phrase: str = "freeform", organ: str = "CHEST", kind: str = "PRES"
):
    return {
        "image_name": image, "question": question, "answer": answer, "phrase_type": phrase,
        "image_organ": organ, "question_type": kind, "qid": 1,
    }  # fmt: skip


ROWS = [
    rad("a.jpg", "Is it big?", "Yes"),
    rad("a.jpg", "How many?", 2, kind="COUNT, PRES"),
    rad("b.jpg", "Is it?", "No", phrase="test_freeform"),
    rad("b.jpg", "Is it so?", "No", phrase="para"),
    rad("c.jpg", "Where?", "The liver.", organ="ABD"),
    rad("d.jpg", "Where?", ""),
    "no object",
]


def test_a_test_image_keeps_its_test_questions_only(tmp_path):
    found = harvest("vqa_rad", write(tmp_path, {RAD: json.dumps(ROWS)}))
    assert said(found, "vqa") == [("a.jpg", "yes"), ("a.jpg", "2"), ("b.jpg", "no")]
    assert dict(found.images.select("image_id", "split").rows())["b.jpg"] == "test"
    assert dropped(found, "questions by split") == {"training question on a test image": 1}
    assert dropped(found, "organs") == {"image of another organ": 1}
    assert {row: why for _, row, why in reasons(found)} == {7: "is no object", 6: "answer is None"}
    assert found.entries["provenance"].to_list()[:2] == ["vqa_rad/vqa/pres", "vqa_rad/vqa/count"]
    everything = harvest("vqa_rad", tmp_path, splits="drawn", organs=["CHEST", "ABD"])
    assert len(said(everything, "vqa")) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"a": 1}', "holds no list"), ("[{", "truncated"), ('[{"image": "a"}]', "did you mean 'image'")],
)
def test_a_broken_list_is_one_clear_line(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        harvest("vqa_rad", write(tmp_path, {RAD: content}))


def slake(image: str, answer: str, lang: str = "en", modality: str = "X-Ray", location: str = "Lung"):
    return {
        "img_name": f"xmlab{image}/source.jpg", "question": "What is it?", "answer": answer, "q_lang": lang,
        "modality": modality, "location": location, "content_type": "Organ",
    }  # fmt: skip


def test_slake_keeps_english_questions_on_chest_radiographs_and_finds_the_image_by_its_folder(tmp_path):
    files = {
        "Slake1.0/train.json": [
            slake("1", "Lung"), slake("2", "肺", lang="zh"), slake("3", "Liver", location="Abdomen"),
        ],
        "Slake1.0/validate.json": [slake("4", "Lung", modality="CT"), slake("5", "Heart")],
        "Slake1.0/test.json": [slake("6", "Lung"), slake("1", "Heart")],
    }  # fmt: skip
    root = write(tmp_path, {name: json.dumps(rows) for name, rows in files.items()})
    for n in (1, 5, 6):
        picture(root, f"Slake1.0/imgs/xmlab{n}/source.jpg")
    found = harvest("slake", root, pixels="copy")
    assert dict(found.images.select("file", "split").rows()) == {
        "Slake1.0/imgs/xmlab1/source.jpg": "test",  # it has a question in the test set
        "Slake1.0/imgs/xmlab5/source.jpg": "validation",
        "Slake1.0/imgs/xmlab6/source.jpg": "test",
    }
    assert dropped(found, "chest radiographs") == {
        "another language": 1, "another modality": 1, "another part of the body": 1,
    }  # fmt: skip
    assert [target for _, target in said(found, "vqa")] == ["lung", "heart", "lung", "heart"]

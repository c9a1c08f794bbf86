"""Questions and answers: MIMIC-Ext-MIMIC-CXR-VQA (about an image) and Medical-Diff-VQA (about a study).

Quirks: the answer of the first is a list, empty where nothing is there; its files split by patient, but for
some 700 patients in both training and validation. A question of the second may ask what differs from an
earlier image, which a single image does not answer; `mimic_all.csv` says which image of the study is meant.
"""

from __future__ import annotations

import polars as pl

from data_recipes import scan
from data_recipes.dataset import Dataset
from data_recipes.sources.mimic.cohort import Cohort, dicom
from data_recipes.sources.mimic.options import Options

_VQA = ("vqa_train", "vqa_valid", "vqa_test")


def read_questions(data: Dataset, options: Options) -> pl.DataFrame | None:
    """MIMIC-CXR-VQA: image_id, subject_id, question, answer, kind, test, file, row; None where no file is."""
    parts = []
    for key in _VQA if "mimic_cxr_vqa" in options.questions else ():
        if data.has(key):
            columns = {"image_id": "image_id", "question": "question", "answer": "answer"}
            more = {"kind": "content_type", "subject_id": "subject_id"}
            rows = scan.read_json(data.path(key), columns, data.funnel, optional=more, empty_list="none")
            parts.append(rows.with_columns(test=pl.lit(key == "vqa_test")))
    return pl.concat(parts).with_columns(dicom("image_id").alias("image_id")) if parts else None


def write_questions(cohort: Cohort, asked: pl.DataFrame, options: Options) -> None:
    asked = cohort.of_images(asked, "questions")
    if options.empty_answer == "drop":
        empty = {"answer is the empty list": pl.col("answer") == "none"}
        asked = cohort.data.funnel.keep("empty answers", "questions", asked, empty)
    cohort.data.writer.answers(asked.with_columns(pl.col("kind").fill_null("other")))


def write_study_questions(cohort: Cohort) -> None:
    """Medical-Diff-VQA, without questions on differences."""
    data = cohort.data
    columns = {"study_id": "study_id", "kind": "question_type", "question": "question", "answer": "answer"}
    asked = data.table("diff", columns)
    differs = {"asks for the difference from an earlier image": pl.col("kind") == "difference"}
    asked = data.funnel.keep("questions on one image", "study questions", asked, differs)
    asked = cohort.of_studies(asked, "study questions")
    images = cohort.images.select("study_id", "image_id")
    if data.has("diff_images"):
        meant = data.table("diff_images", {"study_id": "study_id", "image_id": "dicom_id"})
        meant = meant.unique("study_id", keep="first", maintain_order=True)
        meant = meant.select("study_id", dicom("image_id").alias("image_id"))
        chosen = images.join(meant, on=["study_id", "image_id"], how="semi", maintain_order="left")
    else:
        chosen = images.filter(pl.col("image_id").count().over("study_id") == 1)
    found = asked.join(chosen, on="study_id", how="left", maintain_order="left")
    unclear = {"the image it is about was left out, or is not known": pl.col("image_id").is_null()}
    data.writer.answers(data.funnel.keep("image of a question", "study questions", found, unclear))

"""Source `vqa_rad`: VQA-RAD, questions of clinicians on radiology images and their answers.

Quirks: one JSON list; `phrase_type` starting with `test` is the authors' test set, which shares images with
their training set; paraphrases are rows of their own; answers may be numbers; other organs are among them.
"""

from __future__ import annotations

import polars as pl
from pydantic import Field

from data_recipes import scan
from data_recipes.dataset import Dataset, UnknownViewOptions, fingerprint_of
from data_recipes.files import Needed
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence

NAME = "vqa_rad"
VERSION = "2"
LICENCE = Licence(
    "CC0 1.0",
    access="open",
    share="all of it",
    hub="cc0-1.0",
    page="osf.io/89kps",
    cite=Cite(
        "lau2018vqarad",
        "Lau, Jason J. and Gayen, Soumya and Ben Abacha, Asma and Demner-Fushman, Dina",
        "A dataset of clinically generated visual questions and answers about radiology images",
        "Scientific Data 5, 180251",
        2018,
    ),
)
FILES = (Needed("questions", ("VQA_RAD Dataset Public.json",), "questions: vqa"),)
NOTES = (
    "VQA-RAD: the authors' test set shares images with their training set. Here an image with a test "
    "question is a test image and keeps its test questions only.",
    "VQA-RAD publishes no patient ids: every image counts as a patient of its own.",
)


class Options(UnknownViewOptions):
    """
    Attributes:
        organs: questions on images of others are left out.
    """

    organs: list[str] = Field(default=["CHEST"])


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    same = ("question", "answer", "phrase_type", "image_organ")
    rows = scan.read_json(
        data.path("questions"),
        {"image_id": "image_name", **{name: name for name in same}},
        data.funnel,
        optional={"kind": "question_type"},
    )
    elsewhere = {"image of another organ": ~pl.col("image_organ").str.strip_chars().is_in(options.organs)}
    rows = data.funnel.keep("organs", "rows", rows, elsewhere)
    test = pl.col("phrase_type").str.starts_with("test").fill_null(False)
    if options.splits == "official":
        in_test = test.any().over("image_id")
        rows = rows.with_columns(
            split=pl.when(in_test).then(pl.lit("test")).otherwise(pl.lit("train+validation"))
        )
        shared = {"training question on a test image": in_test & ~test}
        rows = data.funnel.keep("questions by split", "rows", rows, shared)
    images = rows.unique("image_id", keep="first", maintain_order=True)
    data.funnel.count("images", "rows", rows.height, images.height, "a further question on its image")
    images = data.images(images.with_columns(patient_id=pl.concat_str(pl.lit("vqa_rad-"), "image_id")))
    kind = pl.col("kind").fill_null("other").str.split(",").list.first().str.strip_chars().str.to_lowercase()
    data.writer.answers(data.about(rows.with_columns(kind=kind), images, "questions"))
    return data.harvest(images)

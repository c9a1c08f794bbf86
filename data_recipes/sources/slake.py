"""Source `slake`: SLAKE, questions in English and Chinese on radiology images and their answers.

Quirks: a file a split (`validate.json` or `validation.json`); every image file is called `source.jpg`, in a
folder of its own; CT and MRI and other organs are among the images.
"""

from __future__ import annotations

import polars as pl
from pydantic import Field

from data_recipes import scan
from data_recipes.dataset import Dataset, UnknownViewOptions, fingerprint_of, most_held_out
from data_recipes.files import Needed
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence

NAME = "slake"
VERSION = "2"
LICENCE = Licence(
    "CC BY 4.0",
    access="open",
    share="all of it, with the citation",
    hub="cc-by-4.0",
    page="med-vqa.com/slake",
    cite=Cite(
        "liu2021slake",
        "Liu, Bo and Zhan, Li-Ming and Xu, Li and Ma, Lin and Yang, Yan and Wu, Xiao-Ming",
        "SLAKE: A Semantically-Labeled Knowledge-Enhanced Dataset for Medical Visual Question Answering",
        "IEEE International Symposium on Biomedical Imaging",
        2021,
    ),
)
FILES = (
    Needed("train", ("train.json",), "training questions: vqa", header="q_lang"),
    Needed(
        "validation", ("validation.json", "validate.json"), "official validation set", False, header="q_lang"
    ),
    Needed("test", ("test.json",), "official test set", False, header="q_lang"),
)
NOTES = ("SLAKE publishes no patient ids: every image counts as a patient of its own.",)


class Options(UnknownViewOptions):
    """
    Attributes:
        languages, modalities, locations: other questions, and images of others, are left out.
    """

    languages: list[str] = Field(default=["en"])
    modalities: list[str] = Field(default=["X-Ray"])
    locations: list[str] = Field(default=["Lung"])


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    same = ("question", "answer", "q_lang", "modality", "location")
    parts = []
    for split in ("train", "validation", "test"):
        if data.has(split):
            columns = {"image_id": "img_name", **{name: name for name in same}}
            rows = scan.read_json(data.path(split), columns, data.funnel, optional={"kind": "content_type"})
            parts.append(rows.with_columns(split=pl.lit("" if options.splits == "drawn" else split)))
    drops = {
        "another language": ~pl.col("q_lang").is_in(options.languages),
        "another modality": ~pl.col("modality").is_in(options.modalities),
        "another part of the body": ~pl.col("location").is_in(options.locations),
    }
    questions = data.funnel.keep("chest radiographs", "rows", pl.concat(parts), drops)
    questions = questions.with_columns(split=most_held_out("image_id"))
    images = questions.unique("image_id", keep="first", maintain_order=True)
    data.funnel.count("images", "rows", questions.height, images.height, "a further question on its image")
    images = data.images(images.with_columns(patient_id=pl.concat_str(pl.lit("slake-"), "image_id")))
    kind = pl.col("kind").fill_null("other").str.strip_chars().str.to_lowercase()
    data.writer.answers(data.about(questions.with_columns(kind=kind), images, "questions"))
    return data.harvest(images)

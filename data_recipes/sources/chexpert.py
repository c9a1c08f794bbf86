"""Source `chexpert`: CheXpert, 14 labels a study, mined from reports.

Quirks: a label is 1, 0, -1 (uncertain) or blank (not mentioned), written `1.0`; labels are those of the
study, so its images share them; patient and study stand in the path only, which starts with the edition.
"""

from __future__ import annotations

import re
from typing import Literal

import polars as pl

from data_recipes import chexmask, scan
from data_recipes.dataset import Dataset, fingerprint_of
from data_recipes.files import Needed
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.vocabulary import NO_FINDING, folded

NAME = "chexpert"
VERSION = "1"
LICENCE = Licence(
    "Stanford University Dataset Research Use Agreement",
    access="registration",
    share="nothing may be passed on: neither images nor labels, nor entries made from them",
    page="stanfordmlgroup.github.io/competitions/chexpert",
    cite=Cite(
        "irvin2019chexpert",
        "Irvin, Jeremy and Rajpurkar, Pranav and Ko, Michael and others",
        "CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison",
        "AAAI Conference on Artificial Intelligence 33",
        2019,
    ),
)
FILES = (
    Needed("train", ("train.csv", "chexpert_train.csv"), "labels: findings, vqa", header="Path"),
    Needed("valid", ("valid.csv",), "the official validation set, used as the test set", required=False),
    chexmask.needed("CheXpert"),
)
NOTES = (
    "CheXpert labels were mined from reports and are those of the study: its images share them.",
    "CheXpert: findings and yes-or-no questions are derived from labels.",
)
LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other",
    "Fracture", "Support Devices",
)  # fmt: skip
INNER = pl.col("image_id").str.extract(r"((?:train|valid)/patient.*)$")  # the path without the edition
PATIENT = r"(patient\d+)/study\d+/"


class Options(chexmask.MaskedOptions):
    """
    Attributes:
        uncertain: what -1 counts as. Ignored, it is neither listed nor asked about.
        unmentioned: what a blank counts as in yes-or-no questions; in lists of findings it is absent.
    """

    uncertain: Literal["ignore", "positive", "negative"] = "ignore"
    unmentioned: Literal["negative", "ignore"] = "negative"


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    rows = scan.numbers(_rows(data), LABELS, data.funnel, "numbers of labels")
    images = read_images(data, rows)
    write_labels(data, images, LABELS, options.uncertain, options.unmentioned)
    if data.has("chexmask"):
        chexmask.write_ratios(data, images, "Path", options.masks, INNER)
    return data.harvest(images, files(data))


def read_images(data: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The images of rows whose path (image_id) names patient and study; `frontal` and `side` say the view."""
    path = pl.col("image_id")
    drops = {"path names no patient and study": ~path.str.contains(PATIENT)}
    rows = data.funnel.keep("paths", "rows", rows, drops, reject=True)
    frontal, side = pl.col("frontal").str.to_lowercase(), pl.col("side")
    view = (
        pl.when(frontal == "lateral")
        .then(pl.lit("lateral"))
        .when(side.is_in(["PA", "AP"]))
        .then(side)
        .otherwise(pl.lit("unknown"))
    )
    patient = pl.concat_str(pl.lit("chexpert-"), path.str.extract(PATIENT))
    return data.images(rows.with_columns(patient_id=patient, view=view))


def write_labels(
    data: Dataset,
    images: pl.DataFrame,
    labels: tuple[str, ...],
    uncertain: str,
    unmentioned: str,
    *,
    presence: bool = True,
) -> None:
    """Findings and, unless told otherwise, presence entries from label columns of 1, 0, -1 and null."""
    long = images.select("image_id", *labels).unpivot(index="image_id", variable_name="label")
    meant = {"ignore": None, "positive": 1.0, "negative": 0.0}[uncertain]
    value = pl.col("value")
    doubtful = long.filter(value == -1).select("image_id", folded(pl.col("label")))
    long = long.with_columns(
        folded(pl.col("label")),
        pl.when(value == -1).then(pl.lit(meant, pl.Float64)).otherwise(value).alias("value"),
    )
    present = long.filter(value == 1)
    found = (
        present.filter(pl.col("label") != NO_FINDING)
        .group_by("image_id")
        .agg(pl.col("label").alias("labels"))
    )
    said = images.join(found, on="image_id", how="left", maintain_order="left")
    empty = pl.col("labels").is_null()
    stated = pl.col("image_id").is_in(present["image_id"].unique().implode())
    unsure = pl.col("image_id").is_in(doubtful["image_id"].unique().implode())
    drops = {"only uncertain labels": empty & ~stated & unsure} if uncertain == "ignore" else {}
    drops["neither a finding nor 'no finding'"] = empty & ~stated
    clear = data.funnel.keep("lists of findings", "images", said, drops)
    data.writer.labels(clear.with_columns(pl.col("labels").fill_null([])))
    if not presence:
        return
    silent = value.is_null() & (pl.col("label") != NO_FINDING) if unmentioned == "ignore" else pl.lit(False)
    unknown = long.filter(silent).select("image_id", "label")
    if uncertain == "ignore":
        unknown = pl.concat([unknown, doubtful])
    data.writer.presence(images, present.select("image_id", "label"), unknown)


def _rows(data: Dataset) -> pl.DataFrame:
    columns = {"image_id": "Path", **{label: label for label in LABELS}}
    parts = []
    for key, split in (("train", "train+validation"), ("valid", "test")):
        if data.has(key):
            rows = data.table(key, columns, {"frontal": "Frontal/Lateral", "side": "AP/PA"})
            parts.append(rows.with_columns(split=pl.lit(split)))
    every = pl.concat(parts)
    drawn = data.options.splits == "drawn" or len(parts) == 1
    return every.with_columns(split=pl.lit("")) if drawn else every


def files(data: Dataset) -> pl.Expr:
    """The file of each image below the root: the one whose path ends as the image's does, whatever folders
    it lies in, and whatever its suffix."""
    path = pl.col("image_id")
    if data.options.placing == "skip":
        return path
    places: dict[str, str] = {}
    for file in data.files.image_files:
        if inner := re.search(r"(?:train|valid)/patient[^.]*", file):
            places.setdefault(inner[0], file)
    bare = INNER.str.replace(r"\.\w+$", "")
    return pl.coalesce(bare.replace_strict(places, default=None, return_dtype=pl.String), path)

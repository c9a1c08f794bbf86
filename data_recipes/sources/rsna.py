"""Source `rsna`: the RSNA Pneumonia Detection Challenge, boxes of lung opacity on 26,684 radiographs.

Quirks: boxes are x, y, width, height; an image with several boxes has several rows, one without any has a row
of blanks; the images are those of NIH ChestX-ray14 under other names. Where the challenge's mapping file is
there, patients get their NIH ids, so that a split or a comparison by patient keeps the two apart.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from data_recipes import contents, scan
from data_recipes.dataset import Dataset, UnknownViewOptions, fingerprint_of
from data_recipes.errors import UserError
from data_recipes.files import Needed
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence

NAME = "rsna"
VERSION = "1"
IMAGES_OF = "nih"  # the source whose images these are
LICENCE = Licence(
    "rules of the RSNA Pneumonia Detection Challenge; the images are NIH's",
    access="rules",
    share="the images as NIH allows; the boxes as the rules of the challenge say",
    page="kaggle.com/c/rsna-pneumonia-detection-challenge",
    cite=Cite(
        "shih2019rsna",
        "Shih, George and Wu, Carol C. and Halabi, Safwan S. and others",
        "Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of "
        "Possible Pneumonia",
        "Radiology: Artificial Intelligence 1(1), e180041",
        2019,
    ),
)
FILES = (
    Needed("labels", ("stage_2_train_labels.csv", "kaggle_stage_2_train_labels.csv"), "boxes: rec, reg, vqa"),
    Needed("views", ("kaggle_stage_2_train_images_dicom_headers.csv",), "views (PA or AP)", required=False),
    Needed(
        "mapping",
        ("pneumonia-challenge-dataset-mappings_2018.json",),
        "NIH ids of images and patients, by which leakage is found",
        required=False,
    ),
)
NOTES = (
    "RSNA: images are from NIH ChestX-ray14. Without the mapping file leakage from and to source nih shows "
    "only as equal pixels.",
    "RSNA: the one phrase is 'lung opacity'; yes-or-no questions are derived from whether there is a box.",
)
SIDE = 1024  # pixels of the DICOM files
_LABEL = "lung opacity"


OPTIONS = UnknownViewOptions


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: UnknownViewOptions, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    columns = {name: name for name in ("x", "y", "width", "height")}
    rows = data.table("labels", {"image_id": "patientId", "target": "Target", **columns})
    rows = scan.numbers(rows, ("x", "y", "width", "height", "target"), data.funnel, "numbers")
    images = _images(data, rows)
    drops = {"no box: Target is 0": pl.col("target") == 0}
    boxes = data.funnel.keep("rows with a box", "rows", data.about(rows, images, "rows"), drops)
    boxes = boxes.with_columns(
        phrase=pl.lit(_LABEL),
        x1="x",
        y1="y",
        x2=pl.col("x") + pl.col("width"),
        y2=pl.col("y") + pl.col("height"),
        box_width=SIDE,
        box_height=SIDE,
    )
    data.writer.presence(images, boxes.select("image_id", label="phrase"))
    data.writer.boxes(data.on_image(boxes))
    return data.harvest(images)


def _images(data: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    images = rows.select("image_id", "file", "row", patient_id="image_id").unique(
        "image_id", keep="first", maintain_order=True
    )
    data.funnel.count("images", "rows", rows.height, images.height, "a further row of its image")
    if data.has("views"):
        views = data.table("views", {"image_id": "PatientID", "view": "ViewPosition"})
        views = views.unique("image_id", keep="first").select("image_id", "view")
        images = images.join(views, on="image_id", how="left", maintain_order="left")
    if data.has("mapping"):
        images = images.join(_mapping(data.path("mapping")), on="image_id", how="left", maintain_order="left")
        images = images.with_columns(patient_id=pl.coalesce("nih_patient", "patient_id")).drop("nih_patient")
    return data.images(images.with_columns(data.square(SIDE)))


def _mapping(path: Path) -> pl.DataFrame:
    """image_id and nih_patient, written as source nih writes its patients."""
    try:
        pairs = [
            (item["subset_img_id"], f"nih-{int(item['img_id'].split('_')[0])}")
            for item in json.loads(contents.content(path))
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no list of subset_img_id and img_id ({error!r})") from None
    return pl.DataFrame(pairs, schema=["image_id", "nih_patient"], orient="row").unique(
        "image_id", keep="first"
    )

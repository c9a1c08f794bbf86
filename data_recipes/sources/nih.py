"""Source `nih`: NIH ChestX-ray14, 112,120 frontal radiographs with labels mined from reports, and boxes drawn
by radiologists on 880 of them.

Quirks: boxes are x, y, width, height on the 1024 x 1024 PNG, under a header that is broken
(`Bbox [x,y,w,h],,,`); "Infiltrate" among the boxes is "Infiltration" among the labels.
"""

from __future__ import annotations

import polars as pl

from data_recipes import scan
from data_recipes.dataset import Dataset, DatasetOptions, fingerprint_of
from data_recipes.files import Needed
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.vocabulary import NO_FINDING, folded

NAME = "nih"
VERSION = "1"
OPTIONS = DatasetOptions
LICENCE = Licence(
    "no restriction on use; cite the authors and link to the publisher",
    access="open",
    share="images and labels may be passed on, with the citation",
    page="nihcc.app.box.com/v/ChestXray-NIHCC",
    cite=Cite(
        "wang2017chestxray8",
        "Wang, Xiaosong and Peng, Yifan and Lu, Le and Lu, Zhiyong and Bagheri, Mohammadhadi and "
        "Summers, Ronald M.",
        "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised Classification "
        "and Localization of Common Thorax Diseases",
        "CVPR",
        2017,
    ),
)
FILES = (
    Needed("labels", ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"), "labels: findings, vqa"),
    Needed("boxes", ("BBox_List_2017.csv",), "boxes: rec, reg", required=False),
    Needed("train", ("train_val_list.txt",), "official training images", required=False),
    Needed("test", ("test_list.txt",), "official test images", required=False),
)
NOTES = (
    "NIH labels were mined from reports by their authors, and are wrong for some images.",
    "NIH: findings and yes-or-no questions are derived from labels; phrases to locate are labels of boxes.",
    "RSNA pneumonia and SIIM pneumothorax are made of NIH images: a mixture that tests on one of the three "
    "and trains on another leaks.",
)
SIDE = 1024  # pixels of the published PNG, in which boxes are measured


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: DatasetOptions, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    rows = data.table(
        "labels",
        {"image_id": "Image Index", "said": "Finding Labels", "patient_id": "Patient ID"},
        {"view": "View Position"},
    )
    images = data.images(
        rows.with_columns(
            pl.concat_str(pl.lit("nih-"), "patient_id").alias("patient_id"),
            data.listed({"train": "train+validation", "test": "test"}).alias("split"),
            *data.square(SIDE),
        )
    )
    said = {"labels are missing": pl.col("said").is_null()}
    labelled = data.funnel.keep("labels", "images", images, said, reject=True)
    pairs = labelled.select("image_id", label=pl.col("said").str.split("|")).explode("label")
    pairs = pairs.with_columns(folded(pl.col("label")))
    found = pairs.filter(pl.col("label") != NO_FINDING).group_by("image_id").agg(labels="label")
    findings = labelled.join(found, on="image_id", how="left", maintain_order="left")
    data.writer.labels(findings.with_columns(pl.col("labels").fill_null([])))
    data.writer.presence(labelled, pairs)
    if data.has("boxes"):
        boxes = data.table(
            "boxes",
            {"image_id": "Image Index", "phrase": "Finding Label"}
            | {"x": ("Bbox [x", "x"), "y": "y", "w": "w", "h": ("h]", "h")},
        )
        boxes = scan.numbers(boxes, ("x", "y", "w", "h"), data.funnel, "numbers of boxes", rows="boxes")
        boxes = data.about(boxes, images, "boxes").with_columns(
            folded(pl.col("phrase")).alias("phrase"),
            x1="x",
            y1="y",
            x2=pl.col("x") + pl.col("w"),
            y2=pl.col("y") + pl.col("h"),
            box_width=SIDE,
            box_height=SIDE,
        )
        data.writer.boxes(data.on_image(boxes))
    return data.harvest(images)

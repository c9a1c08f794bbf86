"""Source `vindr`: VinDr-CXR and its Kaggle edition VinBigData, radiographs with boxes of 14 findings by
radiologists.

Quirks: three readers an image in training, whose boxes are fused, and one consensus in the test set; boxes in
pixels of the original, whose size no annotation file has (`train_meta.csv` of the resized editions does, and
the image files do); `rad_ID` or `rad_id`; no patient ids.
"""

from __future__ import annotations

from typing import Literal

import polars as pl
from pydantic import Field

from data_recipes import chexmask, scan
from data_recipes.dataset import Dataset, View, fingerprint_of
from data_recipes.facts import BOX
from data_recipes.files import Needed
from data_recipes.fusion import Drawn, Fusion, fuse
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.vocabulary import NO_FINDING, folded

NAME = "vindr"
VERSION = "1"
LICENCE = Licence(
    "PhysioNet Credentialed Health Data License 1.5.0 (VinDr-CXR), or competition rules (VinBigData)",
    access="credentialed",
    share="nothing may be passed on: neither images nor annotations, nor entries made from them",
    page="physionet.org/content/vindr-cxr/1.0.0",
    cite=Cite(
        "nguyen2022vindrcxr",
        "Nguyen, Ha Q. and Lam, Khanh and Le, Linh T. and others",
        "VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations",
        "Scientific Data 9, 429",
        2022,
    ),
)
FILES = (
    Needed(
        "train",
        ("annotations_train.csv", "train.csv", "vinbigdata-train.csv"),
        "boxes of the readers",
        header="class_name",
    ),
    Needed("test", ("annotations_test.csv",), "the official test set", required=False),
    Needed("sizes", ("train_meta.csv",), "sizes of the originals", required=False),
    chexmask.needed("VinDr-CXR"),
)
NOTES = (
    "VinDr publishes no patient ids: every image counts as a patient of its own.",
    "VinDr: findings, phrases and yes-or-no questions are derived from the classes of boxes after fusion.",
)


class Options(chexmask.MaskedOptions):
    """
    Attributes:
        fusion: wbf fuses the readers' boxes, majority keeps what two readers agree on, any fuses nothing.
        fusion_iou: overlap above which two boxes mean the same.
        unknown_size: what happens to boxes on an image whose size nobody says: they are dropped, or scaled to
            the extent of all boxes on the image (good for counting; only without pixels).
    """

    views: list[View] = Field(default=["PA", "AP", "unknown"])
    fusion: Fusion = "wbf"
    fusion_iou: float = Field(default=0.5, ge=0, lt=1)
    unknown_size: Literal["extent", "drop"] = "extent"


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    rows = _rows(data)
    coordinates = scan.numbers(rows, BOX, data.funnel, "numbers of boxes")
    lacks = {
        "class is missing": pl.col("label").is_null(),
        "image id is missing": pl.col("image_id").is_null(),
    }
    coordinates = data.funnel.keep("rows with a class", "rows", coordinates, lacks, reject=True)
    ids = coordinates.unique("image_id", keep="first", maintain_order=True)
    data.funnel.count("images", "rows", coordinates.height, ids.height, "a further row of its image")
    images = data.images(ids.with_columns(patient_id=pl.concat_str(pl.lit("vindr-"), "image_id")))
    readers = coordinates.group_by("image_id").agg(readers=pl.col("reader").n_unique())
    nothing = {"reader found nothing": pl.col("label") == NO_FINDING}
    boxes = data.funnel.keep("rows with a box", "rows", coordinates, nothing)
    boxes = data.about(boxes, images, "boxes").join(readers, on="image_id", maintain_order="left")
    _write_labels(data, images, boxes, options)
    fused = _sized(data, _fused(data, boxes, options), options)
    data.writer.boxes(data.on_image(fused.with_columns(phrase=pl.col("label"))))
    if data.has("chexmask"):
        chexmask.write_ratios(data, images, "image_id", options.masks)
    return data.harvest(images)


def _write_labels(data: Dataset, images: pl.DataFrame, boxes: pl.DataFrame, options: Options) -> None:
    """A class is present when any reader names it, or with `fusion: majority` more than half of them."""
    votes = boxes.group_by("image_id", "label", maintain_order=True).agg(
        pl.col("reader").n_unique(), pl.col("readers").first()
    )
    enough = 2 * pl.col("reader") > pl.col("readers") if options.fusion == "majority" else pl.lit(True)
    pairs = votes.filter(enough).select("image_id", "label")
    found = pairs.group_by("image_id").agg(labels="label")
    labelled = images.drop("label").join(found, on="image_id", how="left", maintain_order="left")
    labelled = labelled.with_columns(pl.col("labels").fill_null([]))
    data.writer.labels(labelled)
    healthy = labelled.filter(pl.col("labels").list.len() == 0).select("image_id", label=pl.lit(NO_FINDING))
    data.writer.presence(images, pl.concat([pairs, healthy]))


def _rows(data: Dataset) -> pl.DataFrame:
    """All rows of training and test set, one a reader and finding."""
    columns = {"image_id": "image_id", "label": "class_name"}
    columns |= {"x1": "x_min", "y1": "y_min", "x2": "x_max", "y2": "y_max"}
    parts = []
    for key, split in (("train", "train+validation"), ("test", "test")):
        if data.has(key):
            rows = data.table(key, columns, {"reader": ("rad_id", "rad_ID")})
            parts.append(rows.with_columns(split=pl.lit(split)))
    drawn = data.options.splits == "drawn" or len(parts) == 1
    every = pl.concat(parts).with_columns(folded(pl.col("label")), pl.col("reader").fill_null("consensus"))
    return every.with_columns(split=pl.lit("")) if drawn else every


def _fused(data: Dataset, boxes: pl.DataFrame, options: Options) -> pl.DataFrame:
    """The readers' boxes of each image and class, fused; in pixels still."""
    bad = {
        "box lacks a coordinate": pl.any_horizontal(pl.col(name).is_null() for name in BOX),
        "box is empty or reversed: it needs x1 < x2 and y1 < y2": (pl.col("x2") <= pl.col("x1"))
        | (pl.col("y2") <= pl.col("y1")),
    }
    whole = data.funnel.keep("boxes that are boxes", "boxes", boxes, bad, reject=True)
    fused = []
    groups = whole.group_by("image_id", "label", "readers", maintain_order=True)
    grouped = groups.agg(*BOX, "reader", pl.col("file", "row").first())
    for image, label, number, *sides, names, file, row in grouped.iter_rows():
        drawn = [Drawn((x1, y1, x2, y2), who) for x1, y1, x2, y2, who in zip(*sides, names, strict=True)]
        for cluster in fuse(drawn, options.fusion, iou=options.fusion_iou, readers=number):
            fused.append((image, label, *cluster.xyxy, file, row))
    columns = ("image_id", "label", *BOX, "file", "row")
    result = pl.DataFrame(fused, schema={name: whole.schema[name] for name in columns}, orient="row")
    why = "fused with another reader's box" + ", or no majority" * (options.fusion == "majority")
    data.funnel.count("readers' boxes fused", "boxes", whole.height, result.height, why)
    return result


def _sized(data: Dataset, boxes: pl.DataFrame, options: Options) -> pl.DataFrame:
    """Boxes with the size of the original they were drawn on, as far as anything says it."""
    if data.has("sizes"):
        known = data.table("sizes", {"image_id": "image_id", "box_height": "dim0", "box_width": "dim1"})
        known = scan.numbers(known, ("box_height", "box_width"), data.funnel, "numbers of sizes")
        known = known.unique("image_id", keep="first").drop("file", "row")
    else:
        known = data.sizes(boxes["image_id"].unique(maintain_order=True))
    sized = boxes.join(known, on="image_id", how="left", maintain_order="left")
    unknown = sized["box_width"].null_count()
    if unknown and options.placing == "skip" and options.unknown_size == "extent":
        number = sized.filter(pl.col("box_width").is_null())["image_id"].n_unique()
        data.notes.append(
            f"The size of {number} images is not known without their pixels: their boxes are fractions of "
            f"the extent of all boxes on the image, which is good for counting only."
        )
        sized = sized.with_columns(
            pl.col("box_width").fill_null(pl.col("x2").max().over("image_id")),
            pl.col("box_height").fill_null(pl.col("y2").max().over("image_id")),
        )
    return sized

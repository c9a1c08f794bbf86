"""Source `padchest`: PadChest, 160,861 radiographs with Spanish reports and English labels.

Quirks: labels are a list written as text (`['normal', ' pneumonia']`), some with a leading blank, some empty,
some `nan`; the published reports are Spanish words cut to their stems; `Projection` says the view.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from data_recipes import chexmask, scan
from data_recipes.dataset import Dataset, fingerprint_of
from data_recipes.files import Needed
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.vocabulary import NO_FINDING, folded

NAME = "padchest"
VERSION = "1"
LANGUAGES = ("en", "es")
LICENCE = Licence(
    "PadChest Dataset Research Use Agreement (BIMCV)",
    access="registration",
    share="nothing may be passed on: neither images nor reports, nor entries made from them",
    page="bimcv.cipf.es/bimcv-projects/padchest",
    cite=Cite(
        "bustos2020padchest",
        "Bustos, Aurelia and Pertusa, Antonio and Salinas, Jose-Maria and de la Iglesia-Vayá, Maria",
        "PadChest: A large chest x-ray image dataset with multi-label annotated reports",
        "Medical Image Analysis 66, 101797",
        2020,
    ),
)
FILES = (
    Needed(
        "labels",
        ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",),
        "labels and reports: findings, vqa, report",
    ),
    chexmask.needed("Padchest"),
)
NOTES = (
    "PadChest reports are Spanish, cut to word stems by their publishers: entries of kind `es-stems`.",
    "PadChest: findings and yes-or-no questions are derived from labels, of which 76 % come from a network.",
)
VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP", "L": "lateral"}
_NO_LABEL = ("", "nan", "unchanged", "exclude", "suboptimal study")  # say nothing of the image


class Options(chexmask.MaskedOptions):
    """
    Attributes:
        labels: those of everybody, or only those that physicians gave.
        reports: whether the Spanish reports make report entries.
        adults: whether images marked as of children are left out.
    """

    labels: Literal["all", "physician"] = "all"
    reports: Literal["spanish", "none"] = "spanish"
    adults: bool = True


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    rows = data.table(
        "labels",
        {
            "image_id": "ImageID",
            "patient_id": "PatientID",
            "view": "Projection",
            "child": "Pediatric",
            "by": "MethodLabel",
            "text": "Report",
            "said": "Labels",
        },
        {"width": "Columns_DICOM", "height": "Rows_DICOM"},
    )
    rows = scan.numbers(_shaped(rows, options), ("width", "height"), data.funnel, "sizes of images")
    images = data.images(rows.with_columns(pl.col("width", "height").fill_null(0).cast(pl.Int64)))
    if options.adults:
        images = data.funnel.keep("ages", "images", images, {"of a child": pl.col("child") == "PED"})
    _write_labels(data, images, options)
    if options.reports == "spanish":
        silent = {"no report": pl.col("text").str.strip_chars(" .").str.len_chars().fill_null(0) == 0}
        texts = data.funnel.keep("report texts", "images", images, silent)
        text = (
            pl.col("text")
            .str.replace_all(r"\s+", " ")
            .str.strip_chars()
            .str.replace_all(" .", ".", literal=True)
        )
        data.writer.reports(texts.with_columns(text, kind=pl.lit("es-stems")))
    if data.has("chexmask"):
        chexmask.write_ratios(data, images, "ImageID", options.masks)
    return data.harvest(images)


def _shaped(rows: pl.DataFrame, options: Options) -> pl.DataFrame:
    size = pl.col("width", "height").replace({"None": None, "nan": None})
    if options.placing != "skip":
        size = pl.lit(None, pl.String)  # the PNG files may be resized
        rows = rows.with_columns(width=size, height=size)
    else:
        rows = rows.with_columns(size)
    return rows.with_columns(
        pl.concat_str(pl.lit("padchest-"), "patient_id").alias("patient_id"),
        pl.col("view").replace_strict(VIEWS, default="unknown"),
    )


def _write_labels(data: Dataset, images: pl.DataFrame, options: Options) -> None:
    if options.labels == "physician":
        by = {"labels are not a physician's": pl.col("by") != "Physician"}
        images = data.funnel.keep("labels by physicians", "images", images, by)
    listed = {"labels are no list": ~pl.col("said").str.contains(r"^(?:\[.*\]|nan)$").fill_null(False)}
    images = data.funnel.keep("lists of labels", "images", images, listed, reject=True)
    quoted = pl.col("said").str.extract_all(r"'[^']*'|\"[^\"]*\"")
    pairs = images.select("image_id", label=quoted).explode("label").drop_nulls()
    pairs = pairs.with_columns(folded(pl.col("label").str.strip_chars("'\"")))
    pairs = pairs.filter(~pl.col("label").is_in(_NO_LABEL)).unique(maintain_order=True)
    found = pairs.filter(pl.col("label") != NO_FINDING).group_by("image_id").agg(labels="label")
    unsaid = {
        "no label says anything of the image": ~pl.col("image_id").is_in(pairs["image_id"].unique().implode())
    }
    known = data.funnel.keep("images with labels", "images", images, unsaid)
    data.writer.labels(
        known.join(found, on="image_id", how="left", maintain_order="left").with_columns(
            pl.col("labels").fill_null([])
        )
    )
    data.writer.presence(known, pairs)

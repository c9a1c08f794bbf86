"""Source `chexpert_plus`: CheXpert Plus, the reports of CheXpert's radiographs, with labels read from them.

Quirks: images are named `.jpg` and published as `.png` (and DICOM); a report is that of the study, so its
images share it, and its impression is a numbered list; labels are JSON lines, a file a section of the report;
where a report lacks that section its labels say "No Finding" all the same.
"""

from __future__ import annotations

from typing import Literal

import polars as pl
from pydantic import Field

from data_recipes import chexmask, scan
from data_recipes.dataset import Dataset, fingerprint_of
from data_recipes.files import Needed
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.sections import ReportOptions, chosen, cleaned
from data_recipes.sources import chexpert
from data_recipes.sources.chexpert import INNER, LABELS

NAME = "chexpert_plus"
VERSION = "1"
LICENCE = Licence(
    "Stanford University Dataset Research Use Agreement",
    access="registration",
    share="nothing may be passed on: neither images nor reports, nor entries made from them",
    page="aimi.stanford.edu/datasets/chexpert-plus",
    cite=Cite(
        "chambon2024chexpertplus",
        "Chambon, Pierre and Delbrouck, Jean-Benoit and Sounack, Thomas and others",
        "CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text Radiology Reports, Patient "
        "Demographics and Additional Image Formats",
        "arXiv 2405.19538",
        2024,
    ),
)
_SECTIONS = ("impression", "findings", "report")
FILES = (
    Needed("reports", ("df_chexpert_plus_240401.csv",), "reports, views and splits: report"),
    *(
        Needed(
            section,
            (f"{section}_fixed.json",),
            f"labels of the {section}: findings, vqa (option labels: {section})",
            required=False,
        )
        for section in _SECTIONS
    ),
    chexmask.needed("CheXpert"),
)
NOTES = (
    "CheXpert Plus: a report is that of the study; it is the target of each image that the views keep.",
    "CheXpert Plus: findings and yes-or-no questions are derived from labels that CheXbert read in reports.",
    "CheXpert Plus: its images are CheXpert's: a mixture that tests on one and trains on the other leaks, "
    "unless patients are held apart by their ids, which are the same here.",
)


class Options(chexpert.Options):
    """
    Attributes:
        report: which part of a report is the target.
        labels: the section whose labels are used.
    """

    report: ReportOptions = Field(default=ReportOptions(sections=["findings", "impression"]))
    labels: Literal["impression", "findings", "report", "none"] = "impression"


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    images = chexpert.read_images(data, _rows(data))
    _write_reports(data, images, options)
    if options.labels != "none" and data.has(options.labels):
        labelled = _labelled(data, images, options.labels)
        chexpert.write_labels(data, labelled, LABELS, options.uncertain, options.unmentioned)
    if data.has("chexmask"):
        chexmask.write_ratios(data, images, "Path", options.masks, INNER)
    return data.harvest(images, chexpert.files(data))


def _rows(data: Dataset) -> pl.DataFrame:
    columns = {
        "image_id": "path_to_image",
        "findings": "section_findings",
        "impression": "section_impression",
    }
    columns |= {"frontal": "frontal_lateral", "side": "ap_pa"}
    rows = data.table("reports", columns, {"split": "split", "report": "report"})
    said = pl.coalesce("split", pl.col("image_id").str.extract(r"^(?:.*/)?(train|valid)/"))
    rows = rows.with_columns(
        # The validation set is the only one held out, as in source chexpert.
        split=said.replace_strict({"train": "train+validation", "valid": "test"}, default=""),
        **{"last paragraph": pl.lit(None, pl.String)},
    )
    official = data.options.splits == "official" and (rows["split"] == "test").any()
    return rows if official else rows.with_columns(split=pl.lit(""))


def _write_reports(data: Dataset, images: pl.DataFrame, options: Options) -> None:
    unnumbered = chosen(options.report.sections).str.replace_all(r"(?m)^\s*\d{1,2}[.)]\s+", "")
    texts = images.with_columns(text=cleaned(unnumbered, options.report))
    silent = {
        "report has none of the sections": pl.col("text").is_null(),
        "no sentence is left": pl.col("text") == "",
    }
    data.writer.reports(data.funnel.keep("report texts", "images", texts, silent))


def _labelled(data: Dataset, images: pl.DataFrame, section: str) -> pl.DataFrame:
    """The images with label columns LABELS, and `file` and `row` where these stand."""
    columns = {"image_id": "path_to_image", **{label: label for label in LABELS}}
    rows = scan.read_json(data.path(section), columns, data.funnel, lines=True)
    rows = scan.numbers(rows, LABELS, data.funnel, "numbers of labels")
    taken = {"image id is taken by an earlier row": ~pl.col("image_id").is_first_distinct()}
    rows = data.funnel.keep("one row of labels an image", "rows", rows, taken, reject=True)
    rows = data.about(rows, images, "labels")
    text = pl.col(section).str.strip_chars().str.len_chars().fill_null(0)
    without = {"no row of labels is about it": ~pl.col("image_id").is_in(rows["image_id"].implode())}
    known = data.funnel.keep("images with labels", "images", images, without)
    labelled = known.drop("file", "row").join(rows, on="image_id", maintain_order="left")
    # What CheXbert makes of nothing is "No Finding".
    mute = {f"section {section} is empty": text == 0}
    return data.funnel.keep("labels with a text", "images", labelled, mute)

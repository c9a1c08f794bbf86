"""Source `nih`: NIH ChestX-ray14, 112,120 frontal radiographs with labels mined from reports, and boxes drawn
by radiologists on 880 of them.

Quirks: boxes are x, y, width, height on the 1024 x 1024 PNG, under a header that is broken
(`Bbox [x,y,w,h],,,`); "Infiltrate" among the boxes is "Infiltration" among the labels. Radiologists labelled
four findings anew on 4,376 images (Majkowska et al. 2020): YES, NO or HEDGE, in one file or one a set.
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

NAME = "nih"
VERSION = "1"
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
    chexmask.needed("ChestX-Ray8"),
    *(
        Needed(
            f"expert {split}",
            (
                "google2019_nih-chest-xray-labels.csv",  # both splits in one file
                f"four_findings_expert_labels_{split}_labels.csv",
                f"{split}_labels.csv",
            ),
            f"radiologists' labels of the {split} images (option labels: expert)",
            required=False,
            header="Airspace opacity",
        )
        for split in ("test", "validation")
    ),
)
NOTES = (
    "NIH labels were mined from reports by their authors, and are wrong for some images.",
    "NIH: findings and yes-or-no questions are derived from labels; phrases to locate are labels of boxes.",
    "RSNA pneumonia and SIIM pneumothorax are made of NIH images: a mixture that tests on one of the three "
    "and trains on another leaks.",
)
SIDE = 1024  # pixels of the published PNG, in which boxes are measured
EXPERT_LABELS = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")


class Options(chexmask.MaskedOptions):
    """
    Attributes:
        labels: whose labels images have that both mined reports and radiologists label. With `expert` these
            images are held out for test and validation as the radiologists' files say, and are asked about
            their four findings only.
    """

    labels: Literal["mined", "expert"] = "mined"


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    experts = _experts(data) if options.labels == "expert" else None
    rows = data.table(
        "labels",
        {"image_id": "Image Index", "said": "Finding Labels", "patient_id": "Patient ID"},
        {"view": "View Position"},
    )
    rows = rows.with_columns(
        pl.concat_str(pl.lit("nih-"), "patient_id").alias("patient_id"),
        data.listed({"train": "train+validation", "test": "test"}).alias("split"),
        *data.square(SIDE),
    )
    if experts is not None and options.splits == "official":
        rows = rows.join(experts.select("image_id", "set"), on="image_id", how="left", maintain_order="left")
        rows = rows.with_columns(pl.coalesce("set", "split").alias("split"))
    images = data.images(rows)
    mined = images if experts is None else _write_experts(data, images, experts)
    _write_mined(data, mined)
    if data.has("boxes"):
        _write_boxes(data, images)
    if data.has("chexmask"):
        chexmask.write_ratios(data, images, "Image Index", options.masks)
    return data.harvest(images)


def _write_mined(data: Dataset, images: pl.DataFrame) -> None:
    said = {"labels are missing": pl.col("said").is_null()}
    labelled = data.funnel.keep("labels", "images", images, said, reject=True)
    pairs = labelled.select("image_id", label=pl.col("said").str.split("|")).explode("label")
    pairs = pairs.with_columns(folded(pl.col("label")))
    found = pairs.filter(pl.col("label") != NO_FINDING).group_by("image_id").agg(labels="label")
    findings = labelled.join(found, on="image_id", how="left", maintain_order="left")
    data.writer.labels(findings.with_columns(pl.col("labels").fill_null([])))
    data.writer.presence(labelled, pairs)


def _write_boxes(data: Dataset, images: pl.DataFrame) -> None:
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


def _experts(data: Dataset) -> pl.DataFrame:
    """The radiologists' labels, a row an image: image_id, `set` (test or validation), EXPERT_LABELS (true,
    false, null for uncertain), file and row."""
    there = {key for key in ("expert test", "expert validation") if data.has(key)}
    paths = {data.path(key): key.removeprefix("expert ") for key in sorted(there) or ["expert test"]}
    columns = {"image_id": "Image Index", **{label: label for label in EXPERT_LABELS}}
    parts = []
    for path, name in paths.items():
        rows = scan.read(path, columns, data.funnel, optional={"set": "Set Id"})
        # A file of one set has no column for it.
        said = {"val": "validation", "validation": "validation", "test": "test"}
        known = pl.col("set").replace_strict(said, default=None, return_dtype=pl.String)
        own = pl.when(pl.col("set").is_null()).then(pl.lit(name)).otherwise(known)
        parts.append(rows.with_columns(set=own))
    answer = {"YES": True, "NO": False, "HEDGE": None}
    bad = {f"{label} is not YES, NO or HEDGE": ~pl.col(label).is_in(list(answer)) for label in EXPERT_LABELS}
    lacks = {label: pl.col(label).is_null() for label in EXPERT_LABELS}
    drops = {
        "image id is missing": pl.col("image_id").is_null(),
        "image id is taken by an earlier row": ~pl.col("image_id").is_first_distinct(),
        "Set Id is not val or test": pl.col("set").is_null(),
        **bad,
        **{f"{label} is missing": lack for label, lack in lacks.items()},
    }
    rows = data.funnel.keep("experts' labels", "images", pl.concat(parts), drops, reject=True)
    return rows.with_columns(
        pl.col(label).replace_strict(answer, return_dtype=pl.Boolean) for label in EXPERT_LABELS
    )


def _write_experts(data: Dataset, images: pl.DataFrame, experts: pl.DataFrame) -> pl.DataFrame:
    """Entries from the radiologists' labels, and the images that have none."""
    ours = images.select("image_id", "split")
    rows = ours.join(data.about(experts, images, "experts' labels"), on="image_id", maintain_order="left")
    said = pl.DataFrame({"label": EXPERT_LABELS}).select("label", name=folded(pl.col("label")))
    names = dict(said.rows())
    rows = rows.rename(names)
    long = rows.select("image_id", *names.values()).unpivot(index="image_id", variable_name="label")
    present, unsure = long.filter(pl.col("value")), long.filter(pl.col("value").is_null())
    data.writer.presence(rows, present, unsure)
    hedged = {"an expert label is uncertain": pl.col("image_id").is_in(unsure["image_id"].implode())}
    certain = data.funnel.keep("lists of experts' findings", "images", rows, hedged)
    found = present.group_by("image_id").agg(labels="label")
    lists = certain.join(found, on="image_id", how="left", maintain_order="left")
    data.writer.labels(lists.with_columns(pl.col("labels").fill_null([])), sorted(names.values()))
    theirs = {"labelled by experts": pl.col("image_id").is_in(rows["image_id"].implode())}
    return data.funnel.keep("mined labels", "images", images, theirs)

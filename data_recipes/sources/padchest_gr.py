"""Source `padchest_gr`: PadChest-GR, 4,555 frontal radiographs of PadChest with reports in sentences of one
finding each, in English and Spanish, and boxes by radiologists for what is abnormal.

Quirks: `grounded_reports_20240819.json` nests findings in studies; sentences of nothing abnormal may lack the
keys boxes, labels, locations and progression; `extra_boxes` are those of a second reader, who did not look at
every finding; a `progression` says that the sentence compares with an earlier image; `master_table.csv` has a
row a study and sentence, with patient and split; views stand in PadChest's own table only.
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from pydantic import Field

from data_recipes import chexmask, contents
from data_recipes.dataset import Dataset, View, fingerprint_of
from data_recipes.facts import BOX
from data_recipes.files import Needed
from data_recipes.fusion import Drawn, fuse
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.sources.padchest import VIEWS
from data_recipes.vocabulary import NO_FINDING, folded

NAME = "padchest_gr"
VERSION = "2"
LANGUAGES = ("en", "es")
LICENCE = Licence(
    "PadChest-GR Research Use Agreement, on request to BIMCV",
    access="registration",
    share="nothing may be passed on: neither images nor reports, nor entries made from them",
    page="bimcv.cipf.es/bimcv-projects/padchest-gr",
    cite=Cite(
        "castro2024padchestgr",
        "Castro, Daniel C. and Bustos, Aurelia and Bannur, Shruthi and others",
        "PadChest-GR: A Bilingual Chest X-ray Dataset for Grounded Radiology Report Generation",
        "arXiv 2411.05085",
        2024,
    ),
)
FILES = (
    Needed(
        "reports", ("grounded_reports_20240819.json",), "sentences, boxes: report, findings, rec, reg, vqa"
    ),
    Needed("studies", ("master_table.csv",), "patients and splits", header="StudyID"),
    Needed(
        "views", ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",), "views: PA or AP", required=False
    ),
    chexmask.needed("Padchest"),
)
NOTES = (
    "PadChest-GR: its images are PadChest's: a mixture that tests on one and trains on the other leaks, "
    "unless patients are held apart by their ids, which are the same here.",
    "PadChest-GR: findings and yes-or-no questions are derived from the labels of abnormal sentences.",
)
_FAR = 1e6  # no side of a box in fractions, whatever its scale; NaN is not below it either
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "test": "test"}
_FINDING: dict[str, Any] = {
    "image_id": pl.String, "file": pl.String, "row": pl.Int64, "text": pl.String, "abnormal": pl.Boolean,
    "compares": pl.Boolean, "labels": pl.List(pl.String), "boxes": pl.List(pl.List(pl.Float64)),
    "why": pl.String,
}  # fmt: skip


class Options(chexmask.MaskedOptions):
    """
    Attributes:
        language: of the report and of phrases that are sentences.
        phrases: what a box is asked for by, its sentence or the labels of its sentence.
        readers: whose boxes: the first reader's, or both readers' fused as in source vindr.
        fusion_iou: overlap above which boxes of two readers mean the same.
        priors: what happens to sentences that compare with an earlier image, in reports and as phrases.
    """

    views: list[View] = Field(default=["PA", "AP", "unknown"])
    language: Literal["english", "spanish"] = "english"
    phrases: Literal["sentence", "label"] = "sentence"
    readers: Literal["first", "wbf", "majority", "any"] = "first"
    fusion_iou: float = Field(default=0.5, ge=0, lt=1)
    priors: Literal["drop", "keep"] = "drop"


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    studies, findings = _read(data, options)
    images = data.images(_known(data, studies))
    findings = data.about(findings, images, "sentences")
    _write_reports(data, images, findings, options)
    _write_labels(data, images, findings)
    _write_boxes(data, findings, options)
    if data.has("chexmask"):
        chexmask.write_ratios(data, images, "ImageID", options.masks)
    return data.harvest(images)


def _read(data: Dataset, options: Options) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The studies (image_id, study, file, row), and their sentences as in _FINDING; `row` is the place of the
    study in the file."""
    path = data.path("reports")
    studies: list[tuple[Any, ...]] = []
    findings: list[dict[str, Any]] = []
    seen: set[str] = set()
    for row, item in enumerate(contents.items(path), start=1):
        study = item if isinstance(item, dict) else {}
        image, told = _text(study.get("ImageID")), study.get("findings")
        why = "study is no object with an ImageID and a list of findings" if not image else None
        if image and not isinstance(told, list):
            why = "its findings are no list"
        elif image and "\0" in image:
            why = "holds a NUL byte"
        elif image in seen:
            why = "image is taken by an earlier row"
        if image and why is None:
            seen.add(image)
        studies.append((image, _text(study.get("StudyID")), path.name, row, why))
        for finding in told if why is None and isinstance(told, list) else ():
            findings.append({"image_id": image, "file": path.name, "row": row, **_finding(finding, options)})
    columns = dict.fromkeys(("image_id", "study", "file"), pl.String) | {"row": pl.Int64, "why": pl.String}
    frame = pl.DataFrame(studies, schema=columns, orient="row")
    frame = data.funnel.keep_unless(f"read {path.name}", "studies", frame, pl.col("why"), reject=True)
    told_of = pl.DataFrame(findings, schema=_FINDING)
    told_of = data.funnel.keep_unless("sentences", "sentences", told_of, pl.col("why"), reject=True)
    return frame.drop("why"), told_of.drop("why")


def _finding(item: Any, options: Options) -> dict[str, Any]:
    """A sentence as in _FINDING; `why` says what is wrong with it."""
    finding = item if isinstance(item, dict) else {}
    key = "sentence_en" if options.language == "english" else "sentence_es"
    text, abnormal, labels = _text(finding.get(key)), finding.get("abnormal"), finding.get("labels") or []
    own, other = finding.get("boxes") or [], finding.get("extra_boxes") or []
    why = None
    if not text:
        why = f"finding has no {key}"
    elif not isinstance(abnormal, bool):
        why = "abnormal is neither true nor false"
    elif not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        why = "labels are no list of words"
    elif not all(map(_is_box, [*_listed(own), *_listed(other)])):
        why = "box is not four numbers"
    if why:
        return {"why": why}
    return {
        "text": text,
        "abnormal": abnormal,
        "compares": bool(finding.get("progression")),
        "labels": labels,
        "boxes": _drawn(own, other, options),
        "why": None,
    }


def _listed(boxes: Any) -> list[Any]:
    return boxes if isinstance(boxes, list) else [boxes]


def _is_box(box: Any) -> bool:
    number = (int, float)
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(side, number) and not isinstance(side, bool) and abs(side) < _FAR for side in box)
    )


def _drawn(own: list[list[float]], other: list[list[float]], options: Options) -> list[list[float]]:
    """Boxes of a finding, those of both readers fused where the options say so."""
    if options.readers == "first" or not other:
        return [[float(side) for side in box] for box in own]
    drawn = [
        Drawn((float(x1), float(y1), float(x2), float(y2)), reader)
        for reader, boxes in (("first", own), ("second", other))
        for x1, y1, x2, y2 in boxes
    ]
    clusters = fuse(drawn, options.readers, iou=options.fusion_iou, readers=2)
    return [list(cluster.xyxy) for cluster in clusters]


def _known(data: Dataset, studies: pl.DataFrame) -> pl.DataFrame:
    """The studies with patient, split and view. Those that the master table lacks have no patient."""
    columns = {"study": "StudyID", "patient_id": "PatientID", "split": "split"}
    table = data.table("studies", columns).drop("file", "row")
    rows = table.unique("study", keep="first", maintain_order=True)
    data.funnel.count("one row a study", "rows", table.height, rows.height, "a further row of its study")
    split = pl.col("split").replace_strict(_SPLITS, default="", return_dtype=pl.String)
    known = studies.join(rows, on="study", how="left", maintain_order="left").with_columns(
        pl.concat_str(pl.lit("padchest-"), "patient_id").alias("patient_id"),
        split=split.fill_null("") if data.options.splits == "official" else pl.lit(""),
    )
    if not data.has("views"):
        return known
    views = data.table("views", {"image_id": "ImageID", "view": "Projection"})
    views = views.unique("image_id", keep="first").select("image_id", "view")
    view = pl.col("view").replace_strict(VIEWS, default="unknown", return_dtype=pl.String)
    return known.join(views, on="image_id", how="left", maintain_order="left").with_columns(view)


def _write_reports(data: Dataset, images: pl.DataFrame, findings: pl.DataFrame, options: Options) -> None:
    compares = {"compares with an earlier image": pl.col("compares")} if options.priors == "drop" else {}
    sentences = data.funnel.keep("sentences of reports", "sentences", findings, compares)
    stop = pl.when(pl.col("text").str.contains(r"[.!?]$")).then(pl.lit("")).otherwise(pl.lit("."))
    texts = sentences.group_by("image_id", maintain_order=True).agg(
        pl.concat_str("text", stop).str.join(" ").alias("text")
    )
    told = images.join(texts, on="image_id", how="left", maintain_order="left")
    silent = {"no sentence is left": pl.col("text").is_null()}
    language = pl.lit("en" if options.language == "english" else "es")
    reports = data.funnel.keep("report texts", "images", told, silent).with_columns(kind=language)
    data.writer.reports(reports)


def _write_labels(data: Dataset, images: pl.DataFrame, findings: pl.DataFrame) -> None:
    abnormal = findings.filter("abnormal")
    pairs = abnormal.select("image_id", label="labels").explode("label", empty_as_null=True)
    pairs = pairs.with_columns(folded(pl.col("label")))
    vague = pairs.filter(pl.col("label").is_null() | (pl.col("label") == NO_FINDING))["image_id"]
    told = findings["image_id"].unique()
    drops = {
        "study has no sentence": ~pl.col("image_id").is_in(told.implode()),
        "an abnormal sentence has no label": pl.col("image_id").is_in(vague.unique().implode()),
    }
    known = data.funnel.keep("images with labels", "images", images, drops)
    pairs = pairs.filter(pl.col("image_id").is_in(known["image_id"].implode())).unique(maintain_order=True)
    found = pairs.group_by("image_id").agg(labels="label")
    lists = known.join(found, on="image_id", how="left", maintain_order="left")
    data.writer.labels(lists.with_columns(pl.col("labels").fill_null([])))
    healthy = known.filter(~pl.col("image_id").is_in(found["image_id"].implode()))
    healthy = healthy.select("image_id", label=pl.lit(NO_FINDING))
    data.writer.presence(known, pl.concat([pairs, healthy]))


def _write_boxes(data: Dataset, findings: pl.DataFrame, options: Options) -> None:
    drops = {"has no box": pl.col("boxes").list.len() == 0}
    if options.phrases == "sentence" and options.priors == "drop":
        drops["compares with an earlier image"] = pl.col("compares")
    boxed = data.funnel.keep("sentences with boxes", "sentences", findings, drops)
    if options.phrases == "label":
        boxed = boxed.explode("labels", empty_as_null=True).with_columns(phrase=folded(pl.col("labels")))
        nameless = {"sentence has no label": pl.col("phrase").is_null()}
        boxed = data.funnel.keep("boxes with a label", "labels", boxed, nameless)
    else:
        boxed = boxed.with_columns(phrase=_phrase(pl.col("text")))
    boxes = boxed.explode("boxes", empty_as_null=True)
    corners = [pl.col("boxes").list.get(place).alias(name) for place, name in enumerate(BOX)]
    data.writer.boxes(data.on_image(boxes.with_columns(*corners, box_width=1.0, box_height=1.0)))


def _phrase(sentence: pl.Expr) -> pl.Expr:
    """A sentence as a phrase within one: no stop at the end, no capital at the start unless more follow."""
    bare = sentence.str.strip_chars(" .")
    lower = pl.concat_str(bare.str.slice(0, 1).str.to_lowercase(), bare.str.slice(1))
    return pl.when(bare.str.contains(r"^\p{Lu}[\p{Lu}\d]")).then(bare).otherwise(lower)


def _text(value: Any) -> str | None:
    return (" ".join(value.split()) or None) if isinstance(value, str) else None

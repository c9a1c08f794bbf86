"""Source `coco`: detection or instance annotations in COCO's JSON, in one file or one a split.

Categories become findings, yes-or-no questions, and phrases to locate. Boxes are x, y, width, height in
pixels of the image as the JSON gives its size. Rows of `images` and `annotations` are counted from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field

from data_recipes.coco_json import CocoRows, as_text, is_coco
from data_recipes.dataset import Dataset, most_held_out
from data_recipes.errors import UserError, unknown
from data_recipes.facts import BOX
from data_recipes.files import Files
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.own import (
    LICENCE,
    ImageNames,
    OwnOptions,
    listed,
    open_folder,
    resolved,
    same_patient,
    split_of_path,
    view_word,
    with_patients,
    words,
)
from data_recipes.reject import Rejection
from data_recipes.vocabulary import NO_FINDING, folded

__all__ = ["FILES", "LICENCE", "NAME", "OPTIONS", "VERSION", "fingerprint", "harvest"]

NAME = "coco"
VERSION = "1"
FILES = ()  # of any name
_SUFFIXES = (".json", ".json.gz", ".json.zip")
_PATIENT = ("patient_id", "patientId", "patient", "subject_id", "PatientID")
_VIEW = ("view", "view_position", "ViewPosition")
_SKEW = 0.02  # how far the shape of an image may lie from the one the file gives, as a fraction


class Options(OwnOptions):
    """
    Attributes:
        files: split (train, validation, test) -> its JSON file, relative to the root; by default every JSON
            file there that has images, annotations and categories, with the split it is named after.
        patient: the field of an image that names its patient; by default patient_id or the like.
        crowd: what happens to annotations with iscrowd = 1, which outline a group.
        unannotated: whether an image without annotations is free of findings, or says nothing.
    """

    files: dict[Literal["train", "validation", "test"], str] = Field(default={})
    patient: str | None = None
    crowd: Literal["drop", "keep"] = "drop"
    unannotated: Literal["negative", "ignore"] = "negative"


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    assert isinstance(options, Options)
    data = open_folder(NAME, options, 0)
    found = _files(data, options)
    return data.files.fingerprint_of([path for path, _ in found], images=options.placing != "skip")


def recognises(files: Files) -> bool:
    """Whether the folder looks like one of this source."""
    return bool(_sorted_out(files)[0])


def harvest(options: Options, seed: int) -> Harvest:
    data = open_folder(NAME, options, seed)
    read = CocoRows()
    for path, split in _files(data, options):
        read.add(path, split, data.files.root)
    names = ImageNames(data.files)
    rows, files = resolved(data, _shaped(data, read, options), names, read.beside)
    rows = same_patient(data, with_patients(data, rows, options))
    if options.splits == "drawn":
        rows = rows.with_columns(split=pl.lit(""))
    of_key = rows.unique("key", keep="first", maintain_order=True)
    # An image of two files is one image; two rows of one file are one too many.
    rows = rows.with_columns(split=most_held_out("image_id"))
    again = ~pl.struct("image_id", "file").is_first_distinct()
    rows = data.funnel.keep(
        "image rows", "images", rows, {"image is taken by an earlier row": again}, reject=True
    )
    first = rows.unique("image_id", keep="first", maintain_order=True)
    data.funnel.count("images", "images", rows.height, first.height, "an image of an earlier file too")
    images = data.images(first.drop("image", "key", "said_width", "said_height"))
    boxes = _boxes(data, of_key, images, read, options)
    _write_labels(data, images, boxes, options)
    data.writer.boxes(data.on_image(_true_to_shape(data, boxes, names, files)))
    return data.harvest(images, pl.col("image_id").replace_strict(files, default=pl.col("image_id")))


def _files(data: Dataset, options: Options) -> list[tuple[Path, str]]:
    """The JSON files to read, with their splits. Raises UserError when there are none."""
    there = data.files.of_kind(_SUFFIXES)
    if options.files:
        names = {path.relative_to(data.files.root).as_posix(): path for path in there}
        for name in options.files.values():
            if name not in names:
                raise unknown("file", name, names)
        return [(names[name], split) for split, name in options.files.items()]
    found, faults = _sorted_out(data.files)
    if not found:
        seen = f" (it has {listed(path.name for path in there)})" if there else ""
        why = "".join(f"; {fault}" for fault in list(faults.values())[:1])
        raise UserError(
            f"{data.files.root} holds no JSON file with the lists images, annotations and categories{seen}"
            f"{why}"
        )
    data.funnel.rejected += [Rejection(name, 1, "cannot be read as JSON") for name in faults]
    return [(path, split_of_path(path.relative_to(data.files.root).as_posix())) for path in found]


def _sorted_out(files: Files) -> tuple[list[Path], dict[str, str]]:
    """The files in COCO's JSON, and what is wrong with those that cannot be read."""
    found, faults = [], {}
    for path in files.of_kind(_SUFFIXES):
        try:
            if is_coco(path):
                found.append(path)
        except UserError as error:
            faults[path.relative_to(files.root).as_posix()] = str(error)
    return found, faults


def _shaped(data: Dataset, read: CocoRows, options: Options) -> pl.DataFrame:
    """The rows of images as a frame: image, key, split, said size, view, and patient_id where it is said."""
    patient = options.patient
    if patient is not None and patient not in read.fields:
        raise unknown("field of images", patient, read.fields)
    if patient is None and options.patient_from is None:
        patient = next((name for name in _PATIENT if name in read.fields), None)
        if patient:
            data.notes.append(f"Patients are those of the field {patient!r} of images.")
    view = next((name for name in _VIEW if name in read.fields), None)
    columns: dict[str, Any] = {
        key: [row[key] for row in read.images]
        for key in ("image", "key", "split", "said_width", "said_height", "file", "row")
    }
    schema = {
        "image": pl.String, "key": pl.String, "split": pl.String, "said_width": pl.Float64,
        "said_height": pl.Float64, "file": pl.String, "row": pl.Int64,
    }  # fmt: skip
    if patient:
        columns["patient_id"] = [as_text(row.get(patient)) for row in read.images]
        schema["patient_id"] = pl.String
    frame = pl.DataFrame(columns, schema=schema)
    if view:
        frame = frame.with_columns(
            view=words(pl.Series([as_text(row.get(view)) for row in read.images], dtype=pl.String), view_word)
        )
    why = pl.Series([row["why"] for row in read.images], dtype=pl.String)
    frame = frame.with_columns(why=why)
    return data.funnel.keep_unless("ids of images", "images", frame, pl.col("why"), reject=True).drop("why")


def _boxes(
    data: Dataset, rows: pl.DataFrame, images: pl.DataFrame, read: CocoRows, options: Options
) -> pl.DataFrame:
    """Annotations of known images that can be used, with the size of the image that they were drawn on."""
    schema: dict[str, Any] = {
        "key": pl.String, "phrase": pl.String, "crowd": pl.Boolean, "why": pl.String,
        **dict.fromkeys(BOX, pl.Float64), "file": pl.String, "row": pl.Int64,
    }  # fmt: skip
    boxes = pl.DataFrame(read.boxes, schema=schema)
    boxes = data.funnel.keep_unless("annotations", "boxes", boxes, pl.col("why"), reject=True)
    sizes = rows.select("key", "image_id", box_width="said_width", box_height="said_height")
    boxes = boxes.join(sizes, on="key", how="left", maintain_order="left")
    boxes = data.about(boxes.with_columns(pl.col("image_id").fill_null("")), images, "boxes")
    crowd = {"of a crowd": pl.col("crowd")} if options.crowd == "drop" else {}
    boxes = data.funnel.keep("outlines of groups", "boxes", boxes, crowd)
    boxes = boxes.with_columns(folded(pl.col("phrase")))
    nothing = {"a box of no finding": pl.col("phrase") == NO_FINDING}
    return data.funnel.keep("boxes of findings", "boxes", boxes, nothing)


def _write_labels(data: Dataset, images: pl.DataFrame, boxes: pl.DataFrame, options: Options) -> None:
    pairs = boxes.select("image_id", label="phrase").unique(maintain_order=True)
    found = pairs.group_by("image_id").agg(labels="label")
    listed_ = images.join(found, on="image_id", how="left", maintain_order="left")
    if options.unannotated == "ignore":
        silent = {"has no annotation": pl.col("labels").is_null()}
        listed_ = data.funnel.keep("annotated images", "images", listed_, silent)
    data.writer.labels(listed_.with_columns(pl.col("labels").fill_null([])))
    data.writer.presence(listed_, pairs)


def _true_to_shape(
    data: Dataset, boxes: pl.DataFrame, names: ImageNames, files: Mapping[str, str]
) -> pl.DataFrame:
    """Boxes of images whose file has the shape that the JSON gives: one that was resized does no harm, one
    that was cut or turned does. Where the JSON gives no size, that of the file counts."""
    wanted = {image_id: files[image_id] for image_id in boxes["image_id"].unique(maintain_order=True)}
    sized = boxes.join(names.sizes(wanted), on="image_id", how="left", maintain_order="left")
    said, true = pl.col("box_width") / pl.col("box_height"), pl.col("file_width") / pl.col("file_height")
    other = {"image file has another shape than the JSON says": (said / true - 1).abs() > _SKEW}
    kept = data.funnel.keep("shapes of images", "boxes", sized, other, reject=True)
    return kept.with_columns(
        pl.coalesce(f"box_{side}", f"file_{side}").alias(f"box_{side}") for side in ("width", "height")
    )

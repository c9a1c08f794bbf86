"""Source `csv`: a CSV or TSV file of any columns and a folder of images.

What the columns mean is guessed from their names and noted, or said: `columns: {image: path, labels: tags}`.
Rows may be images, boxes, or questions; what is said of an image twice counts once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field

from data_recipes import contents, scan
from data_recipes.columns import NO_FINDINGS, mapped, plain
from data_recipes.dataset import Dataset, most_held_out
from data_recipes.errors import UserError, unknown
from data_recipes.facts import BOX
from data_recipes.files import Files
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.label_lists import parted
from data_recipes.own import (
    LICENCE,
    ImageNames,
    OwnOptions,
    open_folder,
    resolved,
    same_patient,
    split_word,
    view_word,
    with_patients,
    words,
)
from data_recipes.scene import EDEMA_GRADES
from data_recipes.sources.chexpert import write_labels
from data_recipes.vocabulary import NO_FINDING, folded

__all__ = ["FILES", "LICENCE", "NAME", "OPTIONS", "VERSION", "fingerprint", "harvest"]

NAME = "csv"
VERSION = "2"
FILES = ()  # of any name
_SUFFIXES = tuple(end + packed for end in (".csv", ".tsv") for packed in ("", ".gz", ".zip"))
_ZERO_ONE = ("1", "0", "-1", "1.0", "0.0", "-1.0")


class Options(OwnOptions):
    """
    Attributes:
        table: the CSV or TSV file, relative to the root; by default the only one there.
        columns: meaning -> column, see `columns.MEANINGS`; "" says that there is none.
        findings: columns of 1 (present), 0 (absent), -1 (uncertain) or blank, a finding each; by default
            those that hold nothing else.
        separator: between the labels of a column; found in the column by default.
        boxes: whether coordinates are pixels of the image or fractions of it; by default fractions where all
            of them are at most 1.
        uncertain: what -1 counts as. Ignored, it is neither listed nor asked about.
        unmentioned: what a blank counts as in yes-or-no questions; in lists of findings it is absent.
    """

    table: str | None = None
    columns: dict[str, str] = Field(default={})
    findings: list[str] | None = None
    separator: str | None = None
    boxes: Literal["auto", "pixels", "fractions"] = "auto"
    uncertain: Literal["ignore", "positive", "negative"] = "ignore"
    unmentioned: Literal["negative", "ignore"] = "ignore"


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    assert isinstance(options, Options)
    data = open_folder(NAME, options, 0)
    return data.files.fingerprint_of([_table(data, options)], images=options.placing != "skip")


def recognises(files: Files) -> bool:
    """Whether the folder looks like one of this source."""
    return bool(files.of_kind(_SUFFIXES))


def harvest(options: Options, seed: int) -> Harvest:
    data = open_folder(NAME, options, seed)
    rows, columns, findings = _rows(data, options)
    names = ImageNames(data.files)
    rows, files = resolved(data, rows, names)
    rows = same_patient(data, with_patients(data, rows, options))
    images = data.images(_images(data, rows))
    facts = data.about(rows, images, "rows")
    _write_labels(data, images, facts, columns, options)
    if findings:
        marked = scan.numbers(_joined(images, facts, findings), findings, data.funnel, "columns of 0 and 1")
        write_labels(data, marked, tuple(findings), options.uncertain, options.unmentioned)
    if "report" in columns:
        texts = _once(data, facts, "report")
        data.writer.reports(texts.with_columns(text=pl.col("report")))
    if "question" in columns and "answer" in columns:
        _write_answers(data, facts)
    for name in ("ctr", "cpar"):
        if name in columns:
            ratios = scan.numbers(_once(data, facts, name), [name], data.funnel, f"numbers of {name}")
            data.writer.ratios(ratios.with_columns(value=pl.col(name)), name.upper())
    if "severity" in columns:
        _write_grades(data, facts)
    if "label" in columns and ("x1" in columns or "x" in columns):
        _write_boxes(data, facts, names, files, options)
    if data.writer.entries().is_empty():
        raise UserError(
            f"{data.files.root}: no row says anything of an image; columns taken: {_said(columns)}. Say more "
            f"with the options columns and findings"
        )
    return data.harvest(images, pl.col("image_id").replace_strict(files, default=pl.col("image_id")))


def _table(data: Dataset, options: Options) -> Path:
    """The table to read. Raises UserError when there is none, or several."""
    found = data.files.of_kind(_SUFFIXES)
    there = [path.relative_to(data.files.root).as_posix() for path in found]
    if options.table is not None:
        if options.table not in there:
            raise unknown("table", options.table, there)
        return data.files.root / options.table
    if len(found) != 1:
        many = f"several tables ({', '.join(there[:8])}): choose with option table" if found else "no table"
        raise UserError(f"{data.files.root} holds {many}; source csv reads one CSV or TSV file")
    return found[0]


def _rows(data: Dataset, options: Options) -> tuple[pl.DataFrame, dict[str, str], list[str]]:
    """All rows with a column a meaning and one a finding; meaning -> column; and the findings."""
    path = _table(data, options)
    sign = _separator(path)
    header = scan.names(path, sign)
    columns, guessed = mapped(header, options.columns, path.name)
    rest = [name for name in header if name and name not in columns.values()]
    for name in options.findings or ():
        if name not in header:
            raise unknown(f"column of {path.name} in findings", name, header)
    candidates = rest if options.findings is None else options.findings
    taken = {f"finding {name}": name for name in candidates}
    rows = scan.read(path, {**columns, **taken}, data.funnel, separator=sign)
    if sign == ";":  # of countries that write 0,5
        decimals = [n for n in (*BOX, "x", "y", "w", "h", "ctr", "cpar", "severity") if n in columns]
        rows = rows.with_columns(pl.col(decimals).str.replace(",", ".", literal=True))
    findings = [n for n in candidates if options.findings is not None or _is_finding(rows[f"finding {n}"], n)]
    findings = [name for name in findings if name not in rows.columns]
    rows = rows.rename({f"finding {name}": name for name in findings})
    kept = [name for name in rows.columns if not name.startswith("finding ")]
    data.notes.append(
        f"Columns of {path.name}: {_said(columns)}"
        + (f"; findings: {', '.join(findings)}" if findings else "")
        + (f". Guessed from their names: {', '.join(guessed)}" if guessed else "")
        + (". Findings: guessed, they hold 0 and 1 only" if findings and options.findings is None else "")
        + "."
    )
    return rows.select(kept), columns, findings


def _separator(path: Path) -> str:
    """The sign between fields: the one that the header has most often."""
    first = contents.lines(path)[:1]
    return max(",;\t|", key=lambda sign: first[0].count(sign)) if first else ","


def _is_finding(values: pl.Series, name: str) -> bool:
    said = values.drop_nulls().str.strip_chars()
    return (
        len(said) > 0
        and plain(name) not in NO_FINDINGS
        and bool(said.is_in(_ZERO_ONE).all())
        and any(letter.isalpha() for letter in name)
    )


def _said(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{meaning} = {column!r}" for meaning, column in columns.items())


def _images(data: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The first row of each image, with its split and view."""
    shaped = rows
    if "view" in rows.columns:
        shaped = shaped.with_columns(view=words(rows["view"], view_word))
    if "split" in rows.columns and data.options.splits == "official":
        split = words(rows["split"], split_word).fill_null("")
        odd = rows.filter(pl.col("split").is_not_null() & (split == ""))["split"].unique().sort().to_list()
        if odd:
            data.notes.append(
                f"Splits of these names were not understood, and are drawn: {', '.join(odd[:5])}."
            )
        shaped = shaped.with_columns(split=split).with_columns(split=most_held_out("image_id"))
    else:
        shaped = shaped.drop("split", strict=False)
    first = shaped.unique("image_id", keep="first", maintain_order=True)
    data.funnel.count("images", "rows", rows.height, first.height, "a further row of its image")
    known = [n for n in ("image_id", "patient_id", "split", "view", "file", "row") if n in first.columns]
    return first.select(known)


def _joined(images: pl.DataFrame, facts: pl.DataFrame, findings: list[str]) -> pl.DataFrame:
    """Images with the columns of findings of their first row."""
    first = facts.unique("image_id", keep="first", maintain_order=True).select("image_id", *findings)
    return images.join(first, on="image_id", how="left", maintain_order="left")


def _once(data: Dataset, facts: pl.DataFrame, name: str) -> pl.DataFrame:
    """The first row of each image that says this."""
    silent = {f"says no {name}": pl.col(name).is_null()}
    said = data.funnel.keep(f"{name}: said", "rows", facts, silent)
    first = said.unique("image_id", keep="first", maintain_order=True)
    data.funnel.count(f"{name}: once an image", "rows", said.height, first.height, "said before")
    return first


def _write_labels(
    data: Dataset, images: pl.DataFrame, facts: pl.DataFrame, columns: Mapping[str, str], options: Options
) -> None:
    """Findings and yes-or-no questions from the column of labels, or from that of labels of boxes. With
    boxes, an image whose rows have none is free of findings."""
    name = "labels" if "labels" in columns else "label"
    if name not in columns:
        return
    boxed = "x1" in columns or "x" in columns
    said = facts
    if not (boxed and name == "label"):
        said = data.funnel.keep("labels: said", "rows", facts, {"says no labels": pl.col(name).is_null()})
    separate = options.separator
    if name == "label" and separate is None:
        separate = ""  # one label a row, whatever signs it holds
    lists = said.with_columns(label=parted(said[name], separate))
    pairs = lists.select("image_id", "label").explode("label").drop_nulls()
    pairs = (
        pairs.with_columns(folded(pl.col("label"))).filter(pl.col("label") != "").unique(maintain_order=True)
    )
    found = pairs.filter(pl.col("label") != NO_FINDING).group_by("image_id").agg(labels="label")
    known = {"no row says its labels": ~pl.col("image_id").is_in(said["image_id"].unique().implode())}
    labelled = data.funnel.keep("images with labels", "images", images, known)
    listed = labelled.join(found, on="image_id", how="left", maintain_order="left")
    data.writer.labels(listed.with_columns(pl.col("labels").fill_null([])))
    data.writer.presence(labelled, pairs)


def _write_answers(data: Dataset, facts: pl.DataFrame) -> None:
    silent = {"asks nothing": pl.col("question").is_null() & pl.col("answer").is_null()}
    asked = data.funnel.keep("questions", "rows", facts, silent)
    kind = (
        folded(pl.col("kind")).str.replace_all("/", " or ")
        if "kind" in facts.columns
        else pl.lit(None, pl.String)
    )
    data.writer.answers(asked.with_columns(kind=kind.fill_null("question")))


def _write_grades(data: Dataset, facts: pl.DataFrame) -> None:
    """Grades as numbers, or by their names."""
    said = _once(data, facts, "severity")
    names: dict[str, str] = {name: str(grade) for grade, name in enumerate(EDEMA_GRADES)}
    named = said.with_columns(severity=folded(pl.col("severity")).replace(names))
    grades = scan.numbers(named, ["severity"], data.funnel, "numbers of severity")
    odd = {"severity is no grade from 0 to 3": ~pl.col("severity").is_in([0.0, 1.0, 2.0, 3.0])}
    grades = data.funnel.keep("grades", "rows", grades, odd, reject=True)
    data.writer.grades(grades.with_columns(grade=pl.col("severity").cast(pl.Int64)))


def _write_boxes(
    data: Dataset, facts: pl.DataFrame, names: ImageNames, files: Mapping[str, str], options: Options
) -> None:
    corners = all(name in facts.columns for name in BOX)
    sides = BOX if corners else ("x", "y", "w", "h")
    blank = {"row without a box": pl.all_horizontal(pl.col(name).is_null() for name in sides)}
    boxes = data.funnel.keep("rows with a box", "rows", facts, blank)
    measured = [*sides, *(name for name in ("image_width", "image_height") if name in facts.columns)]
    boxes = scan.numbers(boxes, measured, data.funnel, "numbers of boxes", rows="boxes")
    unnamed = {"box has no label": pl.col("label").is_null()}
    boxes = data.funnel.keep("labels of boxes", "boxes", boxes, unnamed, reject=True)
    largest = boxes.select(pl.max_horizontal(pl.col(name).max() for name in sides)).item()
    fractions = options.boxes == "fractions" or (options.boxes == "auto" and (largest or 0) <= 1)
    if options.boxes == "auto" and boxes.height:
        data.notes.append(f"Boxes were taken for {'fractions' if fractions else 'pixels'} of the image.")
    if not corners:
        boxes = boxes.with_columns(x1="x", y1="y", x2=pl.col("x") + pl.col("w"), y2=pl.col("y") + pl.col("h"))
    boxes = boxes.with_columns(phrase=folded(pl.col("label")))
    nothing = {"a box of no finding": pl.col("phrase") == NO_FINDING}
    boxes = data.funnel.keep("boxes of findings", "boxes", boxes, nothing)
    data.writer.boxes(data.on_image(_scaled(boxes, names, files, fractions)))


def _scaled(
    boxes: pl.DataFrame, names: ImageNames, files: Mapping[str, str], fractions: bool
) -> pl.DataFrame:
    """Boxes with box_width and box_height, the size of the image in their unit."""
    if fractions:
        return boxes.with_columns(box_width=pl.lit(1.0), box_height=pl.lit(1.0))
    wanted: dict[str, Any] = {i: files[i] for i in boxes["image_id"].unique(maintain_order=True)}
    sized = boxes.join(names.sizes(wanted), on="image_id", how="left", maintain_order="left")
    for side in ("width", "height"):
        said = pl.col(f"image_{side}") if f"image_{side}" in boxes.columns else pl.lit(None, pl.Float64)
        # What the table says comes first: its boxes may be those of an image that was resized later.
        sized = sized.with_columns(pl.coalesce(said, f"file_{side}").alias(f"box_{side}"))
    return sized

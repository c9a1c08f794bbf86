"""Source `openi`: the Indiana University chest X-ray collection, reports with images of the same study.

Quirks: one XML file a report, in a tar archive or an unpacked folder; `XXXX` stands for text taken out;
findings are MeSH terms such as `Pleural Effusion/left/small`, inverted (`Catheters, Indwelling`) or a place
with what was found there (`Aorta/tortuous`); a report speaks of all images of its study, and views stand in a
table of their own.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import polars as pl
from pydantic import Field

from data_recipes import contents, scan
from data_recipes.dataset import Dataset, DatasetOptions
from data_recipes.errors import UserError
from data_recipes.files import Files, Needed, locate
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.pixels import inside
from data_recipes.sections import ReportOptions, chosen, cleaned
from data_recipes.vocabulary import NO_FINDING, folded

NAME = "openi"
VERSION = "1"
LICENCE = Licence(
    "CC BY-NC-ND 4.0",
    access="open",
    share="unchanged and not for profit, with the citation; not as adapted here",
    hub="cc-by-nc-nd-4.0",
    page="openi.nlm.nih.gov",
    cite=Cite(
        "demnerfushman2016openi",
        "Demner-Fushman, Dina and Kohli, Marc D. and Rosenman, Marc B. and others",
        "Preparing a collection of radiology examinations for distribution and retrieval",
        "Journal of the American Medical Informatics Association 23(2)",
        2016,
    ),
)
FILES = (
    # The archive, or the first file of the folder that it unpacks to.
    Needed("reports", ("NLMCXR_reports.tgz", "1.xml"), "reports and MeSH terms: report, findings, vqa"),
    Needed("views", ("nlmcxr_dicom_metadata.csv",), "views and sizes of images", required=False),
)
NOTES = (
    "Open-i: findings are the MeSH terms of the report, without place and degree; yes-or-no questions are "
    "derived from them.",
    "Open-i: a report speaks of all images of its study; it is the target of each that the views keep.",
)
_VIEWS = {
    "PA": "PA",
    "AP": "AP",
    "LL": "lateral",
    "RL": "lateral",
    "LATERAL": "lateral",
    "LARGE LATERAL": "lateral",
}
_ANATOMY = {
    "lung", "aorta", "thoracic aorta", "spine", "cervical vertebrae", "thoracic vertebrae", "colon",
    "diaphragm", "cardiac shadow", "heart", "mediastinum", "trachea", "ribs", "shoulder", "clavicle",
    "costophrenic angle", "pulmonary artery", "markings", "bone and bones", "sternum", "breast", "humerus",
    "pleura", "abdomen", "hilum", "blood vessels", "epicardial fat", "bronchi", "neck", "thorax", "stomach",
    "heart atria", "heart ventricles", "lumbar vertebrae", "liver",
}  # fmt: skip
_PLACES = {
    "left",
    "right",
    "bilateral",
    "base",
    "apex",
    "upper lobe",
    "middle lobe",
    "lower lobe",
    "lingula",
    "hilum",
}
_LARGEST = 2**22  # bytes of a report
_NO_LABEL = ("no indexing", "technical quality of image unsatisfactory")


class Options(DatasetOptions):
    """
    Attributes:
        report: which part of a report is the target.
    """

    report: ReportOptions = Field(default=ReportOptions())


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    files = locate(options.root, NAME, FILES)
    folder = _folder(files.path(FILES[0]), files)
    return files.fingerprint(FILES, images=options.placing != "skip", others=folder)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    reports = read_reports(data)
    illustrated = {"report has no image": pl.col("images").list.len() == 0}
    reports = data.funnel.keep("reports with images", "reports", reports, illustrated)
    found = reports.explode("images").rename({"images": "image_id"})
    images = data.images(
        _viewed(data, found).with_columns(patient_id=pl.concat_str(pl.lit("openi-"), "study"))
    )
    text = cleaned(chosen(options.report.sections), options.report)
    texts = images.with_columns(text=text)
    silent = {
        "report has none of the sections": pl.col("text").is_null(),
        "no sentence is left": pl.col("text") == "",
    }
    data.writer.reports(data.funnel.keep("report texts", "images", texts, silent))
    _write_terms(data, images)
    return data.harvest(images)


def read_reports(data: Dataset) -> pl.DataFrame:
    """A row a report: study, images (list of ids), terms (list), the sections, file and row."""
    rows: list[dict[str, Any]] = []
    path = data.path("reports")
    folder = _folder(path, data.files)
    for name, content in _unpacked(folder, data.files) if folder else _members(path):
        try:
            rows.append({**_report(content), "file": name, "row": 1, "why": None})
        except (ElementTree.ParseError, ValueError) as error:
            rows.append({"file": name, "row": 1, "why": f"is no report: {error}"})
    if not rows:
        raise UserError(f"{path} holds no XML file")
    texts = ("study", "findings", "impression", "last paragraph", "file", "why")
    schema: dict[str, Any] = {**dict.fromkeys(texts, pl.String), "row": pl.Int64}
    schema |= dict.fromkeys(("images", "terms"), pl.List(pl.String))
    frame = pl.DataFrame(rows, schema=schema)
    return data.funnel.keep_unless("read reports", "reports", frame, pl.col("why"), reject=True).drop("why")


def _folder(path: Path, files: Files) -> list[str]:
    """The XML files beside this one by their paths below the root, none for an archive."""
    if path.suffix != ".xml":
        return []
    beside = path.parent.relative_to(files.root).as_posix()
    return sorted(name for name in files.every((".xml",)) if PurePosixPath(name).parent.as_posix() == beside)


def _unpacked(names: list[str], files: Files) -> Iterator[tuple[str, bytes]]:
    """Name and content of XML files below the root; one that leaves it by a link has no content."""
    for name in names:
        try:
            yield name, contents.content(inside(files.root, name))
        except ValueError:
            yield name, b""


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the XML files of a tar archive, which is never unpacked to disk."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(".xml") else None
                if file is not None:
                    # One byte more than a report may have: the rest is not unpacked into memory.
                    yield member.name, file.read(_LARGEST + 1)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is truncated or no archive ({error}): get it again") from None


def _report(content: bytes) -> dict[str, Any]:
    """One report. Raises ValueError or ParseError when it is none."""
    if len(content) > _LARGEST:
        raise ValueError("it is larger than any report")
    if b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        raise ValueError("it declares entities")
    root = ElementTree.parse(io.BytesIO(content)).getroot()
    study = root.find("uId")
    if study is None or not study.get("id"):
        raise ValueError("it has no uId")
    parts = {str(part.get("Label")).lower(): (part.text or "").strip() for part in root.iter("AbstractText")}
    return {
        "study": study.get("id"),
        "findings": parts.get("findings"),
        "impression": parts.get("impression"),
        "last paragraph": None,  # these reports have sections throughout
        "images": [image.get("id") for image in root.iter("parentImage") if image.get("id")],
        "terms": [(term.text or "").strip() for term in root.iter("major")],
    }


def _viewed(data: Dataset, images: pl.DataFrame) -> pl.DataFrame:
    if not data.has("views"):
        return images
    columns = {"image_id": "imageid", "width": "Columns", "height": "Rows", "view": "View Position"}
    table = data.table("views", columns)
    table = scan.numbers(table, ("width", "height"), data.funnel, "sizes of images")
    table = table.unique("image_id", keep="first").drop("file", "row")
    joined = images.join(table, on="image_id", how="left", maintain_order="left")
    sides = [pl.col(side).fill_null(0).cast(pl.Int64) for side in ("width", "height")]
    view = pl.col("view").str.strip_chars().replace_strict(_VIEWS, default="unknown")
    if data.options.placing != "skip":
        sides = [pl.lit(0, pl.Int64).alias(side) for side in ("width", "height")]  # the PNG files are smaller
    return joined.with_columns(view, *sides)


def _write_terms(data: Dataset, images: pl.DataFrame) -> None:
    terms = images.select("image_id", term="terms").explode("term").drop_nulls()
    names = {term: finding_of(term) for term in terms["term"].unique().to_list()}
    label = folded(pl.col("term").replace_strict(names, return_dtype=pl.String))
    terms = terms.select("image_id", label=label).drop_nulls().unique(maintain_order=True)
    found = terms.filter(pl.col("label") != NO_FINDING).group_by("image_id").agg(labels="label")
    indexed = {"report has no MeSH term": ~pl.col("image_id").is_in(terms["image_id"].unique().implode())}
    known = data.funnel.keep("images with MeSH terms", "images", images, indexed)
    labelled = known.join(found, on="image_id", how="left", maintain_order="left")
    data.writer.labels(labelled.with_columns(pl.col("labels").fill_null([])))
    data.writer.presence(known, terms)


def finding_of(term: str) -> str | None:
    """The finding that a MeSH term names, without side, place and degree; None for a term that names none.

    >>> finding_of("Pleural Effusion/left/small"), finding_of("Catheters, Indwelling/right")
    ('pleural effusion', 'indwelling catheters')
    >>> finding_of("Diaphragm/right/elevated"), finding_of("No Indexing")
    ('elevated diaphragm', None)
    """
    head, *qualifiers = (part.strip().lower() for part in term.split("/"))
    if not head or head in _NO_LABEL:
        return None
    first, comma, rest = head.partition(", ")
    plain = f"{rest} {first}" if comma else head
    if plain in _ANATOMY:
        # "Aorta/tortuous": the term is a place, and a qualifier is what was found there.
        found = next((part for part in qualifiers if part not in _PLACES), None)
        plain = f"{found} {plain}" if found else ""
    return plain.replace(" and ", " ").replace(",", "") or None

"""The free-text reports, one a study, in an archive or in folders. Only those of the images that are kept are
read.

Quirks: sections by header, `___` for removed text, sentences on earlier images; some reports have an
impression only, or no header at all.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_recipes.errors import UserError
from data_recipes.sections import chosen, cleaned, split_sections
from data_recipes.sources.mimic.cohort import Cohort
from data_recipes.sources.mimic.options import Options
from data_recipes.sources.mimic.tree import report_path, trees
from data_recipes.tables import decoded

_LARGEST = 2**20  # bytes of a report; the longest published one has a few thousand
_SECTIONS = ("findings", "impression", "last paragraph")

# Study, name of its file, the content or what is wrong with it.
Text = tuple[str, str, bytes | str]


def write_reports(cohort: Cohort, options: Options) -> None:
    """The report of each image's study, where there is any."""
    data = cohort.data
    studies = cohort.images.select("subject_id", "study_id").unique(maintain_order=True)
    if data.has("reports"):
        texts = _packed(data.path("reports"), set(studies["study_id"]))
    else:
        texts = _unpacked(data.files.root, studies)
    rows = [_row(*text) for text in texts]
    if not rows:
        return
    names = ("study_id", *_SECTIONS, "file", "why")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    frame = frame.with_columns(row=pl.lit(1, pl.Int64))
    told = data.funnel.keep_unless("read reports", "reports", frame, pl.col("why"), reject=True)
    text = cleaned(chosen(options.report.sections), options.report)
    told = told.select("study_id", "file", "row", text=text)
    silent = {
        "report has none of the sections": pl.col("text").is_null(),
        "no sentence is left": pl.col("text") == "",
    }
    told = data.funnel.keep("report texts", "reports", told, silent)
    data.writer.reports(cohort.joined(told, "report text"))


def _row(study: str, name: str, content: bytes | str) -> tuple[str | None, ...]:
    if isinstance(content, str):
        return (study, None, None, None, name, content)
    sections = split_sections(decoded(content))
    return (study, *(sections.get(section) for section in _SECTIONS), name, None)


def _packed(path: Path, wanted: set[str]) -> Iterator[Text]:
    """Reports in a zip or tar archive, which is never unpacked to disk."""
    try:
        if path.suffix == ".zip":
            yield from _zipped(path, wanted)
        else:
            yield from _tarred(path, wanted)
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is truncated or no archive ({error}): get it again") from None


def _zipped(path: Path, wanted: set[str]) -> Iterator[Text]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            study = _study(member.filename)
            if study not in wanted:
                continue
            wanted.remove(study)
            try:
                large = member.file_size > _LARGEST
                yield study, member.filename, "is no report: too large" if large else archive.read(member)
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
                yield study, member.filename, f"is broken in the archive: {error}"


def _tarred(path: Path, wanted: set[str]) -> Iterator[Text]:
    with tarfile.open(path) as archive:
        for member in archive:
            study = _study(member.name)
            file = archive.extractfile(member) if study in wanted and member.isfile() else None
            if file is not None:
                wanted.remove(study)
                large = member.size > _LARGEST
                yield study, member.name, "is no report: too large" if large else file.read()


def _study(name: str) -> str:
    """50414267 from files/p10/p10000032/s50414267.txt."""
    last = name[name.rfind("/") + 1 :]
    return last[1:-4] if last.startswith("s") and last.endswith(".txt") else ""


def _unpacked(root: Path, studies: pl.DataFrame) -> Iterator[Text]:
    """Reports in folders below the root; links that lead out are not followed."""
    paths = studies.select("study_id", path=report_path()).rows()
    for tree in trees(root):
        missing = []
        for study, path in paths:
            file = tree / path
            if not file.is_file() or not file.resolve().is_relative_to(root):
                missing.append((study, path))
                continue
            large = file.stat().st_size > _LARGEST
            yield study, path, "is no report: too large" if large else file.read_bytes()
        paths = missing

"""Source `montgomery`: the Montgomery County set, 138 radiographs with a reading each, 58 of tuberculosis,
and masks of both lungs.

Quirks: whether it is tuberculosis stands in the file's name only (`_0` normal, `_1` tuberculosis); a reading
is a text file that starts with sex and age; masks have the same file names as images; there is no mask of the
heart, so that neither CTR nor CPAR can be measured.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal

import polars as pl

from data_recipes import contents, drawn
from data_recipes.dataset import Dataset, DatasetOptions
from data_recipes.files import Files, Needed, locate
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence
from data_recipes.pixels import inside
from data_recipes.reject import Rejection
from data_recipes.sections import ReportOptions, cleaned
from data_recipes.tables import decoded
from data_recipes.vocabulary import NO_FINDING

NAME = "montgomery"
VERSION = "1"
LICENCE = Licence(
    "provided by the U.S. National Library of Medicine; cite the authors",
    access="open",
    share="not stated: ask the publisher",
    page="data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets",
    cite=Cite(
        "jaeger2014two",
        "Jaeger, Stefan and Candemir, Sema and Antani, Sameer and others",
        "Two public chest X-ray datasets for computer-aided screening of pulmonary diseases",
        "Quantitative Imaging in Medicine and Surgery 4(6)",
        2014,
    ),
)
FILES = (Needed("readings", ("MCUCXR_0001_0.txt",), "folder of readings: report, findings, vqa"),)
NOTES = (
    "Montgomery: the only finding is tuberculosis, or none; the report is the radiologist's reading.",
    "Montgomery has no mask of the heart: the mixture lacks calculation.",
)
_NAME = re.compile(r"MCUCXR_(\d+)_([01])")
_FOLDERS = {"leftMask": "left lung", "rightMask": "right lung"}
_LARGEST = 2**20  # bytes of a reading; they have a few hundred
_PERSON = r"(?im)^\s*patient'?s\s+(?:sex|age)\s*:.*$"


class Options(DatasetOptions):
    """
    Attributes:
        priors: what happens to sentences of readings that compare with an earlier image.
        organs: whether the lungs are located and named (rec, reg).
    """

    priors: Literal["drop", "keep"] = "drop"
    organs: bool = True


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    files = locate(options.root, NAME, FILES)
    others = sorted([*_readings(files).values(), *_mask_files(files).values()])
    return files.fingerprint(FILES, images=options.placing != "skip", others=others)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    images = data.images(_rows(data))
    ill = pl.col("image_id").str.ends_with("1")
    labels = pl.when(ill).then(pl.lit(["tuberculosis"])).otherwise(pl.lit([], pl.List(pl.String)))
    data.writer.labels(images.with_columns(labels=labels))
    said = pl.when(ill).then(pl.lit("tuberculosis")).otherwise(pl.lit(NO_FINDING))
    data.writer.presence(images, images.select("image_id", label=said))
    texts = images.with_columns(text=cleaned(pl.col("text"), ReportOptions(priors=options.priors)))
    silent = {"has no reading": pl.col("text").is_null(), "no sentence is left": pl.col("text") == ""}
    told = data.funnel.keep("readings", "images", texts, silent)
    data.writer.reports(told.with_columns(kind=pl.lit("reading")))
    known = set(images["image_id"])
    masks = {key: path for key, path in _mask_files(data.files).items() if key[0] in known}
    if masks and options.organs:
        data.writer.boxes(data.on_image(drawn.organ_boxes(drawn.read_masks(data, masks))))
    return data.harvest(images, pl.concat_str(pl.lit("CXR_png/"), "image_id", pl.lit(".png")))


def _rows(data: Dataset) -> pl.DataFrame:
    """A row an image that has a reading or lies in CXR_png: image_id, patient_id, view, text, file, row."""
    readings = _readings(data.files)
    shown = [PurePosixPath(path) for path in data.files.image_files]
    ids = {path.stem for path in shown if path.parent.name == "CXR_png" and _NAME.fullmatch(path.stem)}
    rows = []
    for image in sorted(ids | set(readings)):
        path = readings.get(image)
        text = _reading(data, path) if path else None
        patient = _NAME.sub(r"montgomery-\1", image)
        rows.append((image, patient, "PA", text and re.sub(_PERSON, "", text), path or f"{image}.png", 1))
    columns = dict.fromkeys(("image_id", "patient_id", "view", "text", "file"), pl.String)
    frame = pl.DataFrame(rows, schema={**columns, "row": pl.Int64}, orient="row")
    data.funnel.count("images and readings", "images", frame.height, frame.height)
    return frame


def _reading(data: Dataset, path: str) -> str | None:
    """The text of a reading; None, and the file is rejected, where it cannot be one."""
    try:
        file = inside(data.files.root, path)
        if file.stat().st_size > _LARGEST:
            raise ValueError("is no reading: too large")
        text = decoded(contents.content(file))
        if "\0" in text:
            raise ValueError("holds a NUL byte")
        return text
    except ValueError as error:
        data.funnel.rejected.append(Rejection(path, 1, str(error)))
        return None


def _readings(files: Files) -> dict[str, str]:
    """Image id -> its reading's path below the root."""
    paths = map(PurePosixPath, files.every((".txt",)))
    return {path.stem: str(path) for path in paths if _NAME.fullmatch(path.stem)}


def _mask_files(files: Files) -> dict[tuple[str, str], str]:
    """Image id and organ -> the mask's path below the root: `ManualMask/leftMask/MCUCXR_0001_0.png`."""
    found: dict[tuple[str, str], str] = {}
    for name in files.every((".png",)):
        path = PurePosixPath(name)
        if path.parent.name in _FOLDERS and _NAME.fullmatch(path.stem):
            found.setdefault((path.stem, _FOLDERS[path.parent.name]), name)
    return found

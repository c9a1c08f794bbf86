"""What the columns of people's tables mean: said by the user, else guessed from their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from data_recipes.errors import UserError, unknown

# Meaning -> what such a column is often called, the likeliest first, without case and signs.
MEANINGS: dict[str, tuple[str, ...]] = {
    "image": (
        "image", "imagepath", "imagefile", "imgpath", "filepath", "filename", "file", "path", "imagename",
        "imageindex", "imageid", "img", "imgname", "dicomid", "dicomfile", "dicom", "png", "jpg",
        "sopinstanceuid",
    ),
    "patient_id": ("patientid", "subjectid", "patient", "subject", "pid", "ptid", "mrn", "caseid"),
    "split": ("split", "subset", "partition", "datasetsplit", "set", "fold"),
    "view": ("view", "viewposition", "projection", "appa", "viewpos"),
    "labels": (
        "labels", "findinglabels", "findings", "diagnoses", "diagnosis", "pathologies", "classes", "tags",
    ),
    "report": ("report", "reporttext", "radiologyreport", "findingssection", "sectionfindings", "text"),
    "label": ("label", "classname", "class", "categoryname", "category", "findinglabel", "finding", "phrase"),
    "x1": ("x1", "xmin", "x0", "bboxx1", "left"),
    "y1": ("y1", "ymin", "y0", "bboxy1", "top"),
    "x2": ("x2", "xmax", "bboxx2", "right"),
    "y2": ("y2", "ymax", "bboxy2", "bottom"),
    "x": ("x", "bboxx"),
    "y": ("y", "bboxy"),
    "w": ("w", "width", "bboxw", "bboxwidth", "boxwidth"),
    "h": ("h", "height", "bboxh", "bboxheight", "boxheight"),
    "image_width": ("imagewidth", "imgwidth", "width", "columns", "cols"),
    "image_height": ("imageheight", "imgheight", "height", "rows"),
    "question": ("question", "query"),
    "answer": ("answer", "response"),
    "kind": ("questiontype", "answertype", "contenttype"),
    "ctr": ("ctr", "cardiothoracicratio"),
    "cpar": ("cpar", "cardiopulmonaryarearatio"),
    "severity": ("severity", "edemaseverity", "edemagrade", "pulmonaryedemagrade", "grade"),
}  # fmt: skip
_CORNERS, _EXTENT = ("x1", "y1", "x2", "y2"), ("x", "y", "w", "h")
# Names of columns of 0 and 1 that are no findings.
NO_FINDINGS = (
    "sex", "gender", "male", "female", "age", "fold", "split", "train", "test", "valid", "index", "id", "set",
    "followup", "frontal", "lateral", "target", "label", "smoker", "hospital", "site",
)  # fmt: skip


def plain(name: str) -> str:
    """A column's name without case, blanks and signs."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def mapped(header: Sequence[str], said: Mapping[str, str], where: str) -> tuple[dict[str, str], list[str]]:
    """Meaning -> column, and the meanings that were guessed.

    Args:
        header: names of the columns.
        said: meaning -> column; "" says that no column has it.

    Raises:
        UserError: an unknown meaning or column, or no column names the image.
    """
    for meaning, column in said.items():
        if meaning not in MEANINGS:
            raise unknown("meaning of a column", meaning, MEANINGS)
        if column and column not in header:
            raise unknown(f"column of {where} for {meaning}", column, header)
    found = {meaning: column for meaning, column in said.items() if column}
    free = {plain(name): name for name in reversed(header) if name and name not in found.values()}
    guessed = []
    for meaning, names in MEANINGS.items():
        if meaning not in said and (name := next((n for n in names if n in free), None)):
            found[meaning] = free[name]
            guessed.append(meaning)
            if meaning not in _EXTENT:  # "width" may be that of a box or of the image: see below
                del free[name]
    _settle_boxes(found, guessed)
    if "image" not in found:
        raise UserError(
            f"{where} has no column that names the image: set option columns.image to one of "
            f"{', '.join(header)}"
        )
    return found, [meaning for meaning in MEANINGS if meaning in guessed and meaning in found]


def _settle_boxes(found: dict[str, str], guessed: Sequence[str]) -> None:
    """Leaves four columns of boxes in one form, or none; a column that is part of a box is no image's size.

    Raises:
        UserError: the user named some of four columns only.
    """
    forms = [form for form in (_CORNERS, _EXTENT) if all(name in found for name in form)]
    form = forms[0] if forms else ()
    for name in (*_CORNERS, *_EXTENT):
        if name in found and name not in form:
            if name not in guessed:
                raise UserError(
                    f"columns.{name}: boxes need all of {', '.join(_CORNERS)}, or all of {', '.join(_EXTENT)}"
                )
            del found[name]
    for name in ("image_width", "image_height"):
        if name in guessed and found.get(name) in [found[part] for part in form]:
            del found[name]

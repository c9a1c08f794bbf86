"""mimic-cxr-pe-severity: grades of pulmonary edema, 0 none, 1 vascular congestion, 2 interstitial,
3 alveolar.

The same column `edema_severity` in three files: by rules on reports and by experts on reports (of a study),
and by the consensus of four radiologists on images, which is the gold standard.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from data_recipes import scan
from data_recipes.dataset import Dataset
from data_recipes.sources.mimic.cohort import Cohort, dicom

SOURCES = ("consensus", "expert", "regex")  # the better one first


def read_grades(data: Dataset) -> dict[str, pl.DataFrame]:
    """For each source that is there: subject_id, study_id or image_id, grade 0..3, file, row."""
    found = {}
    for source in SOURCES:
        if not data.has(source):
            continue
        key = {"image_id": "dicom_id"} if source == "consensus" else {"study_id": "study_id"}
        table = data.table(source, {"subject_id": "subject_id", "grade": "edema_severity", **key})
        table = scan.numbers(table, ("grade",), data.funnel, f"numbers of {source} grades", rows="grades")
        wrong = {
            "edema_severity is not 0, 1, 2 or 3": ~pl.col("grade")
            .is_in([0.0, 1.0, 2.0, 3.0])
            .fill_null(False)
        }
        table = data.funnel.keep(f"{source} grades", "grades", table, wrong, reject=True)
        found[source] = table.with_columns(pl.col("grade").cast(pl.Int64), kind=pl.lit(source))
    if "consensus" in found:
        consensus = found["consensus"]
        found["consensus"] = consensus.with_columns(dicom("image_id").alias("image_id"))
    return found


def write_grades(cohort: Cohort, grades: Mapping[str, pl.DataFrame]) -> None:
    """One grade an image: by consensus, else by experts, else by rules."""
    parts = []
    for source in SOURCES:
        if source == "consensus" and source in grades:
            parts.append(cohort.of_images(grades[source], "grades"))
        elif source in grades:
            studies = cohort.of_studies(grades[source], "grades", once=True)
            parts.append(cohort.joined(studies, f"{source} grade"))
    if parts:
        columns = ("image_id", "grade", "kind", "file", "row")
        every = pl.concat([part.select(*columns) for part in parts])
        graded = {"graded by a better source, or twice": ~pl.col("image_id").is_first_distinct()}
        best = cohort.data.funnel.keep("one grade an image", "grades", every, graded)
        cohort.data.writer.grades(best)
        counts = dict(best.group_by("kind").len().rows())
        told = ", ".join(f"{counts.get(source, 0)} by {source}" for source in SOURCES)
        cohort.data.notes.append(
            f"Grades of edema on images of the base: {told}; those by consensus are the gold standard."
        )

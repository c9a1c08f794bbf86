"""Labels of studies: by CheXpert or NegBio from the report, and by a radiologist for 687 test studies.

Quirks: 1, 0, -1 (uncertain) or blank; eight studies have no row; the radiologist's table names studies only
and calls "Lung Opacity" "Airspace Opacity".
"""

from __future__ import annotations

import polars as pl

from data_recipes import scan
from data_recipes.dataset import Dataset
from data_recipes.sources.chexpert import LABELS, write_labels
from data_recipes.sources.mimic.cohort import Cohort
from data_recipes.sources.mimic.options import Options

_COLUMNS: dict[str, str | tuple[str, ...]] = {label: label for label in LABELS}
_COLUMNS["Lung Opacity"] = ("Lung Opacity", "Airspace Opacity")


def read_radiologist(data: Dataset) -> pl.DataFrame:
    """The radiologist's labels: study_id, LABELS as numbers, file, row."""
    return _read(data, "radiologist")


def write_study_labels(cohort: Cohort, options: Options, radiologist: pl.DataFrame | None) -> None:
    """Findings, and questions on them, of all images whose study has labels."""
    data, parts = cohort.data, []
    if radiologist is not None and options.test_labels == "radiologist":
        parts.append(cohort.of_studies(radiologist, "radiologist's labels", once=True))
    if data.has(options.labeller):
        labels = cohort.of_studies(_read(data, options.labeller), "labels", once=True)
        if parts:
            better = {
                "a radiologist labelled the study": pl.col("study_id").is_in(parts[0]["study_id"].implode())
            }
            labels = data.funnel.keep("labels by one labeller", "labels", labels, better)
        parts.append(labels)
    if parts:
        images = cohort.joined(pl.concat(parts), "labels")
        write_labels(
            data, images, LABELS, options.uncertain, options.unmentioned, presence=options.presence != "none"
        )


def _read(data: Dataset, labeller: str) -> pl.DataFrame:
    table = data.table(labeller, {"study_id": "study_id", **_COLUMNS})
    table = scan.numbers(table, LABELS, data.funnel, f"numbers of {labeller}", rows="labels")
    return table.with_columns(kind=pl.lit(labeller))

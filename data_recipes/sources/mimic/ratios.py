"""cxr-cardiomegaly: cardiothoracic and cardiopulmonary area ratios of PA images, from segmentations.

Quirks: an id may end on `.dcm`; a row may hold NaN; the authors' code writes 2, 3 or 4 where it found no
heart, no lung, or neither.
"""

from __future__ import annotations

import polars as pl

from data_recipes import scan
from data_recipes.dataset import Dataset
from data_recipes.sources.mimic.cohort import Cohort, dicom

NAMES = ("CTR", "CPAR")
_CODES = (2.0, 3.0, 4.0)


def read_ratios(data: Dataset) -> pl.DataFrame:
    """image_id, name (CTR or CPAR), value, file, row. Facts from elsewhere may be put below these."""
    schema = {"image_id": pl.String, "value": pl.Float64, "file": pl.String, "row": pl.Int64}
    parts = [pl.DataFrame(schema=schema | {"name": pl.String})]
    for name in NAMES:
        if data.has(name):
            table = data.table(name, {"image_id": ("dicom_file", "dicom_id"), "value": name})
            parts.append(_clean(data, table.with_columns(dicom("image_id").alias("image_id")), name))
    return pl.concat(parts, how="diagonal")


def with_ratio(cohort: Cohort, facts: pl.DataFrame) -> Cohort:
    """The cohort of the images that have a cardiothoracic ratio."""
    there = facts.filter(pl.col("name") == "CTR")["image_id"].implode()
    lacking = {"has no cardiothoracic ratio": ~pl.col("image_id").is_in(there)}
    kept = cohort.data.funnel.keep("base: ratios", "images", cohort.images, lacking)
    return Cohort(cohort.data, cohort.known, kept)


def write_ratios(cohort: Cohort, facts: pl.DataFrame) -> None:
    for name in NAMES:
        of_name = facts.filter(pl.col("name") == name)
        if of_name.height:
            cohort.data.writer.ratios(cohort.of_images(of_name, f"{name}s"), name)


def _clean(data: Dataset, table: pl.DataFrame, name: str) -> pl.DataFrame:
    said = pl.col("value")
    blank = {"no ratio": said.is_null() | (said.str.to_lowercase().str.strip_chars() == "nan")}
    table = data.funnel.keep(f"{name}s said", f"{name}s", table, blank)
    table = scan.numbers(table, ("value",), data.funnel, f"numbers of {name}s", rows=f"{name}s")
    coded = {"heart or lungs were not found (code 2, 3 or 4)": said.is_in(_CODES)}
    table = data.funnel.keep(f"{name}s measured", f"{name}s", table, coded)
    twice = {"image is taken by an earlier row": ~pl.col("image_id").is_first_distinct()}
    table = data.funnel.keep(f"one {name} an image", f"{name}s", table, twice, reject=True)
    return table.with_columns(name=pl.lit(name))

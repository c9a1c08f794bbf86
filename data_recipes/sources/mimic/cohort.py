"""MIMIC-CXR-JPG: the images that entries are about, joined dicom_id -> study_id -> subject_id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from data_recipes import scan
from data_recipes.dataset import Dataset
from data_recipes.sources.mimic.options import Options

_VIEWS = {"LATERAL": "lateral", "LL": "lateral", "RL": "lateral", "PA": "PA", "AP": "AP"}
_SPLITS = {"train": "train", "validate": "validation", "test": "test"}


def dicom(column: str) -> pl.Expr:
    """An image's id without the suffix and folder that some tables write."""
    return pl.col(column).str.strip_chars().str.replace(r"^.*/", "").str.replace(r"\.(dcm|jpg)$", "")


@dataclass(frozen=True)
class Cohort:
    """
    Attributes:
        known: image_id, study_id, patient_id of all images, whatever their view.
        images: those that are kept, with study_id, subject_id, and the original size in `columns`, `rows`.
    """

    data: Dataset
    known: pl.DataFrame
    images: pl.DataFrame

    def of_images(self, facts: pl.DataFrame, rows: str) -> pl.DataFrame:
        """The facts about images that are kept, see `Dataset.about`."""
        return self.data.about(facts, self.images, rows)

    def of_studies(self, facts: pl.DataFrame, rows: str, *, once: bool = False) -> pl.DataFrame:
        """The facts about studies with an image that is kept; with `once`, one row a study."""
        study = pl.col("study_id")
        unheard = {"its study is in no table of images": ~_among(study, self.known["study_id"])}
        if once:
            unheard["study is taken by an earlier row"] = ~study.is_first_distinct()
        funnel = self.data.funnel
        known = funnel.keep(f"{rows} of known studies", rows, facts, unheard, reject=True)
        left_out = {"no image of its study was kept": ~_among(study, self.images["study_id"])}
        return funnel.keep(f"{rows} of studies kept", rows, known, left_out)

    def joined(self, facts: pl.DataFrame, what: str) -> pl.DataFrame:
        """The images whose study has a fact, with the columns of the fact; one row a study."""
        table = facts.drop("subject_id", strict=False).with_columns(__there=pl.lit(True))
        images = self.images.drop("file", "row")
        found = images.join(table, on="study_id", how="left", maintain_order="left")
        lacking = {f"its study has no {what}": pl.col("__there").is_null()}
        kept = self.data.funnel.keep(f"images with {what}", "images", found, lacking)
        return kept.drop("__there")


def read_cohort(data: Dataset) -> Cohort:
    """All images that a split lists and whose view is wanted.

    Raises:
        UserError: the metadata or the list of splits is missing or broken.
    """
    columns = {"image_id": "dicom_id", "subject_id": "subject_id", "study_id": "study_id"}
    sizes = {"view": "ViewPosition", "rows": "Rows", "columns": "Columns"}
    rows = data.table("metadata", columns, sizes)
    rows = scan.numbers(rows, ("rows", "columns"), data.funnel, "sizes of images")
    splits = data.table("split", {"image_id": "dicom_id", "said": "split"})
    listed = {
        "split is not train, validate or test": ~pl.col("said").is_in(list(_SPLITS)).fill_null(False),
        "image id is taken by an earlier row": ~pl.col("image_id").is_first_distinct(),
    }
    splits = data.funnel.keep("list of splits", "rows", splits, listed, reject=True)
    found = rows.join(splits.select("image_id", "said"), on="image_id", how="left", maintain_order="left")
    found = data.funnel.keep(
        "images with a split", "images", found, {"no list of splits has it": pl.col("said").is_null()}
    )
    known_size = data.options.placing == "skip"  # image files may have been resized
    size = pl.col("columns", "rows").fill_null(0).cast(pl.Int64)
    found = found.with_columns(
        size,
        patient_id=pl.concat_str(pl.lit("mimic-"), "subject_id"),
        view=pl.col("view").replace_strict(_VIEWS, default="unknown", return_dtype=pl.String),
        split=pl.lit("") if data.options.splits == "drawn" else pl.col("said").replace_strict(_SPLITS),
    ).drop("said")
    found = found.with_columns(
        pl.when(known_size).then(pl.col(theirs)).otherwise(0).alias(ours)
        for ours, theirs in (("width", "columns"), ("height", "rows"))
    )
    known = found.select("image_id", "study_id", "patient_id")
    return Cohort(data, known, data.images(found))


def held_out(cohort: Cohort, groups: Mapping[str, pl.DataFrame]) -> Cohort:
    """The cohort with the patients of these groups, by image_id, study_id or subject_id, as test patients."""
    options: Options = cohort.data.options  # type: ignore[assignment]
    test = pl.Series("patient_id", [], dtype=pl.String)
    told = []
    for name in options.hold_out:
        if name not in groups:
            continue
        facts = groups[name]
        key = next(column for column in ("subject_id", "study_id", "image_id") if column in facts.columns)
        if key == "subject_id":
            patients = facts.select(pl.concat_str(pl.lit("mimic-"), key)).to_series().drop_nulls()
        else:
            patients = cohort.known.filter(_among(pl.col(key), facts[key]))["patient_id"]
        told.append(f"{name} {patients.n_unique()}")
        test = test.append(patients.alias("patient_id"))
    if told:
        cohort.data.notes.append(
            f"Patients held out as test patients: {', '.join(told)}; other patients by the list of splits."
        )
    split = pl.when(_among(pl.col("patient_id"), test)).then(pl.lit("test")).otherwise(pl.col("split"))
    return Cohort(cohort.data, cohort.known, cohort.images.with_columns(split=split))


def _among(key: pl.Expr, values: pl.Series) -> pl.Expr:
    return key.is_in(values.unique().implode()).fill_null(False)

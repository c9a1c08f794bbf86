"""Datasets for TaCo: what yields (image, annotation). `by_name` opens what needs no files of the user's."""

from __future__ import annotations

from data_recipes.errors import unknown
from taco_probe.taco.data.base import Dataset, Sample, from_arrays
from taco_probe.taco.data.folder import folder
from taco_probe.taco.data.made import ORIGIN, ct_radiographs, phantom
from taco_probe.taco.data.npz import medmnist, medsegbench
from taco_probe.taco.data.packages import PACKAGED, available, packaged

__all__ = [
    "Dataset",
    "Sample",
    "by_name",
    "folder",
    "from_arrays",
    "medmnist",
    "medsegbench",
    "offline",
    "origin_of",
]

MADE = {"phantom": phantom, "ct_radiographs": ct_radiographs}


def offline() -> tuple[str, ...]:
    """Names that `by_name` can open here: made ones, and those of installed packages."""
    made = ("phantom", "ct_radiographs") if "chest_ct" in available() else ("phantom",)
    return made + available()


def origin_of(name: str) -> str:
    """`Dataset.comes_from` of a dataset that `by_name` opens, without opening it."""
    return (PACKAGED[name].origin if name in PACKAGED else ORIGIN.get(name, "")) or name


def by_name(name: str) -> Dataset:
    """A made or packaged dataset.

    Raises:
        UserError: an unknown name, or a package that is not installed.
    """
    if name in MADE:
        return MADE[name]()
    if name not in PACKAGED:
        raise unknown("dataset", name, (*MADE, *PACKAGED))
    return packaged(name)

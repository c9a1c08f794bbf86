"""Named public datasets: modality, labels, licence, where they are published, and the tasks they can feed.

The table is `table.csv`: the 35 sets of MedSegBench and the 18 of MedMNIST, whose files
`taco_probe.taco.data` reads. Counts, labels, channels and licences are those that the publishers' packages
(medsegbench, medmnist) state; a licence that they do not state clearly is "check". The names of modalities,
and what a binary mask shows, are ours.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import Literal, NamedTuple, cast

from taco_probe.taco.tasks import TASKS
from taco_probe.taco.tasks.base import Need

Kind = Literal["one", "many", "instances", "classes", "none"]

_OFFERS: dict[Kind, frozenset[Need]] = {
    "one": frozenset({"mask"}),
    "many": frozenset({"mask", "regions"}),
    "instances": frozenset({"mask", "regions"}),
    "classes": frozenset({"mask", "regions", "classes"}),
    "none": frozenset(),
}


class Row(NamedTuple):
    """A public dataset.

    labels: "one": a mask, mostly of one region; "many": a mask of several; "instances": numbered objects;
    "classes": numbers are classes; "none": classes of whole images only. images: of all splits.
    """

    name: str
    collection: str
    modality: str
    colour: bool
    labels: Kind
    labelled: str
    images: int
    licence: str
    where: str

    @property
    def feeds(self) -> tuple[str, ...]:
        """Names of the tasks that its images can be made into."""
        offered = _OFFERS[self.labels] | ({"colour"} if self.colour else set())
        return tuple(name for name, task in TASKS.items() if task.needs <= offered)


def _read() -> tuple[Row, ...]:
    text = files("taco_probe.taco").joinpath("table.csv").read_text(encoding="utf-8")
    return tuple(
        Row(
            name=row["name"],
            collection=row["collection"],
            modality=row["modality"],
            colour=row["colour"] == "yes",
            labels=cast(Kind, row["labels"]),
            labelled=row["labelled"],
            images=int(row["images"]),
            licence=row["licence"],
            where=row["where"],
        )
        for row in csv.DictReader(text.splitlines())
    )


TABLE: tuple[Row, ...] = _read()

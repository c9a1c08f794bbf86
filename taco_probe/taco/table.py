"""Named public datasets: modality, labels, licence, where they are published, and the tasks they can feed.

The table is `table.csv`: the 35 sets of MedSegBench and the 18 of MedMNIST, whose files
`taco_probe.taco.data` reads. Counts, labels, channels and licences are those that the publishers' packages
(medsegbench, medmnist) state; a licence that they do not state clearly is "check". The names of modalities,
and what a binary mask shows, are ours.

`origin` is the same for sets that have images or patients in common, and empty for others. The packages state
it for LiTS (organ*mnist), HAM10000 (isic2018, dermamnist) and the Data Science Bowl 2018 (cellnuclei); the
authors of covid19radio name RSNA's images, which are of chestmnist's patients, and those of pneumoniamnist.
From general knowledge, and not checked against a source: isic2016 within isic2018, covidquex with
covid19radio, breastmnist with busi, kvasir with polypgen.
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
    origin: str
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
            origin=row["origin"],
            licence=row["licence"],
            where=row["where"],
        )
        for row in csv.DictReader(text.splitlines())
    )


TABLE: tuple[Row, ...] = _read()

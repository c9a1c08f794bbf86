"""A folder of image and mask pairs, matched by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_recipes.errors import UserError
from taco_probe.taco.data.base import Dataset, LabelKind
from taco_probe.taco.data.images import SUFFIXES, read_file

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "gt")
MASK_ENDINGS = (
    "_mask",
    "_masks",
    "_seg",
    "_segmentation",
    "_label",
    "_labels",
    "_gt",
    "_annotation",
    "-mask",
)


def folder(
    root: Path,
    *,
    name: str = "",
    modality: str = "unknown",
    labels: LabelKind = "classes",
    image_ending: str = "",
    mask_ending: str = "",
) -> Dataset:
    """Images, and their masks where the folder has any.

    Either `root` holds a folder of images and one of masks (IMAGE_FOLDERS, MASK_FOLDERS), or all lie in
    `root` itself and masks end on one of MASK_ENDINGS. A mask belongs to the image of the same stem, where
    `image_ending` and a mask's ending are taken off (`case1_img.png`, `case1_mask.png`). Without any mask
    the images stand alone, `labels` none.

    Args:
        image_ending: that all images' stems end on, such as "_img".
        mask_ending: that all masks' stems end on; "" tries MASK_ENDINGS.

    Raises:
        UserError: no folder, no images, masks that match no image, images without a mask beside others
            with one, two files of one stem; with examples of the names.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    images_at, masks_at = _sub(root, IMAGE_FOLDERS), _sub(root, MASK_FOLDERS)
    if masks_at and not images_at:
        raise UserError(
            f"{root}: has a folder {masks_at.name}, but none of images ({', '.join(IMAGE_FOLDERS)})"
        )
    if images_at:
        pictures, masks = _files(images_at), _files(masks_at) if masks_at else []
    else:
        endings = (mask_ending,) if mask_ending else MASK_ENDINGS
        masks = [path for path in _files(root) if path.stem.endswith(endings)]
        pictures = [path for path in _files(root) if path not in masks]
    if not pictures:
        raise UserError(f"{images_at or root}: no images ({', '.join(SUFFIXES)})")
    by_stem = _by_stem(pictures, (image_ending,))
    mask_of = _by_stem(masks, (mask_ending,) if mask_ending else MASK_ENDINGS)
    if masks:
        _match(root, by_stem, mask_of)
    stems = sorted(by_stem)

    def read(index: int) -> tuple[np.ndarray, np.ndarray | None]:
        stem = stems[index]
        pixels = read_file(by_stem[stem])
        if not mask_of:
            return pixels, None
        mask = read_file(mask_of[stem], mask=True)
        if mask.shape[:2] != pixels.shape[:2]:
            (h, w), (mh, mw) = pixels.shape[:2], mask.shape[:2]
            raise UserError(
                f"{by_stem[stem]}: {w} x {h} pixels, but its mask {mask_of[stem].name} has {mw} x {mh}"
            )
        return pixels, mask

    return Dataset(
        name or root.name, modality, labels if masks else "none", [str(by_stem[stem]) for stem in stems], read
    )


def _sub(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _files(at: Path) -> list[Path]:
    return sorted(
        path for path in at.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _by_stem(files: list[Path], endings: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        ending = next((one for one in endings if one and path.stem.endswith(one)), "")
        stem = path.stem.removesuffix(ending)
        if stem in found:
            raise UserError(f"{path}: is called {stem!r} as {found[stem].name} is: names must differ")
        found[stem] = path
    return found


def _match(root: Path, images: dict[str, Path], masks: dict[str, Path]) -> None:
    alone, lost = sorted(set(images) - set(masks)), sorted(set(masks) - set(images))
    if not alone and not lost:
        return
    some = f"{images[(alone or sorted(images))[0]].name}", f"{masks[(lost or sorted(masks))[0]].name}"
    raise UserError(
        f"{root}: {len(alone)} of {len(images)} images have no mask and {len(lost)} of {len(masks)} masks no "
        f"image (such as {some[0]} and {some[1]}): names must match but for image_ending and mask_ending"
    )

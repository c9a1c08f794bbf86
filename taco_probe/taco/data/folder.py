"""A folder of image and mask pairs, or of input and target pairs, matched by their names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from data_recipes.errors import UserError
from taco_probe.taco.data.base import Dataset, LabelKind
from taco_probe.taco.data.images import SUFFIXES, read_file, to_image, to_labels
from taco_probe.taco.tasks.base import Instance, check

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
INPUT_FOLDERS = ("inputs", "input")
TARGET_FOLDERS = ("targets", "target", "outputs", "output")
INPUT_ENDINGS = ("_input",)
TARGET_ENDINGS = ("_target", "_output")


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
    `image_ending` and a mask's ending are taken off (`case1_img.png`, `case1_mask.png`), or that has the very
    same stem. Without any mask the images stand alone, `labels` none.

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
    mask_of = _by_stem(masks, (mask_ending,) if mask_ending else MASK_ENDINGS, by_stem)
    if masks:
        _match(root, by_stem, mask_of, "image", "mask")
    stems = sorted(by_stem)

    def read(index: int) -> tuple[np.ndarray, np.ndarray | None]:
        stem = stems[index]
        pixels = read_file(by_stem[stem])
        if not mask_of:
            return pixels, None
        mask = read_file(mask_of[stem], mask=True)
        _same_size(pixels, by_stem[stem], mask, mask_of[stem], "mask")
        return pixels, to_labels(mask, str(mask_of[stem]))

    return Dataset(
        name or root.name, modality, labels if masks else "none", [str(by_stem[stem]) for stem in stems], read
    )


class Pairs:
    """Input and target images of a folder; `pairs[i]` is an Instance, read when asked for.

    `root` holds a folder of inputs and one of targets (INPUT_FOLDERS, TARGET_FOLDERS); a target belongs to
    the input of the same stem, INPUT_ENDINGS and TARGET_ENDINGS aside.
    """

    def __init__(self, root: Path) -> None:
        """Raises UserError: as `folder`."""
        at = _sub(root, INPUT_FOLDERS), _sub(root, TARGET_FOLDERS)
        if not at[0] or not at[1]:
            raise UserError(
                f"{root}: pairs need a folder inputs and a folder targets, of images with the same names"
            )
        self._inputs = _by_stem(_files(at[0]), INPUT_ENDINGS)
        self._targets = _by_stem(_files(at[1]), TARGET_ENDINGS)
        if not self._inputs:
            raise UserError(f"{at[0]}: no images ({', '.join(SUFFIXES)})")
        _match(root, self._inputs, self._targets, "input", "target")
        self._stems = sorted(self._inputs)
        self.names = [str(self._inputs[stem]) for stem in self._stems]

    @staticmethod
    def there(root: Path) -> bool:
        """Whether the folder looks like one of pairs."""
        return bool(_sub(root, INPUT_FOLDERS) or _sub(root, TARGET_FOLDERS))

    def __len__(self) -> int:
        return len(self._stems)

    def __getitem__(self, index: int) -> Instance:
        """Raises UserError: an image that cannot be used, or an input and target of different sizes."""
        files = self._inputs[self._stems[index]], self._targets[self._stems[index]]
        made = Instance(*(to_image(read_file(file), str(file)) for file in files))
        _same_size(made.input, files[0], made.target, files[1], "target")
        for image, file in zip(made, files, strict=True):
            try:
                check(image, None)
            except UserError as error:
                raise UserError(f"{file}: {error}") from None
        return made

    @property
    def inputs(self) -> Dataset:
        """The inputs alone."""

        def read(index: int) -> tuple[np.ndarray, None]:
            return read_file(self._inputs[self._stems[index]]), None

        return Dataset("inputs", "unknown", "none", self.names, read)


def _same_size(first: np.ndarray, file: Path, second: np.ndarray, other: Path, what: str) -> None:
    (h, w), (mh, mw) = first.shape[:2], second.shape[:2]
    if (h, w) != (mh, mw):
        raise UserError(f"{file}: {w} x {h} pixels, but its {what} {other.name} has {mw} x {mh}")


def _sub(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _files(at: Path) -> list[Path]:
    return sorted(
        path for path in at.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _by_stem(files: list[Path], endings: tuple[str, ...], known: Collection[str] = ()) -> dict[str, Path]:
    """Files by their stems without an ending, unless the whole stem is known already."""
    found: dict[str, Path] = {}
    for path in files:
        ending = next((one for one in endings if one and path.stem.endswith(one)), "")
        stem = path.stem if path.stem in known else path.stem.removesuffix(ending)
        if stem in found:
            raise UserError(f"{path}: is called {stem!r} as {found[stem].name} is: names must differ")
        found[stem] = path
    return found


def _match(root: Path, first: dict[str, Path], second: dict[str, Path], one: str, other: str) -> None:
    alone, lost = sorted(set(first) - set(second)), sorted(set(second) - set(first))
    if not alone and not lost:
        return
    some = [
        files[(left or sorted(files))[0]].name for left, files in ((alone, first), (lost, second)) if files
    ]
    raise UserError(
        f"{root}: {len(alone)} of {len(first)} {one}s have no {other} and {len(lost)} of {len(second)} "
        f"{other}s no {one} (such as {' and '.join(some)}): names must match but for their endings"
    )

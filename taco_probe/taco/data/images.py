"""Pixels and label maps of files, as images in 0..1 and whole numbers."""

from __future__ import annotations

import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import ndimage

from data_recipes.errors import UserError
from taco_probe.taco.tasks.base import Array, Labels

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".npy")
# What libraries raise for files that are cut, encrypted, packed in an unknown way, or claim a huge size.
BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, RuntimeError, MemoryError, KeyError, TypeError, IndexError,
    struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, PIL.Image.DecompressionBombError,
)  # fmt: skip
_WHITES = (255, 65535)
_NEARLY_ALL = 0.95  # of the grey pixels of masks with soft edges lie at an edge
_LARGEST = 200_000_000  # pixels


def to_image(pixels: np.ndarray, name: str) -> Array:
    """(H, W) or (H, W, 3) float32 in 0..1.

    8 bits and booleans are scaled by their range; deeper whole numbers by the largest of the smallest even
    number of bits that holds the image (detectors give 10, 12 or 14 bits in 16); floats must be in 0..1.
    Transparent pixels are black; one channel is grey, two are grey and alpha, four colour and alpha.

    Raises:
        UserError: another shape or type, values out of range, NaN; with the name.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (2, 3, 4)):
        raise UserError(f"{name}: pixels of shape {pixels.shape}; (H, W), or (H, W, 1 to 4) is needed")
    if pixels.size == 0:
        raise UserError(f"{name}: the image is empty, shape {pixels.shape}")
    kind = pixels.dtype.kind
    if kind == "f":
        image = pixels.astype(np.float32)
        if not (image.min() >= 0 and image.max() <= 1):  # false for NaN too
            raise UserError(
                f"{name}: floating-point pixels must be in 0..1, not {image.min():g}..{image.max():g}"
            )
    elif kind in "bui":
        if pixels.min() < 0:
            raise UserError(f"{name}: pixels below 0: choose a window (CT), or scale to 0..1")
        image = (pixels / _white(pixels)).astype(np.float32)
    else:
        raise UserError(f"{name}: pixels of type {pixels.dtype} are no image")
    if image.ndim == 3 and image.shape[2] in (2, 4):
        image = image[..., :-1] * image[..., -1:]
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def to_labels(annotation: np.ndarray, name: str, *, white: int = 0) -> Labels:
    """(H, W) int32; equal channels are one.

    Args:
        white: of a black and white mask, which is cut at half of it into 0 and 1; 0 where numbers are labels.

    Raises:
        UserError: colours, fractions, negative numbers; with the name.
    """
    labels = np.asarray(annotation)
    if labels.ndim == 3 and labels.shape[2] in (2, 4):
        labels = labels[..., :-1]
    if labels.ndim == 3:
        if (labels != labels[..., :1]).any():
            raise UserError(f"{name}: the mask has colours; a label map has one number a pixel")
        labels = labels[..., 0]
    if labels.ndim != 2:
        raise UserError(f"{name}: the mask has shape {labels.shape}; (H, W) is needed")
    if labels.dtype.kind not in "buif" or (labels.dtype.kind == "f" and (labels != np.round(labels)).any()):
        raise UserError(f"{name}: the mask must hold whole numbers")
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.int32).max):
        raise UserError(f"{name}: the mask must hold numbers from 0 up")
    return np.asarray(labels > white / 2 if white else labels, dtype=np.int32)


def white_of(masks: Iterable[Labels], *, instances: bool = False) -> int:
    """The number that is white (255 or 65535) where a dataset's masks are black and white; 0 where numbers
    are labels.

    Black and white are masks without other numbers, and masks with soft edges: at least three greys, nearly
    all of their pixels beside black, and either beside white or of many greys (thin lines are nowhere white;
    but where numbers may be `instances`, many of them are small objects). The rule is ours.
    """
    largest, greys, total, beside = 0, set[int](), 0, np.zeros(2, int)
    for mask in masks:
        largest = max(largest, int(mask.max(initial=0)))
        white = next((one for one in _WHITES if mask.max(initial=0) <= one), 0)
        grey = (mask > 0) & (mask < white)
        if not grey.any():
            continue
        greys.update(np.unique(mask[grey]).tolist())
        total += int(grey.sum())
        beside += [int((grey & _grown(mask == end)).sum()) for end in (0, white)]
    if largest not in _WHITES:
        return 0
    black, bright = beside >= _NEARLY_ALL * total
    soft = len(greys) >= 3 and black and (bright or (len(greys) > 8 and not instances))
    return largest if soft or not greys else 0


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All that is within two pixels of a mask."""
    return np.asarray(ndimage.maximum_filter(mask, 5, mode="nearest"))


def windowed(values: np.ndarray, low: float, high: float) -> Array:
    """Values from `low` (black) to `high` (white): a CT window, or the ends of a percentile stretch."""
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), dtype=np.float32)


def stretched(values: np.ndarray) -> Array:
    """Values between their 0.5th and 99.5th percentile."""
    return windowed(values, *np.percentile(values, [0.5, 99.5]))


def read_file(path: Path, *, mask: bool = False) -> np.ndarray:
    """Raw pixels of an image file, or a mask's numbers: palette indices stay numbers, JPEG is cut at half.

    Raises:
        UserError: missing, broken, of another format, of several frames or too large; with the path.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: no image that is read here; known: {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if path.suffix.lower() == ".npy":
            # Mapped first: then a header that claims more than the file holds is an error, not an allocation.
            return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # the limit here is ours
            with PIL.Image.open(path) as image:
                return _pixels(image, path, mask)
    except UserError:
        raise
    except BROKEN as error:
        reason = str(error).replace(str(path), path.name) or type(error).__name__
        raise UserError(f"{path}: broken or no image ({reason})") from None


def _pixels(image: Any, path: Path, mask: bool) -> np.ndarray:
    if image.width * image.height > _LARGEST:
        raise UserError(f"{path}: {image.width} x {image.height} pixels, more than {_LARGEST:,}")
    if getattr(image, "n_frames", 1) > 1:
        raise UserError(f"{path}: {image.n_frames} frames; save each as an image of its own")
    image.load()
    if mask:
        values = np.asarray(image)
        return (values >= 128) * np.uint8(255) if image.format == "JPEG" else values
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    elif image.mode == "F":
        raise UserError(f"{path}: floating-point pixels; save 8 or 16 bits")
    return np.asarray(image)


def _white(pixels: np.ndarray) -> int:
    if pixels.dtype.kind == "b":
        return 1
    largest = int(pixels.max())
    return next((2**bits - 1 for bits in range(8, 32, 2) if largest < 2**bits), 2**32 - 1)

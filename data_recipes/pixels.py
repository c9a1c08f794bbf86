"""Image files: decoding with clear errors, digests of pixels, safe names, paths that stay inside a root."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL.Image

from data_recipes import dicom, img

Result = TypeVar("Result")

# Files that PIL does not read, by suffix: how their pixels and their size are read. They become PNG files.
_READERS: dict[str, tuple[Callable[[Path], np.ndarray], Callable[[Path], tuple[int, int]]]] = {
    **dict.fromkeys(dicom.SUFFIXES, (dicom.read_dicom, dicom.dicom_size)),
    **dict.fromkeys(img.SUFFIXES, (img.read_img, img.img_size)),
}
REWRITTEN = frozenset(_READERS)

_LONGEST, _LARGEST = 32_768, 200_000_000  # pixels of a side and of an image; no radiograph has more
_PNG_TRAILER = b"IEND\xaeB`\x82"


class _UnfitError(ValueError):
    """Clear without a look at the pixels, and worded for the user."""


def inside(root: Path, relative: str) -> Path:
    """The file that `relative` names under `root`, links resolved.

    Raises:
        ValueError: the path is absolute, has a `..`, or leaves the folder by a symbolic link.
    """
    if not relative or "\0" in relative:
        raise ValueError(f"{relative!r} is not a file name")
    base = root.resolve()
    try:
        path = (base / relative).resolve()
    except (OSError, RuntimeError):  # links in a circle, until Python 3.13
        raise ValueError(f"image {relative!r} cannot be followed") from None
    named = Path(relative)  # "../folder/a.png" comes back, but is another name for a file that has one
    if named.is_absolute() or ".." in named.parts or not path.is_relative_to(base):
        raise ValueError(
            f"image {relative!r} lies outside the folder: name it relative to the folder, without '..'"
        )
    return path


def fault(path: Path) -> str:
    """What is wrong with an image file at first sight, or "". Cheap: of a PNG only the end is read."""
    try:
        with path.open("rb") as file:
            if path.suffix.lower() != ".png":
                return "" if file.read(1) else "is empty"
            file.seek(-len(_PNG_TRAILER), os.SEEK_END)
            return "" if file.read() == _PNG_TRAILER else "is truncated"
    except FileNotFoundError:
        return "is missing"
    except OSError:  # shorter than a trailer, a folder, a name too long, no permission
        return "is truncated or cannot be read"


def decode(path: Path) -> PIL.Image.Image:
    """The whole image, decoded, in mode "L"; deeper grey values are scaled to 8 bits rather than clipped,
    what is transparent is black, and files of REWRITTEN suffixes are shown as their readers say.

    Raises:
        ValueError: the file is missing, truncated, no image, or too large for a radiograph.
    """
    if reader := _READERS.get(path.suffix.lower()):
        size(path)  # is it too large?
        return _read(path, lambda: PIL.Image.fromarray(reader[0](path)))
    with _opened(path) as image:
        image.load()
        if image.mode.startswith(("I", "F")):
            grey = np.asarray(image, dtype=np.float64)
            return PIL.Image.fromarray(np.clip(grey * 255 / _white(grey), 0, 255).astype(np.uint8))
        if "A" in image.mode or "transparency" in image.info:
            black = PIL.Image.new("RGBA", image.size, "black")
            return PIL.Image.alpha_composite(black, image.convert("RGBA")).convert("L")
        return image.convert("L")


def _white(grey: np.ndarray) -> int:
    """The value that stands for white: the largest of the smallest even number of bits, from 8 to 16, that
    holds all values. A detector gives 10, 12 or 14 bits, and files keep them in 16."""
    largest = grey.max(initial=0)
    return next((2**bits - 1 for bits in range(8, 16, 2) if largest < 2**bits), 2**16 - 1)


def size(path: Path) -> tuple[int, int]:
    """Width and height of an image from the head of its file, which is not decoded. Raises as `decode`."""
    if reader := _READERS.get(path.suffix.lower()):
        width, height = _read(path, lambda: reader[1](path))
        _check_size(path, width, height)
        return width, height
    with _opened(path) as image:
        return int(image.width), int(image.height)


def _read(path: Path, read: Callable[[], Result]) -> Result:
    try:
        if not path.is_file():
            raise FileNotFoundError
        return read()
    except FileNotFoundError:
        raise ValueError(f"image file {path.name} is missing") from None
    except ValueError as error:
        raise ValueError(f"image file {path.name}: {str(error).replace(str(path), path.name)}") from None


def _check_size(path: Path, width: int, height: int) -> None:
    if max(width, height) > _LONGEST or width * height > _LARGEST:
        raise _UnfitError(f"image file {path.name}: {width} x {height} pixels, more than any radiograph has")


@contextmanager
def _opened(path: Path) -> Iterator[PIL.Image.Image]:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise _UnfitError(f"image file {path.name} is no regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # the limits here are ours
            with PIL.Image.open(path) as image:
                _check_size(path, *image.size)
                yield image
    except _UnfitError:
        raise
    except FileNotFoundError:
        raise ValueError(f"image file {path.name} is missing") from None
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        # SyntaxError is what PIL raises for a broken PNG chunk.
        reason = str(error).replace(str(path), path.name)
        raise ValueError(f"image file {path.name} is truncated or no image ({reason})") from None


def write_png(pixels: np.ndarray, path: Path) -> None:
    """Writes pixels (H, W) uint8; light compression, because reading back matters more than size."""
    PIL.Image.fromarray(pixels).save(path, compress_level=1)


def digest(pixels: np.ndarray) -> str:
    """SHA-256 of the pixels (H, W) uint8 and their shape: independent of the file format that held them."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def safe_name(image_id: str) -> str:
    """A file name (no suffix) for an image: the id where it is harmless, else a cleaned one with a digest."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", image_id)
    if safe == image_id and len(safe) <= 80 and not safe.startswith("."):
        return safe
    return f"{safe.strip('.')[:60]}-{hashlib.sha256(image_id.encode()).hexdigest()[:10]}"

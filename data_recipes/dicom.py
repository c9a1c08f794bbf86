"""Pixels of DICOM files as 8-bit grey, by the display pipeline of the standard (PS3.4, N.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".dcm", ".dicom")
_TAGS = ["Rows", "Columns", "NumberOfFrames", "PhotometricInterpretation"]


def read_dicom(path: Path) -> np.ndarray:
    """The pixels (H, W) uint8: modality LUT, then the file's first VOI LUT or window, then stretched from the
    darkest to the brightest value; MONOCHROME1, which shows low values bright, is inverted.

    Raises:
        ValueError: no pydicom is installed; the file is no DICOM, or its pixels cannot be read, or are not
            one grey image.
    """
    _check(path)
    pydicom = _pydicom()
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    try:
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array
    except Exception as error:  # pydicom and its decoders raise what they like on broken files
        raise ValueError(f"no DICOM image that can be read ({' '.join(str(error).split())[:120]})") from None
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if pixels.ndim != 2:
        raise ValueError(f"{kind} of shape {pixels.shape} is no single grey image")
    shown = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset).astype(np.float64)
    low, high = float(shown.min()), float(shown.max())
    grey = np.clip((shown - low) / max(high - low, 1e-9), 0, 1)
    if kind == "MONOCHROME1":
        grey = 1 - grey
    return np.asarray(np.round(grey * 255).astype(np.uint8))


def dicom_size(path: Path) -> tuple[int, int]:
    """Width and height, from the head of the file. Raises as `read_dicom`."""
    head = _head(path)
    try:
        return int(head.Columns), int(head.Rows)
    except Exception as error:
        raise ValueError(f"no DICOM image ({' '.join(str(error).split())[:120]})") from None


def _head(path: Path) -> Any:
    """The tags that say whether, and how, the pixels can be read. Raises ValueError when the file is no
    DICOM file, or is packed as a whole: unpacking such a file to look at its head may fill the memory."""
    pydicom = _pydicom()
    try:
        syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
        packed = syntax is not None and syntax.is_deflated
        if not packed:
            return pydicom.dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
    except Exception as error:
        raise ValueError(f"no DICOM image ({' '.join(str(error).split())[:120]})") from None
    raise ValueError(f"{syntax.name} is not read: save it in another transfer syntax")


def _check(path: Path) -> None:
    """Raises ValueError for what is clear without the pixels: several frames, colour, no decoder."""
    from pydicom.pixels import get_decoder

    head = _head(path)
    frames = int(head.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(f"{frames} frames are no single image: save the one you mean")
    kind = str(head.get("PhotometricInterpretation", "MONOCHROME2"))
    if not kind.startswith("MONOCHROME"):
        raise ValueError(f"{kind} is no grey image")
    syntax = head.file_meta.get("TransferSyntaxUID") if hasattr(head, "file_meta") else None
    if syntax is None or not syntax.is_compressed:
        return
    try:
        able = get_decoder(syntax).is_available
    except NotImplementedError:
        raise ValueError(f"its pixels are {syntax.name}, which pydicom does not read") from None
    if not able:
        raise ValueError(
            f"its pixels are {syntax.name}, which takes a decoder: pip install 'pylibjpeg[all]' "
            "(or save it uncompressed)"
        )


def _pydicom() -> Any:
    try:
        import pydicom
    except ModuleNotFoundError:
        raise ValueError(
            "it is a DICOM file, which takes pydicom: pip install 'imax-harness[data]'"
        ) from None
    return pydicom

"""Pixels of DICOM files as 8-bit grey, by the display pipeline of the standard (PS3.4, N.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".dcm", ".dicom")


def read_dicom(path: Path) -> np.ndarray:
    """The pixels (H, W) uint8: modality LUT, then the file's first VOI LUT or window, then stretched from the
    darkest to the brightest value; MONOCHROME1, which shows low values bright, is inverted.

    Raises:
        ValueError: no pydicom is installed; the file is no DICOM, or its pixels cannot be read, or are not
            one grey image.
    """
    pydicom = _pydicom()
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    try:
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array
    except Exception as error:  # pydicom and its decoders raise what they like on broken files
        raise ValueError(f"no DICOM image that can be read ({' '.join(str(error).split())[:120]})") from None
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if pixels.ndim != 2 or not kind.startswith("MONOCHROME"):
        raise ValueError(f"{kind} of shape {pixels.shape} is no single grey image")
    shown = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset).astype(np.float64)
    low, high = float(shown.min()), float(shown.max())
    grey = np.clip((shown - low) / max(high - low, 1e-9), 0, 1)
    if kind == "MONOCHROME1":
        grey = 1 - grey
    return np.asarray(np.round(grey * 255).astype(np.uint8))


def dicom_size(path: Path) -> tuple[int, int]:
    """Width and height, from the head of the file. Raises as `read_dicom`."""
    pydicom = _pydicom()
    try:
        head = pydicom.dcmread(path, specific_tags=["Rows", "Columns"], stop_before_pixels=True)
        return int(head.Columns), int(head.Rows)
    except Exception as error:
        raise ValueError(f"no DICOM image ({' '.join(str(error).split())[:120]})") from None


def _pydicom() -> Any:
    try:
        import pydicom
    except ModuleNotFoundError:
        raise ValueError(
            "it is a DICOM file, which takes pydicom: pip install 'imax-harness[data]'"
        ) from None
    return pydicom

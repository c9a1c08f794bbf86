"""A chest CT with its label map, read once and prepared for warping: attenuation and soft masks on one grid.

Arrays are (X, Y, Z) in RAS order: +x is the patient's right, +y anterior, +z superior. Lengths are in mm from
the centre of the volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from data_recipes.errors import UserError
from data_recipes.sources.ct.options import Scan

# Voxels are averaged in whole blocks no longer than this, mm (x, y, z); a projection sums over depth anyway.
GRID_MM = np.array([2.5, 3.6, 2.5])
STUMP_MM = 11.0
BODY = 0.6  # attenuation that separates the body from air, water is 1


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One chest.

    Attributes:
        attenuation: (X, Y, Z) float32, relative to water: 0 in air, 1 in water, above 1.3 in bone.
        masks: structure -> (X, Y, Z) float32, the share of each voxel inside; the surface is at share 0.5.
        spacing: (3,) mm.
    """

    attenuation: np.ndarray
    masks: Mapping[str, np.ndarray]
    spacing: np.ndarray

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel index -> mm."""
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = -(np.array(self.attenuation.shape) - 1) / 2 * self.spacing
        return affine

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions in mm along the three axes, shaped to broadcast to (X, Y, Z)."""
        lines = [
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
            for n, step in zip(self.attenuation.shape, self.spacing, strict=True)
        ]
        return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]

    def extent(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner in mm of a structure, each (3,)."""
        return extent(self.masks[name], self.spacing)


def extent(mask: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest voxel centre in mm where a soft mask is at least 0.5, each (3,)."""
    inside = mask >= 0.5
    ends = []
    for axis, (count, step) in enumerate(zip(mask.shape, spacing, strict=True)):
        hit = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        ends.append((hit[[0, -1]] - (count - 1) / 2) * step)
    low, high = np.array(ends).T
    return low, high


@lru_cache(maxsize=2)
def load(scan: Scan) -> Anatomy:
    """The prepared chest of a scan; kept for the process, since warps start from it again and again.

    Raises:
        UserError: a file is missing or unreadable, the two differ in shape, or a structure is not in the map.
    """
    volume, affine = _read(scan.volume, f"volume of CT {scan.name!r}")
    labels, _ = _read(scan.labels, f"label map of CT {scan.name!r}")
    volume = np.nan_to_num(volume, nan=-1000.0)  # what a scanner did not see is padded
    labels = np.nan_to_num(labels).astype(np.int32)  # whole numbers are looked up in a table
    if volume.shape != labels.shape:
        raise UserError(
            f"{scan.labels}: the label map of CT {scan.name!r} is {labels.shape}, its volume {volume.shape}: "
            "resample the label map onto the volume"
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    factors = np.maximum(1, (GRID_MM / spacing).astype(int))
    masks = {}
    for name, ids in scan.structures:
        inside = np.isin(labels, ids)
        if not inside.any():
            raise UserError(
                f"{scan.labels}: {name!r} of CT {scan.name!r} has no voxel of label "
                f"{', '.join(map(str, ids))}; the map holds {_some(np.unique(labels))}"
            )
        masks[name] = _block_mean(inside, factors)
    masks["heart"] = _without_vessels(masks["heart"], spacing * factors)
    attenuation = np.clip(1 + _block_mean(volume, factors) / 1000, 0, 4)
    anatomy = _crop_to_body(Anatomy(attenuation, masks, spacing * factors))
    left, right = (float(np.mean(anatomy.extent(f"{side} lung"), axis=0)[0]) for side in ("left", "right"))
    if left >= right:
        raise UserError(
            f"{scan.labels}: the left lung of CT {scan.name!r} lies on the right: swap the label ids, "
            "or repair the orientation in the NIfTI header"
        )
    return anatomy


def _read(path: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Array (X, Y, Z) in RAS order and affine (4, 4) of a NIfTI file."""
    import nibabel

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file ({what})")
    try:
        image: Any = nibabel.as_closest_canonical(nibabel.load(path))
        data = np.asarray(image.dataobj, dtype=np.float32)
    except Exception as error:  # nibabel, zlib and the file system each raise their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a readable NIfTI file ({what}): {reason}") from error
    if data.ndim != 3 or min(data.shape) < 8:
        raise UserError(f"{path}: {what} has shape {data.shape}; a 3-D volume is needed")
    return data, image.affine


def _block_mean(array: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Means over whole blocks of voxels; what is left at the far ends is cut off."""
    for axis, factor in enumerate(factors):
        kept = array.shape[axis] // factor * factor
        array = array[(slice(None),) * axis + (slice(kept),)]
        shape = (*array.shape[:axis], kept // factor, factor, *array.shape[axis + 1 :])
        array = array.reshape(shape).mean(axis + 1, dtype=np.float32)
    return array


def _crop_to_body(anatomy: Anatomy) -> Anatomy:
    """The volume without table and blankets, cut to the body with a little air around it."""
    parts, count = ndimage.label(anatomy.attenuation > BODY)
    if count == 0:
        raise UserError("the CT volume holds no tissue: are its values Hounsfield units?")
    body = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    for k in range(
        body.shape[2]
    ):  # lungs and airways are open at the ends of the volume, closed in each slice
        body[:, :, k] = ndimage.binary_fill_holes(body[:, :, k])
    body = ndimage.binary_dilation(body)
    (box,) = ndimage.find_objects(body.astype(np.uint8))
    box = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in box)
    return Anatomy(
        np.ascontiguousarray(np.where(body, anatomy.attenuation, 0)[box], dtype=np.float32),
        {name: np.ascontiguousarray(mask[box]) for name, mask in anatomy.masks.items()},
        anatomy.spacing,
    )


def _without_vessels(heart: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The heart without stumps of great vessels thinner than 2 x STUMP_MM, which are no part of its width: a
    morphological opening."""
    core = ndimage.distance_transform_edt(heart >= 0.5, sampling=spacing) > STUMP_MM
    if not core.any():
        return heart
    parts, _ = ndimage.label(core)
    core = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    reach = STUMP_MM + float(spacing.max())  # a voxel more, so that the soft edge is kept
    opened = ndimage.distance_transform_edt(~core, sampling=spacing) <= reach
    return np.asarray(np.where(opened, heart, 0), dtype=np.float32)


def _some(ids: np.ndarray) -> str:
    shown = ", ".join(str(int(i)) for i in ids[:12])
    return f"{shown}, ... ({len(ids)} labels)" if len(ids) > 12 else shown

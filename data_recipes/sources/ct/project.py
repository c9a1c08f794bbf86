"""Projection by DiffDRR: every image and silhouette of one radiograph comes from the same rays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_recipes.sources.ct.anatomy import Anatomy

STEP_MM = 3.0  # distance between samples along a ray


@dataclass(frozen=True)
class Pose:
    """How the radiograph is taken. Lengths in mm, angles in degrees.

    Attributes:
        view: "PA" (the source behind the patient) or "AP" (in front).
        source_to_detector, source_to_patient: along the central ray; the patient is at the volume's centre.
        field: side of the square detector.
        rotation: of the patient about the long axis; tilt: forwards or backwards; roll: in the image plane.
        shift: of the patient to the right and upwards, (2,).
    """

    view: str = "PA"
    source_to_detector: float = 1800.0
    source_to_patient: float = 1630.0
    field: float = 380.0
    rotation: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)


class Projector:
    """Rays of one pose through one grid, onto size x size pixels; the patient's left is at the right."""

    def __init__(self, anatomy: Anatomy, pose: Pose, size: int) -> None:
        import torch
        from diffdrr.data import read
        from diffdrr.drr import DRR
        from diffdrr.pose import convert
        from torchio import ScalarImage

        self.size, self.spacing, self.sdd = size, anatomy.spacing, pose.source_to_detector
        self.pixels_per_mm = size / pose.field * pose.source_to_detector / pose.source_to_patient
        self._shape = anatomy.attenuation.shape
        # DiffDRR takes the affine from a subject; the volumes to project come later, one by one.
        stand_in = torch.arange(8.0).reshape(1, 2, 2, 2)
        volume = ScalarImage(tensor=stand_in, affine=anatomy.affine)
        self._drr = DRR(
            read(volume, orientation=pose.view, center_volume=False),
            sdd=pose.source_to_detector,
            height=size,
            delx=pose.field / size,
            renderer="trilinear",
        )
        away = pose.source_to_patient if pose.view == "AP" else -pose.source_to_patient
        self._pose = convert(
            torch.tensor([[pose.rotation, pose.tilt, pose.roll]], dtype=torch.float32),
            torch.tensor([[-pose.shift[0], away, -pose.shift[1]]], dtype=torch.float32),
            parameterization="euler_angles",
            convention="ZXY",
            degrees=True,
        )
        self._source, target = self._drr.detector(self._pose, None)
        self._target = target.reshape(1, size, size, 3)
        self._axis = self._target.mean((1, 2)) - self._source[:, 0]

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points in mm -> (N, 2) positions (x, y) in pixels; pixel (0, 0) covers 0..1 in both."""
        import torch

        given = torch.from_numpy(np.asarray(points, dtype=np.float32))[None]
        return np.asarray(self._drr.perspective_projection(self._pose, given)[0].numpy(), dtype=np.float64)

    def path(self, attenuation: np.ndarray) -> np.ndarray:
        """(H, W) float32: the integral of a volume along each ray, in mm of water."""
        half = np.array(self._shape) / 2 * self.spacing
        return self._rays(attenuation, -half, half, "sum", whole=True)

    def silhouette(self, mask: np.ndarray) -> np.ndarray:
        """(H, W) bool: the rays that pass a place where the soft mask is at least 0.5."""
        seen = np.zeros((self.size, self.size), dtype=bool)
        inside = np.argwhere(mask >= 0.5)
        if not len(inside):
            return seen
        centre = (np.array(self._shape) - 1) / 2
        low = (inside.min(0) - 1 - centre) * self.spacing
        high = (inside.max(0) + 1 - centre) * self.spacing
        return self._rays(mask, low, high, "max", whole=False) >= 0.5

    def _rays(
        self, volume: np.ndarray, low: np.ndarray, high: np.ndarray, reduce: str, *, whole: bool
    ) -> np.ndarray:
        """Sum or maximum along the rays inside the box from `low` to `high`; unless `whole`, only the pixels
        that the box covers are computed, the others are 0."""
        import torch

        corners = np.array(
            [[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
        )
        image = np.zeros((self.size, self.size), dtype=np.float32)
        columns, rows = (slice(0, self.size),) * 2
        if not whole:
            at = self.pixels(corners)
            start = np.clip(np.floor(at.min(0)).astype(int) - 1, 0, self.size)
            stop = np.clip(np.ceil(at.max(0)).astype(int) + 1, 0, self.size)
            columns, rows = slice(start[0], stop[0]), slice(start[1], stop[1])
            if image[rows, columns].size == 0:
                return image
        # A point at share s of its ray lies in the plane at depth s: all rays end on the detector's plane.
        from_source = torch.from_numpy(corners.astype(np.float32)) - self._source[0]
        depth = from_source @ self._axis[0] / self._axis[0].square().sum()
        near, far = depth.min(), depth.max()
        self._drr.renderer.reducefn = reduce
        target = self._target[:, rows, columns].reshape(1, -1, 3)
        options: dict[str, Any] = {
            "alphamin": near,
            "alphamax": far,
            "n_points": 2 + int((far - near) * self.sdd / STEP_MM),
        }
        tensor = torch.from_numpy(volume)
        if reduce == "sum":
            values = self._drr.render(tensor, self._source, target, **options)
        else:  # the renderer itself weighs samples with step and ray length; a maximum is of the bare samples
            source, end = self._drr.affine_inverse(self._source), self._drr.affine_inverse(target)
            ones = torch.ones(1, 1, target.shape[1])
            values = self._drr.renderer(tensor, source, end, ones, **options)
            values = values * (options["n_points"] - 1) / (far - near)
        image[rows, columns] = values.reshape(image[rows, columns].shape).numpy()
        return image

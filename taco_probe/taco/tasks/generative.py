"""Ten generative tasks: the input is the image degraded, the target the image itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import ndimage
from skimage import transform

from taco_probe.taco.tasks.base import Array, Labels, Make, luma

Random = np.random.Generator
VIEWS = (180, 8)  # projections at strength 0 and 1
QUALITY = (50, 2)  # of JPEG


def degraded(worsen: Callable[[Array, float, Random], NDArray[Any]]) -> Make:
    """A task's function from one that degrades an image; nothing is done at strength 0."""

    def make(image: Array, labels: Labels, strength: float, rng: Random) -> tuple[Array, Array]:
        return (worsen(image, strength, rng) if strength > 0 else image), image

    return make


def gaussian_noise(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Adds noise of standard deviation 0.3 at strength 1."""
    return image + 0.3 * strength * rng.standard_normal(image.shape)


def speckle(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Multiplies by gamma noise of mean 1 and standard deviation 0.8 at strength 1, as multi-look speckle."""
    variance = (0.8 * strength) ** 2
    return image * rng.gamma(1 / variance, variance, image.shape)


def blur(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Gaussian blur, standard deviation 3 % of the shorter side at strength 1."""
    sigma = 0.03 * strength * min(image.shape[:2])
    return np.asarray(ndimage.gaussian_filter(image, (sigma, sigma, 0)[: image.ndim], mode="nearest"))


def low_resolution(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Shrunk by a factor up to 8, and enlarged again with cubic splines."""
    small = [max(1, round(side / (1 + 7 * strength))) for side in image.shape[:2]]
    shrunk = transform.resize(image, (*small, *image.shape[2:]), order=1, anti_aliasing=True)
    return np.asarray(transform.resize(shrunk, image.shape, order=3, mode="edge", anti_aliasing=False))


def holes(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Eight black rectangles, up to 8 % of the image each at strength 1."""
    worse = image.copy()
    height, width = image.shape[:2]
    for _ in range(8):
        share, ratio = np.sqrt(0.08 * strength * rng.uniform(0.3, 1)), np.exp(rng.uniform(-0.5, 0.5))
        h, w = max(1, round(height * share * ratio)), max(1, round(width * share / ratio))
        top, left = round(rng.uniform(0, height - h)), round(rng.uniform(0, width - w))
        worse[top : top + h, left : left + w] = 0
    return worse


def grey(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Colour taken out: a blend with the luma, luma alone at strength 1."""
    return image + strength * (luma(image)[..., None] - image)


def flat(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Contrast around the mean cut, to 15 % at strength 1."""
    mean = image.mean()
    return np.asarray(mean + (1 - 0.85 * strength) * (image - mean))


def jpeg(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Written and read as JPEG, of quality 50 (next to strength 0) to 2 (1)."""
    file = io.BytesIO()
    quality = round(QUALITY[0] + strength * (QUALITY[1] - QUALITY[0]))
    PIL.Image.fromarray(np.round(255 * image).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file), dtype=np.float32) / 255


def bias_field(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Multiplied by the exponential of a quadratic field, as receive coils do in MR. The field spans a factor
    of e**3 at strength 1, with 1 as its geometric mean; what becomes brighter than white is white."""
    y, x = (np.linspace(-1, 1, side) for side in image.shape[:2])
    y, turn, bend = y[:, None], rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5, 3)
    field = np.sin(turn) * y + np.cos(turn) * x + bend[0] * y**2 + bend[1] * x**2 + bend[2] * y * x
    field = np.exp(3 * strength * (field - field.mean()) / max(np.ptp(field), 1e-12))
    return np.asarray(image * (field if image.ndim == 2 else field[..., None]))


def sparse_view(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Filtered back projection from few parallel projections: 180 towards strength 0, 8 at strength 1. Of a
    colour image the luma is projected, and its error added to all channels."""
    views = max(2, round(VIEWS[0] * (VIEWS[1] / VIEWS[0]) ** strength))
    angles = np.linspace(0, 180, views, endpoint=False)
    side, whole = max(image.shape[:2]), luma(image)
    edges = [((side - length) // 2, (side - length + 1) // 2) for length in whole.shape]
    sinogram = transform.radon(np.pad(whole, edges), angles, circle=False)
    back = transform.iradon(sinogram, angles, circle=False, output_size=side)
    error = back[tuple(slice(low, side - high) for low, high in edges)] - whole
    return np.asarray(image + (error if image.ndim == 2 else error[..., None]))

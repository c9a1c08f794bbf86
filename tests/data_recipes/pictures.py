"""Pictures with structure for tests of near-duplicates, and what people do to pictures."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
from scipy.ndimage import gaussian_filter


def textured(seed: int, width: int = 240, height: int = 200) -> PIL.Image.Image:
    """Smooth noise at several scales; another seed gives another picture."""
    rng = np.random.default_rng(seed)
    field = sum(scale * gaussian_filter(rng.normal(size=(height, width)), scale) for scale in (4, 10, 25))
    low, high = np.quantile(field, [0.01, 0.99])
    return PIL.Image.fromarray((np.clip((field - low) / (high - low), 0, 1) * 255).astype(np.uint8))


def encoded(image: PIL.Image.Image, quality: int = 60) -> PIL.Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return PIL.Image.open(file).convert("L")


def scaled(image: PIL.Image.Image, factor: float) -> PIL.Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)))


def brighter(image: PIL.Image.Image, gamma: float = 0.6) -> PIL.Image.Image:
    return image.point([round(255 * (value / 255) ** gamma) for value in range(256)])

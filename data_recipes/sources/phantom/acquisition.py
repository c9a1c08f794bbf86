"""From path lengths to grey values: attenuation, scatter, exposure, noise, and the look of a hospital."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_recipes.sources.phantom.fields import stamp
from data_recipes.sources.phantom.projection import Array, wide_blur

# Effective linear attenuation at about 120 kVp (1/cm); lung is soft tissue at a quarter of its density.
SOFT, LUNG, BONE, METAL = 0.185, 0.047, 0.42, 2.0
_LEVELS = 2048  # of the display curve


@dataclass(frozen=True)
class Look:
    """How one hospital's images look.

    Attributes:
        gamma: exponent of the display curve; above 1 darkens the lungs.
        slope: steepness of its S shape, 0 for none.
        exposure: relative dose; noise goes with its inverse square root.
        sharp: strength of the edge enhancement.
        blur: weight of a neighbour in the detector's 3 x 3 blur.
        scatter: scattered fraction of the signal.
        border: collimation borders (left, top, right, bottom) as fractions.
        text: burnt-in letters at the patient's left or right.
        black, white: grey values of the ends of the range.
    """

    gamma: float
    slope: float
    exposure: float
    sharp: float
    blur: float
    scatter: float
    border: tuple[float, float, float, float]
    text: str
    black: int
    white: int


LOOKS = (
    Look(1.00, 0.6, 1.4, 0.35, 0.08, 0.25, (0, 0, 0, 0), "L", 0, 245),
    Look(1.25, 1.2, 1.0, 0.60, 0.05, 0.20, (0, 0, 0, 0), "R", 0, 255),
    Look(0.85, 0.3, 0.7, 0.15, 0.12, 0.35, (0.02, 0.0, 0.02, 0.0), "L", 8, 235),
    Look(1.10, 0.9, 0.45, 0.30, 0.06, 0.40, (0, 0, 0, 0), "PORTABLE", 4, 240),
    Look(0.95, 0.0, 1.8, 0.90, 0.04, 0.20, (0, 0.02, 0, 0.02), "R", 0, 250),
    Look(1.15, 0.5, 0.6, 0.10, 0.16, 0.30, (0, 0, 0, 0), "", 14, 225),
    Look(0.90, 1.0, 1.0, 0.45, 0.08, 0.28, (0.03, 0.02, 0.03, 0.02), "AP", 0, 255),
    Look(1.35, 0.2, 0.9, 0.25, 0.10, 0.22, (0, 0, 0, 0), "L ERECT", 0, 238),
)


def _blur(image: Array, weight: float) -> Array:
    out = image * np.float32(1 - 2 * weight)
    out[1:-1] += np.float32(weight) * (image[:-2] + image[2:])
    out[0] += np.float32(2 * weight) * image[0]
    out[-1] += np.float32(2 * weight) * image[-1]
    side = out * np.float32(1 - 2 * weight)
    side[:, 1:-1] += np.float32(weight) * (out[:, :-2] + out[:, 2:])
    side[:, 0] += np.float32(2 * weight) * out[:, 0]
    side[:, -1] += np.float32(2 * weight) * out[:, -1]
    return side


def expose(optical: Array, view: str, look: Look, rng: np.random.Generator) -> Array:
    """Optical path (dimensionless, S x S) to uint8 pixels; the patient's left is at the right."""
    size = optical.shape[0]
    signal = np.exp(-optical)
    signal += np.float32(look.scatter) * np.minimum(wide_blur(signal, 14), 0.25)
    grain = rng.standard_normal(signal.shape, np.float32)
    grain *= np.sqrt(signal) * np.float32(0.0045 / np.sqrt(look.exposure * rng.uniform(0.7, 1.4)))
    signal += grain
    np.maximum(signal, 1e-4, out=signal)
    shade = -np.log(signal)
    shade = _blur(shade, look.blur)
    if look.sharp:
        shade += np.float32(look.sharp) * (shade - wide_blur(shade, 30))
    sample = shade[size // 8 : -size // 8 : 4, size // 8 : -size // 8 : 4]
    ranked = np.sort(sample, axis=None)  # the windowing of a digital system: shares of the exposed field
    dark, bright = ranked[int(0.02 * ranked.size)], ranked[int(0.99 * ranked.size)]
    dark -= 0.18 * (bright - dark) * rng.uniform(0.7, 1.3)
    shade -= np.float32(dark)
    shade *= np.float32(_LEVELS / (1.12 * (bright - dark)))
    np.clip(shade, 0, _LEVELS - 1, out=shade)
    pixels = np.take(
        _display_curve(look, look.gamma * rng.uniform(0.92, 1.08)), shade.astype(np.intp), mode="clip"
    )
    left, top, right, bottom = (round(size * fraction) for fraction in look.border)
    pixels[:, :left] = pixels[:, size - right :] = look.black
    pixels[:top] = pixels[size - bottom :] = look.black
    _burn(pixels, look, view, rng)
    return pixels


def _display_curve(look: Look, gamma: float) -> Array:
    """Grey value (uint8) of each of _LEVELS levels of exposure: a power, then an S shape."""
    level = np.linspace(0, 1, _LEVELS) ** gamma
    level += min(1.0, 0.6 * look.slope) * (level * level * (3 - 2 * level) - level)
    return np.rint(look.black + level * (look.white - look.black)).astype(np.uint8)


def _burn(pixels: Array, look: Look, view: str, rng: np.random.Generator) -> None:
    text = look.text if look.text != "AP" else view
    if text == "PORTABLE" and view == "PA":
        text = "R"
    if not text:
        return
    size = pixels.shape[0]
    mark = stamp(text, round(size * (0.05 if len(text) < 3 else 0.034)))
    height, width = mark.shape
    y = round(size * rng.uniform(0.045, 0.12))
    margin = round(size * rng.uniform(0.05, 0.09))
    x = margin if text[0] == "R" else size - margin - width
    part = pixels[y : y + height, x : x + width]
    mark = mark[: part.shape[0], : part.shape[1]] * np.float32(0.92)
    part[...] = part + (look.white - part.astype(np.float32)) * mark

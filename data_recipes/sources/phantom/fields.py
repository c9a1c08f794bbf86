"""Patterns that do not depend on the patient, drawn once a process: vessels, a fine net, clouds, letters."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from data_recipes.sources.phantom.projection import Array

VESSEL_FIELDS = 8
# A field spans x and y from -EXTENT to EXTENT cm of a reference patient, with RESOLUTION pixels a cm.
EXTENT = 15.0
RESOLUTION = 12
HILUM = (3.6, -0.5)


def _branch(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    x: float,
    y: float,
    angle: float,
    width: float,
    left: float,
) -> None:
    """Draws a vessel and, recursively, its branches; `width` is its diameter, `left` its length to go."""
    while left > 0 and width > 0.045:
        step = 0.7
        angle += rng.normal(0, 0.13)
        nx, ny = x + step * np.cos(angle), y + step * np.sin(angle)
        scale = 2 * RESOLUTION
        line = [((v + EXTENT) * scale) for v in (x, y, nx, ny)]
        draw.line(line, fill=int(min(255, 30 + 330 * width)), width=max(1, round(width * scale)))
        x, y, left, width = nx, ny, left - step, width * 0.92
        if rng.random() < 0.42:
            turn = rng.choice((-1, 1)) * rng.uniform(0.35, 0.8)
            _branch(
                draw, rng, x, y, angle + turn, width * rng.uniform(0.55, 0.8), left * rng.uniform(0.5, 0.85)
            )


@lru_cache(maxsize=VESSEL_FIELDS)
def vessels(which: int) -> Array:
    """A vascular tree of both lungs: thickness in cm on a grid over [-EXTENT, EXTENT] squared."""
    rng = np.random.default_rng([7041, which])
    size = int(4 * EXTENT * RESOLUTION)
    picture = Image.new("L", (size, size))
    draw = ImageDraw.Draw(picture)
    for side in (-1, 1):
        for up in np.linspace(-1.45, 1.35, 11):
            angle = up + rng.normal(0, 0.1)
            width = (0.30 if up < 0 else 0.44) * rng.uniform(0.75, 1.1)
            start = rng.normal(0, 0.35, 2) + np.array([0, 0.9 * up])
            heading = angle if side > 0 else np.pi - angle
            _branch(
                draw,
                rng,
                side * HILUM[0] + start[0],
                HILUM[1] + start[1],
                heading,
                width,
                rng.uniform(8, 12.5),
            )
        for _ in range(5):  # the hilum itself: short thick arteries
            x, y = side * HILUM[0] + rng.normal(0, 0.3), HILUM[1] + rng.normal(0, 0.9)
            _branch(
                draw,
                rng,
                x,
                y,
                rng.uniform(0.3, 1.5) if side > 0 else np.pi - rng.uniform(0.3, 1.5),
                0.75,
                2.5,
            )
    half = picture.reduce(2)
    tree: Array = gaussian_filter(np.asarray(half, np.float32) / 255, 0.7).astype(np.float32)
    return tree


@lru_cache(maxsize=4)
def reticulation(which: int) -> Array:
    """Fine net-like lines, mean 0 and standard deviation 1, on the same grid as `vessels`."""
    rng = np.random.default_rng([7042, which])
    size = int(2 * EXTENT * RESOLUTION)
    coarse = gaussian_filter(rng.standard_normal((size, size)), 3.6)
    coarse /= coarse.std()
    net = np.exp(
        -np.square(coarse / 0.28)
    )  # ridges along the zero lines of a smooth field make closed meshes
    net = gaussian_filter(net, 0.8)
    standard: Array = ((net - net.mean()) / net.std()).astype(np.float32)
    return standard


@lru_cache(maxsize=4)
def clouds(which: int) -> Array:
    """Soft patchiness with values 0..1, on the same grid as `vessels`."""
    rng = np.random.default_rng([7043, which])
    size = int(2 * EXTENT * RESOLUTION)
    soft = (
        gaussian_filter(rng.standard_normal((size, size)), 9) * 9
        + gaussian_filter(rng.standard_normal((size, size)), 4) * 2
    )
    patches: Array = (1 / (1 + np.exp(-1.4 * soft / soft.std()))).astype(np.float32)
    return patches


def resample(field: Array, x: Array, y: Array) -> Array:
    """A field at reference coordinates x (W,) and y (H,) in cm, bilinear, edges held."""
    last = field.shape[0] - 1.001
    u = np.clip((x + EXTENT) * RESOLUTION - 0.5, 0, last).astype(np.float32)
    v = np.clip((y + EXTENT) * RESOLUTION - 0.5, 0, last).astype(np.float32)
    iu, iv = u.astype(np.intp), v.astype(np.intp)
    fv = (v - iv)[:, None]
    rows = field[iv]
    rows += (field[iv + 1] - rows) * fv
    out = np.take(rows, iu, axis=1, mode="clip")
    step = np.take(rows, iu + 1, axis=1, mode="clip")
    step -= out
    step *= u - iu
    out += step
    return out


@lru_cache(maxsize=64)
def stamp(text: str, height: int) -> Array:
    """Letters as coverage 0..1, about `height` pixels tall."""
    font = ImageFont.load_default(size=max(6, height))
    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(picture).text((1 - left, 1 - top), text, fill=255, font=font)
    return np.asarray(picture, np.float32) / 255

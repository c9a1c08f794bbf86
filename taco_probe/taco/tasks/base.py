"""What a visual task is: a map from an image and its annotation to a pair (input, target) of images.

Images are float32 in 0..1, (H, W) or (H, W, 3); annotations are label maps (H, W) of whole numbers, 0 for
background. The list of the thirty, their parameters and their defaults are ours: the paper names categories
and examples only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from data_recipes.errors import UserError

Array = NDArray[np.float32]
Labels = NDArray[Any]  # whole numbers
Category = Literal["semantic", "generative", "transformation"]
Need = Literal["mask", "regions", "classes", "colour"]
Make = Callable[[Array, Labels, float, np.random.Generator], tuple[Array, Array]]

MIN_SIDE = 8  # pixels; the smallest image that tasks and readers take
SPECK = 1e-3  # a region with a smaller share of the image's pixels is a speck, left out where others remain


class Instance(NamedTuple):
    """input, target: float32 in 0..1, (H, W) or (H, W, 3), the same H and W; either may have colour alone."""

    input: Array
    target: Array


@dataclass(frozen=True)
class Task:
    """A visual task.

    Attributes:
        name: as in TASKS.
        category: semantic, generative or transformation.
        make: the function; `strength` is 1 for tasks without one.
        needs: "mask": some foreground and some background; "regions": at least two connected regions;
            "classes": at least two labels that mean classes; "colour": an image with colour.
        strengths: from where strengths are drawn, within 0..1; None for a task that has none. Strength 0
            makes input and target equal.
        summary: what it is, one line.
    """

    name: str
    category: Category
    make: Make
    needs: frozenset[Need]
    strengths: tuple[float, float] | None
    summary: str

    def __call__(
        self,
        image: Array,
        annotation: Labels | None = None,
        *,
        strength: float | None = None,
        seed: int | np.random.Generator = 0,
    ) -> Instance:
        """An instance; a function of its arguments alone.

        Args:
            image: (H, W) or (H, W, 3), float32 in 0..1.
            annotation: (H, W) whole numbers, or None.
            strength: 0..1; None draws it from `strengths`.
            seed: a seed or a Generator, the only source of chance.

        Raises:
            UserError: an image or annotation that is not as said, a strength out of range, or a need not met.
        """
        check(image, annotation)
        if reason := self.missing(image, annotation):
            raise UserError(f"task {self.name}: {reason}")
        rng = np.random.default_rng(seed)
        if self.strengths is None:
            if strength is not None:
                raise UserError(f"task {self.name} has no strength: leave it out")
            strength = 1.0
        elif strength is None:
            strength = float(rng.uniform(*self.strengths))
        elif not 0 <= strength <= 1:
            raise UserError(f"task {self.name}: strength must be from 0 to 1, not {strength}")
        else:
            rng.uniform()  # the same chance follows, whether the strength is drawn or given
        labels = np.zeros(image.shape[:2], np.int32) if annotation is None else annotation
        return Instance(*(clean(made) for made in self.make(image, labels, strength, rng)))

    def missing(self, image: Array, annotation: Labels | None, labels: str = "classes") -> str:
        """Why the task cannot be made of this image, or "". `labels` says what the annotation's numbers mean:
        "classes" or "instances"."""
        if "colour" in self.needs and (image.ndim == 2 or not has_colour(image)):
            return "needs an image with colour"
        if not self.needs & {"mask", "regions", "classes"}:
            return ""
        if annotation is None:
            return "needs an annotation, and the image has none"
        if not (annotation > 0).any():
            return "needs an annotation with foreground: the mask is empty"
        if "mask" in self.needs and (annotation > 0).all():
            return "needs some background: the mask covers the whole image"
        if "regions" in self.needs and regions(annotation).max() < 2:
            return "needs at least two regions"
        if "classes" in self.needs and (
            labels != "classes" or len(np.unique(annotation[annotation > 0])) < 2
        ):
            return "needs labels of at least two classes"
        return ""


def check(image: Array, annotation: Labels | None) -> None:
    """Holds images and annotations to the form that tasks take.

    Raises:
        UserError: what is wrong.
    """
    if image.dtype != np.float32:
        raise UserError(f"image must be float32, not {image.dtype}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise UserError(f"image must be (H, W) or (H, W, 3), not {image.shape}")
    if min(image.shape[:2]) < MIN_SIDE:
        raise UserError(f"image of {_size(image)} pixels: at least {MIN_SIDE} a side are needed")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise UserError(f"image must be in 0..1, not {low:g}..{high:g}")
    if annotation is None:
        return
    if annotation.shape != image.shape[:2]:
        raise UserError(f"image of {_size(image)} pixels, but annotation of shape {annotation.shape}")
    if annotation.dtype.kind not in "iu" or annotation.min() < 0:
        raise UserError("annotation must be whole numbers from 0 up, 0 for background")


def regions(annotation: Labels) -> NDArray[np.int32]:
    """(H, W): connected regions of equal label (corners connect), numbered from 1 in reading order, without
    specks."""
    found = measure.label(annotation, background=0, connectivity=2)
    sizes = np.bincount(found.ravel())
    keep = sizes >= max(4, SPECK * annotation.size)
    keep[0] = False
    if not keep.any():
        keep = np.arange(len(sizes)) > 0
    numbers = np.where(keep, np.cumsum(keep), 0)
    return np.asarray(numbers[found], dtype=np.int32)


def has_colour(image: Array) -> bool:
    """Whether channels differ by more than rounding somewhere."""
    return bool(np.ptp(image, axis=2).max() > 2 / 255)


def clean(image: NDArray[Any]) -> Array:
    """float32 in 0..1."""
    return np.clip(np.ascontiguousarray(image, dtype=np.float32), 0, 1)


def luma(image: Array) -> Array:
    """(H, W) grey of a colour image, weights of ITU-R BT.601; grey images as they are."""
    if image.ndim == 2:
        return image
    return np.asarray(image @ np.array([0.299, 0.587, 0.114], np.float32), dtype=np.float32)


def smooth_field(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random field of this shape, smooth over `sigma` pixels, scaled to a largest absolute value of 1."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(field / max(np.abs(field).max(), 1e-12))


def _size(image: Array) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"

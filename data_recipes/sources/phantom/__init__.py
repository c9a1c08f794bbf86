"""Source `phantom`: synthetic frontal chest radiographs of a 3-D anatomy, all truth from its geometry.

The beam passes a parametric chest; path lengths through its shapes give the attenuation (Beer-Lambert), so
overlaps look as they do in a projection. Everything is a function of (seed, patient's index, image's number).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_recipes.errors import UserError, unknown
from data_recipes.licence import Licence
from data_recipes.records import Image
from data_recipes.scene import Scene
from data_recipes.sources import Sample
from data_recipes.sources.phantom.acquisition import BONE, LOOKS, LUNG, SOFT, expose
from data_recipes.sources.phantom.anatomy import airways, project
from data_recipes.sources.phantom.edema import markings
from data_recipes.sources.phantom.lesions import Insertion
from data_recipes.sources.phantom.measure import measure
from data_recipes.sources.phantom.patient import Pose, sample_body, sample_pose
from data_recipes.sources.phantom.plans import sample_plans, vary
from data_recipes.sources.phantom.projection import make_grid
from data_recipes.sources.phantom.skeleton import bones

NAME = "phantom"
VERSION = "1"
LICENCE = Licence(
    "Apache-2.0; synthetic, of no patient",
    access="open",
    share="all of it",
    hub="apache-2.0",
)

# streams of random numbers that do not disturb each other
_COUNT, _PATIENT, _POSE, _NOISE, _ENTRIES = range(5)

_IMAGE_ID = re.compile(rf"{NAME}-(\d+)-(\d{{6,}})-(\d)")


@dataclass(frozen=True)
class Options:
    """Options of the source.

    Attributes:
        size: width and height in pixels, at least 64.
        looks: hospitals' looks to draw from, numbers 0..7.
        abnormal: multiplies the chance that something is abnormal, 0..1.
    """

    size: int = 224
    looks: tuple[int, ...] = tuple(range(len(LOOKS)))
    abnormal: float = 1.0


@dataclass(frozen=True)
class Unit:
    """One patient."""

    seed: int
    index: int
    options: Options


def read_options(options: Mapping[str, Any]) -> Options:
    """Checked options.

    Raises:
        UserError: an unknown key or an unusable value.
    """
    known = ("size", "looks", "abnormal")
    for key in options:
        if key not in known:
            raise unknown("option of source phantom", str(key), known)
    size = options.get("size", 224)
    if not _whole(size) or size < 64:
        raise UserError(f"phantom: size must be a whole number of at least 64 pixels, not {size!r}")
    looks = options.get("looks", list(range(len(LOOKS))))
    if (
        not isinstance(looks, list | tuple)
        or not looks
        or not all(_whole(v) and 0 <= v < len(LOOKS) for v in looks)
    ):
        raise UserError(f"phantom: looks must be a list of numbers from 0 to {len(LOOKS) - 1}, not {looks!r}")
    abnormal = options.get("abnormal", 1.0)
    if isinstance(abnormal, bool) or not isinstance(abnormal, int | float) or not 0 <= abnormal <= 1:
        raise UserError(f"phantom: abnormal must be a number from 0 to 1, not {abnormal!r}")
    return Options(size, tuple(looks), float(abnormal))


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _rng(seed: int, index: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, *stream])


def image_count(seed: int, index: int) -> int:
    """Images of one patient: one to three, 1.5 on average."""
    return int(_rng(seed, index, _COUNT).choice(3, p=(0.62, 0.26, 0.12))) + 1


def units(options: Mapping[str, Any], *, seed: int, images: int, first: int = 0) -> Sequence[Unit]:
    """Patients from number `first` on that together have at least `images` images.

    Raises:
        UserError: an unknown or unusable option, or a negative number.
    """
    checked = read_options(options)
    for name, value in (("seed", seed), ("images", images), ("first", first)):
        if value < 0:
            raise UserError(f"phantom: {name} must not be negative, not {value}")
    found: list[Unit] = []
    while images > 0:
        unit = Unit(seed, first + len(found), checked)
        images -= image_count(seed, unit.index)
        found.append(unit)
    return found


@dataclass(frozen=True)
class _Measured:
    """One exposure before any pixel is made."""

    scene: Scene
    masks: dict[str, np.ndarray]
    insertion: Insertion
    pose: Pose
    edema: int
    exposure: np.random.Generator


def _measured(seed: int, index: int, k: int, options: Options) -> _Measured:
    patient, exposure = _rng(seed, index, _PATIENT), _rng(seed, index, _POSE, k)
    plans, edema, large_heart = sample_plans(patient, options.abnormal)
    body = sample_body(patient, large_heart=large_heart)
    pose = sample_pose(exposure, body, options.looks)
    if k:
        plans, edema = vary(plans, edema, exposure)
    chest = project(body, pose, make_grid(options.size, pose.field, (pose.x, pose.y)))
    insertion = Insertion(chest)
    for plan in plans:
        insertion.insert(plan)
    scene, masks = measure(chest, insertion, edema)
    return _Measured(scene, masks, insertion, pose, edema, exposure)


def render(seed: int, index: int, k: int, options: Options | None = None) -> tuple[np.ndarray, Scene]:
    """Pixels (S, S) uint8 and truth of image k of a patient."""
    pixels, scene, _ = render_with_masks(seed, index, k, options)
    return pixels, scene


def render_with_masks(
    seed: int, index: int, k: int, options: Options | None = None
) -> tuple[np.ndarray, Scene, dict[str, np.ndarray]]:
    """As `render`, with the projected masks (S, S) bool: "heart", "left lung", "right lung", and "<name> <n>"
    for abnormality number n of the scene, such as "nodule 0"."""
    found = _measured(seed, index, k, options or Options())
    insertion, pose = found.insertion, found.pose
    chest = insertion.chest
    optical = chest.torso - airways(chest)
    optical -= chest.healthy
    np.maximum(optical, 0, out=optical)
    optical *= np.float32(SOFT)
    optical += chest.healthy * np.float32(LUNG)
    optical += insertion.optical
    optical += markings(chest, insertion.air, found.edema, found.exposure)
    optical += bones(chest) * np.float32(BONE)
    look = LOOKS[pose.look]
    pixels = expose(optical, pose.view, look, _rng(seed, index, _NOISE, k))
    return pixels, found.scene, found.masks


def read(unit: Unit) -> list[Sample]:
    """All images of one patient, each with every entry its truth allows."""
    from data_recipes.annotate import annotate

    samples = []
    patient = f"{NAME}-{unit.seed}-{unit.index:06d}"
    for k in range(image_count(unit.seed, unit.index)):
        pixels, scene = render(unit.seed, unit.index, k, unit.options)
        image_id = f"{patient}-{k}"
        size = unit.options.size
        image = Image(image_id, patient, "", NAME, f"images/{image_id}.png", size, size, scene.view)
        entries = annotate(scene, image, _rng(unit.seed, unit.index, _ENTRIES, k))
        samples.append(Sample(image, pixels, entries))
    return samples


def scenes(image_ids: Iterable[str], options: Mapping[str, Any]) -> dict[str, Scene]:
    """The truth of images that `read` made under these options, by id; ids of other images are left out."""
    checked = read_options(options)
    found = {}
    for image_id in image_ids:
        if match := _IMAGE_ID.fullmatch(image_id):
            seed, index, k = map(int, match.groups())
            found[image_id] = _measured(seed, index, k, checked).scene
    return found

"""Makes the instances of a plan, in several processes, into the arrays of a pool.

Images are read once and kept at no more than CAP times the instances' side. An instance is made at WORK times
its side, of a piece of its image, and shrunk by averaging: tasks work on details that the encoder does not
see one by one, and cost the same for every dataset. Masks are shrunk to the nearest label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from data_recipes.errors import UserError
from taco_probe.taco.data import Dataset, Sample
from taco_probe.taco.forked import each
from taco_probe.taco.plan import SWEEP, Allowed, Wanted
from taco_probe.taco.progress import Progress
from taco_probe.taco.settings import Settings
from taco_probe.taco.tasks import TASKS, Instance
from taco_probe.taco.tasks.alter import ALTERATIONS, STRENGTHS, alter
from taco_probe.taco.tasks.base import Array, Labels
from taco_probe.taco.tasks.failures import fail

WORK = 2
CAP = 4
IMAGES = 128  # at most, of a dataset, evenly spread over it
FILES = ("inputs.npy", "targets.npy")
_TRIES = 8  # pieces of an image that are tried before the whole is taken
_CHUNK = 24  # instances that a process makes at a time

Row = tuple[Any, ...]  # as in pool.COLUMNS


class Picture(NamedTuple):
    """An image as it is kept: float16, and its label map."""

    image: NDArray[np.float16]
    labels: Labels | None


class Read(NamedTuple):
    """A dataset as it is kept: its pictures, what each allows, and what was unreadable."""

    dataset: Dataset
    pictures: list[Picture | None]
    allows: list[Allowed]
    unreadable: list[str]


def read_all(
    datasets: Iterable[Dataset], settings: Settings, *, workers: int = 1, quiet: bool = False
) -> dict[str, Read]:
    """Reads the images of datasets, by name.

    Raises:
        UserError: a dataset of which no image can be read.
    """
    chosen = {dataset.name: _spread(dataset) for dataset in datasets}
    jobs = [(name, number) for name, dataset in chosen.items() for number in range(len(dataset))]
    _SHARED.update(datasets=chosen, settings=settings)
    found: dict[tuple[str, int], tuple[Picture | None, Allowed, str]] = {}
    with Progress("reading", len(jobs), "image", quiet=quiet) as progress:
        for key, one in zip(jobs, each(_read_one, jobs, workers), strict=True):
            found[key] = one
            progress.step()
    read = {}
    for name, dataset in chosen.items():
        of_it = [found[name, number] for number in range(len(dataset))]
        broken = [error for picture, _, error in of_it if picture is None]
        if len(broken) == len(of_it):
            raise UserError(
                f"dataset {name}: none of {len(of_it)} images can be used; the first: {broken[0]}"
            )
        read[name] = Read(dataset, [one[0] for one in of_it], [one[1] for one in of_it], broken)
    return read


def make_all(
    wanted: Sequence[Wanted],
    read: Mapping[str, Read],
    settings: Settings,
    folder: Path,
    *,
    name: str,
    workers: int = 1,
    quiet: bool = False,
) -> list[Row]:
    """Writes inputs.npy and targets.npy; returns the rows that go with them."""
    starts = np.cumsum([0, *(one.rows for one in wanted)])
    shape = (int(starts[-1]), settings.size, settings.size, 3)
    arrays = [
        np.lib.format.open_memmap(folder / file, mode="w+", dtype=np.uint8, shape=shape) for file in FILES
    ]
    _SHARED.update(read=read, settings=settings, arrays=arrays)
    rows: list[Row] = []
    jobs = [(int(start), one) for start, one in zip(starts, wanted, strict=False)]
    with Progress(name, shape[0], "instance", quiet=quiet) as progress:
        for made in each(_write_one, jobs, workers, chunk=_CHUNK):
            rows += made
            progress.step(len(made))
    for array in _SHARED.pop("arrays"):
        array.flush()
    return rows


# What the processes share by being forked from this one: nothing is copied to them.
_SHARED: dict[str, Any] = {}


def _spread(dataset: Dataset) -> Dataset:
    return dataset.only(dataset.spread(IMAGES))


def _read_one(job: tuple[str, int]) -> tuple[Picture | None, Allowed, str]:
    name, number = job
    settings: Settings = _SHARED["settings"]
    dataset: Dataset = _SHARED["datasets"][name]
    try:
        sample = dataset[number]
    except UserError as error:
        return None, None, str(error)
    height, width = sample.image.shape[:2]
    shrink = min(1.0, CAP * settings.size / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    image, labels = cut(sample.image, sample.annotation, (0.0, 0.0, height, width), size)
    side = WORK * settings.size
    whole = cut(image, labels, (0.0, 0.0, *size), (side, side))
    allows = {task: dataset.missing(TASKS[task], Sample(*whole, "")) for task in settings.tasks_used}
    return Picture(image.astype(np.float16), labels), allows, ""


def cut(
    image: Array, labels: Labels | None, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[Array, Labels | None]:
    """The piece `box` (top, left, bottom, right; pixels) of an image and its labels at another size (H, W).
    Images are averaged where they shrink and linear where they grow; labels are the nearest."""
    top, left, bottom, right = box
    place, shape = (left, top, right, bottom), (size[1], size[0])
    linear, nearest = PIL.Image.Resampling.BILINEAR, PIL.Image.Resampling.NEAREST

    def plane(values: Array) -> Array:
        return np.asarray(PIL.Image.fromarray(values).resize(shape, linear, box=place))

    planes = [image] if image.ndim == 2 else [image[..., k] for k in range(3)]
    small = [np.clip(plane(np.ascontiguousarray(one)), 0, 1) for one in planes]
    made = small[0] if image.ndim == 2 else np.stack(small, axis=2)
    if labels is None:
        return made, None
    numbers = PIL.Image.fromarray(np.ascontiguousarray(labels, dtype=np.int32))
    return made, np.asarray(numbers.resize(shape, nearest, box=place), dtype=np.int32)


def _piece(
    dataset: str, image: int, tasks: Sequence[str], rng: np.random.Generator
) -> tuple[Array, Labels | None]:
    """A piece of an image of which all these tasks can be made."""
    settings: Settings = _SHARED["settings"]
    kept: Read = _SHARED["read"][dataset]
    picture = kept.pictures[image]
    assert picture is not None, "the plan takes no unreadable image"
    pixels = picture.image.astype(np.float32)
    height, width = pixels.shape[:2]
    side = WORK * settings.size
    for attempt in range(_TRIES + 1):
        share = 1.0 if attempt == _TRIES else rng.uniform(settings.crop, 1)
        top, left = rng.uniform(0, 1 - share, 2) * (height, width)
        piece = cut(
            pixels, picture.labels, (top, left, top + share * height, left + share * width), (side, side)
        )
        if not any(kept.dataset.missing(TASKS[task], Sample(*piece, "")) for task in tasks):
            break
    return piece


def _write_one(job: tuple[int, Wanted]) -> list[Row]:
    """Makes what is wanted, writes it from row `start` on, returns its rows."""
    start, wanted = job
    settings: Settings = _SHARED["settings"]
    made = list(_made(wanted, start))
    assert len(made) == wanted.rows
    for part, array in enumerate(_SHARED["arrays"]):
        array[start : start + len(made)] = [pixels(one[part], settings.size) for one, _ in made]
    return [row for _, row in made]


def _made(wanted: Wanted, start: int) -> Iterator[tuple[Instance, Row]]:
    """An instance with its row; then, for an anchor in row `start`, its alterations."""
    task, rng = TASKS[wanted.task], np.random.default_rng(wanted.seed)
    kept: Read = _SHARED["read"][wanted.dataset]
    tasks = [wanted.task, *([wanted.other_task] if wanted.other_task else [])]
    image, labels = _piece(wanted.dataset, wanted.image, tasks, rng)
    strength = None if task.strengths is None else float(rng.uniform(*task.strengths))
    seed = int(rng.integers(2**32))
    name = f"{wanted.dataset}[{wanted.image}]"
    dataset = kept.dataset
    about = (wanted.task, task.category, dataset.name, dataset.comes_from, dataset.modality, name)

    def row(
        strength: float | None, failure: str = "", alteration: str = "", by: float = 0.0, anchor: int = -1
    ) -> Row:
        return (*about, strength, failure, alteration, by, anchor, seed)

    for attempt in range(_TRIES if wanted.failure else 0):
        if attempt:
            image, labels = _piece(wanted.dataset, wanted.image, tasks, rng)
        failed = _failed(wanted, image, labels, strength, seed, rng)
        right = task(image, labels, strength=strength, seed=seed)
        if not _looks_like(failed, right):
            yield failed, row(strength, wanted.failure)
            return
    # A failure that changes nothing, such as a blank target where the image is black, is none.
    made = task(image, labels, strength=strength, seed=seed)
    yield made, row(strength)
    if not wanted.follow:
        return
    for kind in ALTERATIONS:
        for by in STRENGTHS:
            yield alter(made, kind, by, seed=seed), row(strength, "", kind, by, start)
    for by in STRENGTHS if task.strengths is not None else ():
        yield task(image, labels, strength=by, seed=seed), row(by, "", SWEEP, by, start)


def _failed(
    wanted: Wanted,
    image: Array,
    labels: Labels | None,
    strength: float | None,
    seed: int,
    rng: np.random.Generator,
) -> Instance:
    """The failed instance that is wanted, of this piece."""
    task, other = TASKS[wanted.task], None
    if wanted.failure == "other_image":
        piece = _piece(wanted.dataset, wanted.other, [wanted.task], rng)
        other = task(*piece, strength=strength, seed=seed)
    elif wanted.failure == "other_task":
        other = TASKS[wanted.other_task](image, labels, seed=seed)
    return fail(wanted.failure, task, image, labels, seed=seed, strength=strength, other=other)


def _looks_like(one: Instance, other: Instance) -> bool:
    """Whether two instances are the same as pools keep them."""
    size: int = _SHARED["settings"].size
    return all(np.array_equal(pixels(a, size), pixels(b, size)) for a, b in zip(one, other, strict=True))


def pixels(image: Array, size: int) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 of an image of WORK times that side."""
    colour = image if image.ndim == 3 else image[..., None]
    parts = [colour[y::WORK, x::WORK] for y in range(WORK) for x in range(WORK)]
    small = sum(parts[1:], parts[0]) * np.float32(255 / len(parts))
    return np.broadcast_to(np.round(small).astype(np.uint8), (size, size, 3))

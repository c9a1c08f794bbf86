"""Datasets of images with their annotations, as tasks take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from data_recipes.errors import UserError
from taco_probe.taco.data.images import to_image, to_labels, white_of
from taco_probe.taco.tasks import TASKS, Task
from taco_probe.taco.tasks.base import Array, Labels, check

LOOKED_AT = 128  # masks, to tell what their numbers mean
LabelKind = Literal["none", "classes", "instances"]


class Sample(NamedTuple):
    """image: (H, W) or (H, W, 3) float32 in 0..1; annotation: (H, W) int32, or None; name: for messages."""

    image: Array
    annotation: Labels | None
    name: str


@dataclass(frozen=True)
class Dataset:
    """Images of one source. `dataset[i]` is a Sample, read when asked for.

    Attributes:
        name: unique; also the group that is held out as one.
        modality: such as "CT", "fluorescence microscopy".
        labels: what the annotation's numbers mean; "none" where there is no annotation.
        names: a name for each image, for messages.
        read: from an index to raw pixels and a raw label map or None; checked and converted here.
        white: what is white in black and white masks (`images.white_of`), 0 where numbers are labels; None
            finds it when it is first needed, from up to LOOKED_AT masks.
        origin: of which pictures or patients it is, "" where no other dataset has any of them.
    """

    name: str
    modality: str
    labels: LabelKind
    names: Sequence[str]
    read: Callable[[int], tuple[np.ndarray, np.ndarray | None]]
    white: int | None = None
    origin: str = ""

    @property
    def comes_from(self) -> str:
        """Its origin; the same for datasets that are no independent samples of each other."""
        return self.origin or self.name

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Raises:
        UserError: an image or annotation that cannot be used, with its name.
        IndexError: past the end.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        name = self.names[index]
        pixels, annotation = self.read(index)
        image = to_image(pixels, name)
        labels = None if annotation is None else to_labels(annotation, name, white=self._white)
        try:
            check(image, labels)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        return Sample(image, labels, name)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def missing(self, task: Task, sample: Sample) -> str:
        """Why a task cannot be made of one of this dataset's samples, or ""."""
        return task.missing(sample.image, sample.annotation, self.labels)

    def feeds(self, samples: int = 8) -> tuple[str, ...]:
        """Tasks that at least one of up to `samples` images, spread over the dataset, can be made into."""
        seen = [self[index] for index in self.spread(samples)]
        return tuple(name for name, task in TASKS.items() if any(not self.missing(task, one) for one in seen))

    def only(self, wanted: Sequence[int]) -> Dataset:
        """The dataset with these images alone, in this order: for splits. Masks mean what they mean in the
        whole."""
        kept = [int(index) for index in wanted]
        return replace(
            self,
            names=[self.names[k] for k in kept],
            read=lambda i: self.read(kept[i]),
            white=self._white,
        )

    def spread(self, number: int) -> list[int]:
        """Indices of up to so many images, evenly spread."""
        return [int(k) for k in np.unique(np.linspace(0, len(self) - 1, min(number, len(self))).round())]

    @cached_property
    def _white(self) -> int:
        if self.white is not None or self.labels == "none":
            return self.white or 0
        return white_of(self._masks(), instances=self.labels == "instances")

    def _masks(self) -> Iterator[Labels]:
        for index in self.spread(LOOKED_AT):
            try:
                _, annotation = self.read(index)
                if annotation is not None:
                    yield to_labels(annotation, self.names[index])
            except UserError:  # told when the image is asked for
                continue


def from_arrays(
    name: str,
    modality: str,
    images: Sequence[Any] | np.ndarray,
    annotations: Sequence[Any] | np.ndarray | None = None,
    *,
    labels: LabelKind = "none",
    names: Sequence[str] | None = None,
    **facts: Any,
) -> Dataset:
    """A dataset of arrays that are in memory.

    Raises:
        UserError: no images, or not as many annotations as images.
    """
    if len(images) == 0:
        raise UserError(f"{name}: no images")
    if annotations is not None and len(annotations) != len(images):
        raise UserError(f"{name}: {len(images)} images, but {len(annotations)} annotations")

    def read(index: int) -> tuple[np.ndarray, np.ndarray | None]:
        return images[index], None if annotations is None else annotations[index]

    names = [f"{name}[{k}]" for k in range(len(images))] if names is None else names
    return Dataset(name, modality, labels, names, read, **facts)

"""Boxes that several readers drew, into one set. Coordinates are in any unit that is the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Fusion = Literal["wbf", "majority", "any"]


class Drawn(NamedTuple):
    """A box as one reader drew it: x1, y1, x2, y2."""

    xyxy: tuple[float, float, float, float]
    reader: str


@dataclass
class Cluster:
    """Boxes taken for the same thing; `xyxy` is their mean."""

    members: list[Drawn] = field(default_factory=list)
    xyxy: tuple[float, float, float, float] = (0, 0, 0, 0)

    def add(self, box: Drawn) -> None:
        self.members.append(box)
        n = len(self.members)
        x1, y1, x2, y2 = (sum(member.xyxy[i] for member in self.members) / n for i in range(4))
        self.xyxy = (x1, y1, x2, y2)

    @property
    def readers(self) -> int:
        return len({member.reader for member in self.members})


def fuse(boxes: Sequence[Drawn], fusion: Fusion, *, iou: float, readers: int) -> list[Cluster]:
    """The boxes of one class on one image, which so many readers have read, fused.

    `wbf` is weighted boxes fusion (Solovyev et al. 2021) with equal weights, since readers give no
    confidences: each box joins the cluster whose mean it overlaps most, above `iou`, else it founds one.
    `majority` keeps the clusters of more than half of the readers; `any` fuses nothing.

    Boxes are taken in the order of reader and coordinates, so that the order of rows does not matter.
    """
    clusters: list[Cluster] = []
    for box in sorted(boxes, key=lambda box: (box.reader, box.xyxy)):
        scores = [overlap(box.xyxy, cluster.xyxy) for cluster in clusters]
        best = max(range(len(clusters)), key=scores.__getitem__, default=-1)
        if fusion == "any" or best < 0 or scores[best] <= iou:
            clusters.append(Cluster())
            best = len(clusters) - 1
        clusters[best].add(box)
    return [cluster for cluster in clusters if fusion != "majority" or 2 * cluster.readers > readers]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union, 0..1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)

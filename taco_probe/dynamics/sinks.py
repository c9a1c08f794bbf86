"""What gradients are added up to: exact Gram matrices, or random sketches whose Gram matrices are near them.

Legend: D coordinates of a slice of a module's gradient, n entries, w width of a sketch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch

from taco_probe.dynamics.forms import Bound
from taco_probe.dynamics.lora import Group, Lora
from taco_probe.dynamics.store import Slice

_BLOCK = (
    64  # columns: a symmetric product costs about half when only blocks on and above the diagonal are formed
)

# What takes coordinates (n, D): form, group, module, "a" or "b", first coordinate of the slice, coordinates.
Sink = Callable[[str, Group, Lora, str, int, torch.Tensor], None]


def reduce_module(
    module: Lora,
    group: Group,
    bound: Sequence[tuple[str, Bound]],
    of_a: Iterable[Slice],
    of_b: Iterable[Slice],
    sink: Sink,
) -> None:
    """Puts a module's gradients into every form, slice by slice, and gives their coordinates to `sink`."""
    rank, weight_a = module.a.weight.shape[0], module.a.weight.detach()
    corner: torch.Tensor | None = None
    for rows, grad in of_a:
        share = grad.transpose(1, 2) @ weight_a[:, rows].T.to(grad.dtype)
        corner = share if corner is None else corner + share
        for name, form in bound:
            sink(name, group, module, "a", rows.start * rank, form.of_a(grad, rows).flatten(1))
    assert corner is not None
    for rows, grad in of_b:
        for name, form in bound:
            sink(name, group, module, "b", rows.start * rank, form.of_b(grad, rows, corner).flatten(1))


class Exact:
    """Gram matrices by form and group: products in the gradients' precision, sums of them in float64."""

    def __init__(self) -> None:
        self._upper: dict[tuple[str, Group], torch.Tensor] = {}

    def __call__(
        self, form: str, group: Group, module: Lora, part: str, first: int, coordinates: torch.Tensor
    ) -> None:
        """Adds coordinates (n, D) of all entries."""
        n = len(coordinates)
        key = (form, group)
        if key not in self._upper:
            self._upper[key] = torch.zeros(n, n, dtype=torch.float64, device=coordinates.device)
        for start in range(0, n, _BLOCK):
            block = coordinates[start : start + _BLOCK] @ coordinates[start:].T
            self._upper[key][start : start + _BLOCK, start:] += block

    def kernels(self) -> dict[tuple[str, Group], torch.Tensor]:
        """Gram matrices (n, n) in float64 on the CPU."""
        return {key: symmetric(upper.cpu()) for key, upper in self._upper.items()}


class CountSketch:
    """Sketches (n, w) by form and group: each coordinate goes, with a random sign, to one random place, and
    inner products of sketches are unbiased for those of gradients (Charikar, Chen and Farach-Colton 2002).

    Args:
        width: w. The error of a cosine is about 1 / sqrt(w).
        seed: which places and signs.
    """

    def __init__(self, width: int, seed: int) -> None:
        self._width, self._seed = width, seed
        self._batch: dict[tuple[str, Group], torch.Tensor] = {}
        self._done: dict[tuple[str, Group], list[torch.Tensor]] = {}

    def __call__(
        self, form: str, group: Group, module: Lora, part: str, first: int, coordinates: torch.Tensor
    ) -> None:
        """Adds all coordinates (n, D) of the entries of a batch; a slice would not be known again."""
        assert not first
        place, sign = self._draw(f"{module.name}.{part}", coordinates.shape[1])
        key = (form, group)
        if key not in self._batch:
            self._batch[key] = coordinates.new_zeros(len(coordinates), self._width)
        signed = coordinates * sign.to(coordinates)
        self._batch[key].index_add_(1, place.to(coordinates.device), signed)

    def close_batch(self) -> None:
        """All modules of a batch have been added."""
        for key, sketch in self._batch.items():
            self._done.setdefault(key, []).append(sketch.cpu())
        self._batch = {}

    def kernels(self) -> dict[tuple[str, Group], torch.Tensor]:
        """Gram matrices (n, n) of the sketches in float64."""
        whole = {key: torch.cat(parts).double() for key, parts in self._done.items()}
        return {key: sketch @ sketch.T for key, sketch in whole.items()}

    def _draw(self, what: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same places and signs (D,) whenever the same coordinates come."""
        digest = hashlib.sha256(f"{self._seed}/{what}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        place = torch.randint(self._width, (count,), generator=generator)
        return place, 2 * torch.randint(2, (count,), generator=generator) - 1


def symmetric(upper: torch.Tensor) -> torch.Tensor:
    """The symmetric matrix with this upper triangle."""
    return upper.triu() + upper.triu(1).T

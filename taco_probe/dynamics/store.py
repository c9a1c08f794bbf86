"""Gradients of a module's A and B for all entries, read back a slice of rows at a time.

The inner product of two entries needs both gradients at once. In one batch they are there together and gone
with the layer. Over several batches they wait in a temporary file, not in memory, and one slice of one module
is in memory when they are compared. The file is float32 (or wider, as the model is): nothing is rounded.

Legend: m rows (inputs of A or outputs of B), r rank, E entries of a batch, n all entries.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from data_recipes.errors import UserError

SLICE_BYTES = 4 * 2**20

Slice = tuple[slice, torch.Tensor]  # rows, and their gradients (n, rows, r)


class _Piece(NamedTuple):
    offset: int
    entries: int


class Spill:
    """A temporary file of gradients (E, m, r), batch by batch; gone when closed or when the process ends.

    Args:
        folder: where it is written, by default the system's temporary folder. On a tmpfs it is memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._end = 0
        self._pieces: dict[str, list[_Piece]] = {}
        self._shapes: dict[str, tuple[int, int, torch.dtype, torch.device]] = {}

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the file."""
        self._file.close()

    def append(self, key: str, grad: torch.Tensor) -> None:
        """Adds a batch's gradients (E, m, r).

        Raises:
            UserError: the disk is full.
        """
        self._shapes[key] = (grad.shape[1], grad.shape[2], grad.dtype, grad.device)
        view = grad.contiguous().cpu().numpy().reshape(-1).view("uint8").data
        try:
            written = 0
            while written < len(view):
                written += os.pwrite(self._file.fileno(), view[written:], self._end + written)
        except OSError as error:
            raise UserError(
                f"the gradients do not fit into {self._folder or tempfile.gettempdir()} ({error.strerror}): "
                "name another folder, or measure in more sweeps"
            ) from error
        self._pieces.setdefault(key, []).append(_Piece(self._end, len(grad)))
        self._end += len(view)

    def slices(self, key: str) -> Iterator[Slice]:
        """All rows of a module's A or B, for all entries in the order in which they came."""
        rows, rank, dtype, device = self._shapes[key]
        pieces = self._pieces[key]
        entries = sum(piece.entries for piece in pieces)
        step = slice_rows(rank, entries, dtype)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            out = torch.empty(entries, count, rank, dtype=dtype)
            views = iter(out)
            for piece in pieces:
                for entry in range(piece.entries):
                    self._read(next(views), piece.offset + (entry * rows + first) * rank * dtype.itemsize)
            yield slice(first, first + count), out.to(device)

    def _read(self, part: torch.Tensor, offset: int) -> None:
        view = part.numpy().reshape(-1).view("uint8").data
        done = 0
        while done < len(view):
            got = os.preadv(self._file.fileno(), [view[done:]], offset + done)
            assert got, "the temporary file is shorter than what was written"
            done += got


def in_slices(grad: torch.Tensor) -> Iterator[Slice]:
    """Gradients (n, m, r) that are in memory, in slices of the same size."""
    step = slice_rows(grad.shape[2], len(grad), grad.dtype)
    for first in range(0, grad.shape[1], step):
        rows = slice(first, min(first + step, grad.shape[1]))
        yield rows, grad[:, rows]


def slice_rows(rank: int, entries: int, dtype: torch.dtype) -> int:
    """Rows of a slice of about SLICE_BYTES."""
    return max(1, SLICE_BYTES // (rank * entries * dtype.itemsize))

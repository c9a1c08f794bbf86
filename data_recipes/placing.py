"""Puts people's image files into a mixture's folder: copied, linked or left out, with their true size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_recipes.errors import UserError
from data_recipes.harvest import Pixels
from data_recipes.packed import at_hand, is_packed
from data_recipes.pixels import REWRITTEN, decode, safe_name, size, write_png
from data_recipes.processes import each
from data_recipes.thumbnails import Mark, marked

_WORTH_A_WORKER = 400  # files that take as long to decode as a process to start


class Wish(NamedTuple):
    """An image to place: its file relative to the root ("" for none), and its size as said (0: not said)."""

    image_id: str
    file: str
    width: int
    height: int


class Placed(NamedTuple):
    """Where the image lies in the mixture ("" without pixels), its true size (0: unknown), and its mark."""

    path: str
    width: int
    height: int
    mark: Mark


def place_all(
    wishes: Sequence[Wish], root: Path, folder: Path, pixels: Pixels, *, label: str, progress: bool
) -> list[Placed | str]:
    """Each image as placed, or what is wrong with its file, in the order of the wishes.

    Raises:
        UserError: the file system cannot link from the root; or as `processes.each`.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    one = partial(_place, root=root, folder=folder, pixels=pixels)
    if all(_is_settled(wish, pixels) for wish in wishes):
        return [one(wish) for wish in wishes]
    # Images of one table follow each other, whatever the order of the wishes.
    order = sorted(range(len(wishes)), key=lambda n: wishes[n].file if is_packed(wishes[n].file) else "")
    placed: list[Placed | str] = [""] * len(wishes)
    results = each(one, [wishes[n] for n in order], label=label, progress=progress, worth=_WORTH_A_WORKER)
    for n, result in zip(order, results, strict=True):
        placed[n] = result
    return placed


def place(file: Path, target: Path, *, link: bool) -> None:
    """Copies or hard-links an image file (a symbolic link would lead out of the mixture's folder).

    Raises:
        UserError: the file system cannot link from there.
    """
    if not link:
        shutil.copyfile(file, target)
        return
    try:
        os.link(file, target)
    except OSError as error:
        raise UserError(f"{file} cannot be linked ({error.strerror}): use --pixels copy") from None


def _is_settled(wish: Wish, pixels: Pixels) -> bool:
    """Whether its file need not be looked at."""
    return pixels == "skip" and (not wish.file or bool(wish.width and wish.height))


def _place(wish: Wish, root: Path, folder: Path, pixels: Pixels) -> Placed | str:
    if _is_settled(wish, pixels):
        return Placed("", wish.width, wish.height, Mark())
    with ExitStack() as stack:
        try:
            file = stack.enter_context(at_hand(root, wish.file, folder))
            if pixels == "skip":
                width, height = size(file)
                path, mark, suffix = "", Mark(), ""
            else:
                content = decode(file)
                width, height = content.size
                grey = np.asarray(content)
                mark, suffix = marked(grey), file.suffix.lower()
                path = f"images/{safe_name(wish.image_id)}{'.png' if suffix in REWRITTEN else suffix}"
            for name, said, true in (("width", wish.width, width), ("height", wish.height, height)):
                if said not in (0, true):
                    return f"image {wish.file} has {name} {true}, the row says {said}"
        except ValueError as error:
            return str(error)
        if path and suffix in REWRITTEN:
            write_png(grey, folder / path)  # a mixture holds pictures that every tool opens
        elif path:
            place(file, folder / path, link=pixels == "link" or is_packed(wish.file))
    return Placed(path, width, height, mark)

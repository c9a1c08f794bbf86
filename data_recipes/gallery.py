"""A page of images of a mixture with all their entries and boxes, to be looked at before training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image

from data_recipes.draws import draws
from data_recipes.errors import UserError, unknown
from data_recipes.licence import licence
from data_recipes.page import image_uri, write_page
from data_recipes.records import BOX_SLOT, SPLITS, Box, Entry, Image, Mixture
from data_recipes.store import open_image, read_mixture
from data_recipes.tasks import TASKS

_LONGEST_SIDES = (
    768,
    640,
    512,
    448,
    384,
    320,
    256,
    192,
)  # pixels; the largest that fits
_QUALITY = 82  # of the JPEG
_UNKNOWN_SIDE = 1000  # of an image whose size nobody knows: boxes are fractions, and stay right

Stratum = tuple[str, str, str]


def write_gallery(
    folder: Path,
    path: Path,
    *,
    images: int = 48,
    task: str | None = None,
    split: str | None = None,
    seed: int = 0,
    megabytes: float = 8.0,
) -> dict[str, Any]:
    """Writes the page of the mixture in `folder` and returns what it shows: numbers of images and entries,
    and the longest side of its pictures in pixels (0 without pixels).

    Args:
        images: how many, at most.
        task: only images that carry entries of it (all their entries are shown).
        split: only images of it.
        seed: another one shows other images.
        megabytes: size that the pictures must keep to, in 10^6 bytes.

    Raises:
        UserError: an unknown task or split; a number that is not above 0; no image fits; or one
            cannot be opened.
    """
    for what, name, known in (("task", task, TASKS), ("split", split, SPLITS)):
        if name is not None and name not in known:
            raise unknown(what, name, known)
    if images < 1 or megabytes <= 0:
        raise UserError("a gallery needs --images of 1 or more, and --megabytes above 0")
    mixture = read_mixture(folder)
    by_image: dict[str, list[Entry]] = defaultdict(list)
    for entry in mixture.entries:
        by_image[entry.image_id].append(entry)
    fits = [image for image in mixture.images if split in (None, image.split)]
    if task:
        fits = [image for image in fits if any(entry.task == task for entry in by_image[image.image_id])]
    if not fits:
        raise UserError(f"{folder} has no image {_wish(task, split)}")
    shown = choose(fits, by_image, images, seed)
    pictures, longest = _pictures(shown, folder, int(megabytes * 1e6))
    cards = [_card(image, by_image[image.image_id], uri) for image, uri in zip(shown, pictures, strict=True)]
    context = _context(mixture, cards, of=len(fits), wish=_wish(task, split), seed=seed)
    write_page(path, "gallery/page.html", style="gallery/page.css", script="gallery/page.js", **context)
    return {"images": len(cards), "entries": context["number_of_entries"], "longest_side": longest}


def choose(
    images: Sequence[Image], entries: Mapping[str, Collection[Entry]], number: int, seed: int
) -> list[Image]:
    """Up to `number` images, so balanced that each (task, split, source) that exists is seen: again and again
    the one that is seen least, of these the rarest, gets one more of its images, in an order drawn by
    image id. The same on every machine, whatever the order of the rows."""
    drawn = sorted(zip(draws((i.image_id for i in images), seed, "gallery").tolist(), images, strict=True),
                   key=lambda pair: (pair[0], pair[1].image_id))  # fmt: skip
    strata: dict[str, set[Stratum]] = {}
    waiting: dict[Stratum, list[Image]] = defaultdict(list)
    for _, image in reversed(drawn):
        tasks = {entry.task for entry in entries[image.image_id]} or {""}
        strata[image.image_id] = {(task, image.split, image.source) for task in tasks}
        for stratum in strata[image.image_id]:
            waiting[stratum].append(image)
    seen = dict.fromkeys(waiting, 0)
    size = {stratum: len(members) for stratum, members in waiting.items()}
    chosen: dict[str, Image] = {}
    while len(chosen) < number:
        for members in waiting.values():
            while members and members[-1].image_id in chosen:
                members.pop()
        left = [stratum for stratum, members in waiting.items() if members]
        if not left:
            break
        image = waiting[min(left, key=lambda one: (seen[one], size[one], one))].pop()
        chosen[image.image_id] = image
        for stratum in strata[image.image_id]:
            seen[stratum] += 1
    return list(chosen.values())


def _pictures(images: Sequence[Image], folder: Path, budget: int) -> tuple[list[str], int]:
    """A data URI for each image ("" without pixels), all with the same longest side, and that side: the
    largest at which they keep to the budget in bytes."""
    opened = [_reduced(open_image(folder, image)) if image.path else None for image in images]
    if not any(opened):
        return [""] * len(images), 0
    for longest in _LONGEST_SIDES:
        uris = [image_uri(pixels, longest=longest, quality=_QUALITY) if pixels else "" for pixels in opened]
        if sum(map(len, uris)) <= budget:
            return uris, longest
    raise UserError(
        f"{len(images)} images do not fit into {budget / 1e6:g} MB: ask for fewer, or for more --megabytes"
    )


def _reduced(pixels: PIL.Image.Image) -> PIL.Image.Image:
    """No larger than a page shows: a radiograph as it was taken has up to 20 million pixels."""
    pixels.thumbnail((_LONGEST_SIDES[0], _LONGEST_SIDES[0]))
    return pixels


def _card(image: Image, entries: Sequence[Entry], uri: str) -> dict[str, Any]:
    """An image for the template. Boxes are numbered from 1 on the image; equal boxes are one, so that an
    entry that asks for a box and one that asks about it share number and colour."""
    numbers: dict[Box, int] = {}
    for entry in entries:
        for box in entry.boxes:
            numbers.setdefault(box, len(numbers) + 1)
    return {
        "image": image,
        "uri": uri,
        "width": image.width or _UNKNOWN_SIDE,
        "height": image.height or _UNKNOWN_SIDE,
        "size": f"{image.width} × {image.height}" if image.width else "size not known",
        "boxes": [
            {
                "number": number,
                # in hundredths of the image's width and height
                "x": round(100 * box.x1, 3),
                "y": round(100 * box.y1, 3),
                "width": round(100 * (box.x2 - box.x1), 3),
                "height": round(100 * (box.y2 - box.y1), 3),
            }
            # Large boxes first, so that small ones lie on top and can be pointed at.
            for box, number in sorted(numbers.items(), key=lambda pair: -pair[0].area)
        ],
        "entries": [
            {
                "id": entry.entry_id,
                "task": entry.task,
                "kind": entry.kind,
                "prompt": _parts(entry.prompt, entry.prompt_boxes, numbers),
                "target": _parts(entry.target, entry.target_boxes, numbers),
                "boxes": sorted({numbers[box] for box in entry.boxes}),
            }
            for entry in sorted(entries, key=lambda entry: TASKS.index(entry.task))
        ],
    }


def _parts(text: str, boxes: Sequence[Box], numbers: Mapping[Box, int]) -> list[str | int]:
    """The text in pieces, each box as its number."""
    pieces = text.split(BOX_SLOT)
    found: list[str | int] = [pieces[0]]
    for box, piece in zip(boxes, pieces[1:], strict=True):
        found += [numbers[box], piece]
    return [part for part in found if part != ""]


def _context(
    mixture: Mixture, cards: Sequence[Mapping[str, Any]], *, of: int, wish: str, seed: int
) -> dict[str, Any]:
    meta = mixture.meta
    per_task = {
        task: sum(entry["task"] == task for card in cards for entry in card["entries"]) for task in TASKS
    }
    return {
        "title": f"Gallery of {meta.get('name', 'mixture')}",
        "hash": str(meta.get("mixture_hash", ""))[:12],
        "description": " ".join(str(meta.get("recipe", {}).get("description", "")).split()),
        "notes": meta.get("notes", []),
        "licences": {name: licence(said) for name, said in meta.get("licences", {}).items()},
        "rejected": meta.get("rejected", 0),
        "counts": meta.get("counts", {}),
        "splits": [name for name in SPLITS if any(card["image"].split == name for card in cards)],
        "sources": sorted({card["image"].source for card in cards}),
        "tasks": {task: number for task, number in per_task.items() if number},
        "all_tasks": list(TASKS),
        "cards": cards,
        "of": of,
        "wish": wish,
        "seed": seed,
        "without_pixels": sum(not card["uri"] for card in cards),
        "number_of_entries": sum(per_task.values()),
        "number_of_boxes": sum(len(card["boxes"]) for card in cards),
    }


def _wish(task: str | None, split: str | None) -> str:
    words = [f"with entries of {task}"] * bool(task) + [f"in split {split}"] * bool(split)
    return " ".join(words)

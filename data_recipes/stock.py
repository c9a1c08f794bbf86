"""Hands out the images of a harvest, each once: their pixels are placed and their entries become records only
then."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_recipes.draws import draws
from data_recipes.duplicates import Known
from data_recipes.errors import UserError
from data_recipes.harvest import Harvest, Pixels
from data_recipes.placing import Placed, Wish, place_all
from data_recipes.reading import Delivered
from data_recipes.records import SPLITS, Box, Entry, Image
from data_recipes.reject import Rejection
from data_recipes.sources import file_options, file_source
from data_recipes.splits import by_patient
from data_recipes.thumbnails import Mark

_NO_PIXELS = "Built without pixels: good for counting and comparing mixtures, not for training."


class Stock:
    """The images of a harvest that have entries, in the order they are handed out.

    Attributes:
        broken: how many images were asked for whose file cannot be used.
        copies: how many of the others were left out as near-duplicates of a known image.
        rejected: rows that cannot be used, those of broken images among them.

    Args:
        splits: split of each image of the harvest; images of other splits than SPLITS are left out.
        tasks: entries of other tasks are left out.
        known: images that are near-duplicates of one of these are left out.
        shuffle: hand patients out in an order drawn by their id, so that the first so many images are a
            fair sample; else in the order of the files.
    """

    def __init__(
        self,
        harvest: Harvest,
        splits: pl.Series,
        tasks: Collection[str],
        folder: Path,
        pixels: Pixels,
        *,
        seed: int,
        shuffle: bool,
        known: Known | None = None,
    ) -> None:
        self._root, self._folder, self._pixels = harvest.root, folder, pixels
        self.funnel = harvest.funnel
        self.notes = [*harvest.notes, _NO_PIXELS] if pixels == "skip" else list(harvest.notes)
        self.rejected: list[Rejection] = list(harvest.funnel.rejected)
        entries = harvest.entries.filter(pl.col("task").is_in(list(tasks)))
        images = harvest.images.with_columns(split=splits)
        drops = {
            "in a split that is not used": ~pl.col("split").is_in(list(SPLITS)),
            "has no entry": ~pl.col("image_id").is_in(entries["image_id"].unique().implode()),
        }
        images = self.funnel.keep("images with entries", "images", images, drops)
        if shuffle:
            order = pl.Series(draws(images["patient_id"], seed, "order"))
            images = images.with_columns(__order=order).sort("__order", maintain_order=True).drop("__order")
        self._images = images.with_row_index("place")
        self._entries = (
            entries.join(self._images.select("image_id", "place"), on="image_id")
            .sort("place", maintain_order=True)
            .rename({"file": "table"})
        )
        self._free = np.ones(images.height, bool)
        self.broken = self.copies = 0
        self._known = known
        self._claims: dict[str, str] = {}

    def take(
        self, wanted: Mapping[str, int] | None, *, label: str, progress: bool, task: str = ""
    ) -> list[Delivered]:
        """The next `wanted[split]` images, or all that are left; fewer where the stock ends, or where a file
        cannot be used: then its entries are rejected.

        Args:
            task: hand out images that have entries of it, with these entries only. A patient whose images
                went to one task is not asked for another.
        """
        entries = self._of(task)
        chosen = self._choose(wanted, entries, task)
        self._free[chosen] = False
        rows = self._images[chosen]
        wishes = [Wish(*row) for row in rows.select("image_id", "file", "width", "height").iter_rows()]
        placed = place_all(wishes, self._root, self._folder, self._pixels, label=label, progress=progress)
        told = _entries_of(entries, rows["place"])
        return self._deliver(rows, placed, told)

    def free(self, tasks: Collection[str]) -> int:
        """How many images with entries of any of these tasks have not been asked for."""
        places = self._entries.filter(pl.col("task").is_in(list(tasks)))["place"].unique().to_numpy()
        return int(np.count_nonzero(self._free[places]))

    def left(self, splits: Iterable[str], task: str = "") -> bool:
        """Whether one more image of these splits could be asked for."""
        return bool(self._choose(dict.fromkeys(splits, 1), self._of(task), task))

    def close(self) -> None:
        """Says in the funnel what became of the images."""
        number, asked = len(self._free), int(np.count_nonzero(~self._free))
        self.funnel.count("images asked for", "images", number, asked, "more than were asked for")
        good = asked - self.broken
        self.funnel.count("image files", "images", asked, good, "file missing or unusable")
        if self._known:
            why = "near-duplicate of an image of the matched mixture"
            self.funnel.count("images of its own", "images", good, good - self.copies, why)

    def _of(self, task: str) -> pl.DataFrame:
        return self._entries.filter(pl.col("task") == task) if task else self._entries

    def _choose(self, wanted: Mapping[str, int] | None, entries: pl.DataFrame, task: str) -> list[int]:
        free = np.zeros(len(self._free), bool)
        free[entries["place"].unique().to_numpy()] = True
        free &= self._free
        places = np.flatnonzero(free)
        if wanted is None:
            return [int(place) for place in places]
        left = dict(wanted)
        chosen = []
        for place, split, patient in self._images[places].select("place", "split", "patient_id").iter_rows():
            if left.get(split, 0) and self._claims.setdefault(patient, task) == task:
                left[split] -= 1
                chosen.append(place)
                if not any(left.values()):
                    break
        return chosen

    def _deliver(
        self, rows: pl.DataFrame, placed: Sequence[Placed | str], told: Mapping[int, list[_Told]]
    ) -> list[Delivered]:
        delivered = []
        marks = [Mark() if isinstance(result, str) else result.mark for result in placed]
        copies = self._known.copies(marks) if self._known else set()
        self.copies += len(copies)
        for place, (row, result) in enumerate(zip(rows.iter_rows(named=True), placed, strict=True)):
            if place in copies:
                continue
            entries = told[row["place"]]
            if isinstance(result, str):
                self.broken += 1
                self.rejected += [Rejection(file, number, result) for _, file, number in entries]
                continue
            image = Image(
                row["image_id"], row["patient_id"], row["split"], self.funnel.source, result.path,
                result.width, result.height, row["view"],
            )  # fmt: skip
            delivered.append(Delivered(image, result.mark, tuple(entry for entry, _, _ in entries)))
        return delivered


_Told = tuple[Entry, str, int]  # an entry, the table and the row it comes from


def _entries_of(entries: pl.DataFrame, places: pl.Series) -> dict[int, list[_Told]]:
    """Image's place -> its entries as records, in the source's order."""
    told: dict[int, list[_Told]] = {place: [] for place in places.to_list()}
    chosen = entries.filter(pl.col("place").is_in(places.implode()))
    columns = ("entry_id", "image_id", "task", "prompt", "target", "boxes", "provenance")
    for place, table, row, *fields in chosen.select("place", "table", "row", *columns).iter_rows():
        fields[5] = tuple(Box(*box) for box in fields[5])
        entry = Entry(*fields)
        told[place].append((entry, table, row))
    return told


def open_stock(
    source: str,
    options: Mapping[str, Any],
    folder: Path,
    splits: Callable[[pl.DataFrame], pl.Series],
    tasks: Collection[str],
    *,
    seed: int,
    shuffle: bool,
    known: Known | None = None,
) -> Stock:
    """The stock of a source of files; `splits` says the split of each image of the harvest, the rest as for
    `Stock`.

    Raises:
        UserError: the source refuses its options or files.
    """
    checked = file_options(source, options)
    if checked.placing != "skip" and checked.root is None:
        raise UserError(f"pixels: {checked.placing} needs --root, the folder with the images")
    found = file_source(source).harvest(checked, seed)
    splits_ = splits(found.images)
    return Stock(found, splits_, tasks, folder, checked.placing, seed=seed, shuffle=shuffle, known=known)


def drawn_splits(images: pl.DataFrame, fractions: Mapping[str, float], seed: int) -> pl.Series:
    """Split of each image of a harvest, drawn by patient where the harvest leaves it open.

    A patient one of whose images has a split of its own is in that split with all of them.
    """
    both = {split: share for split, share in fractions.items() if split != "test"}
    scale = sum(both.values())
    inner = {split: share / scale for split, share in both.items()} if scale else {"train": 1.0}
    split = pl.col("split")
    said = images.filter(~split.is_in(["", "train+validation"])).unique("patient_id", keep="first")
    result = dict(zip(said["patient_id"], said["split"], strict=True))
    for open_, shares in (("train+validation", inner), ("", fractions)):
        patients = images.filter(split == open_)["patient_id"].unique(maintain_order=True)
        drawn = by_patient((name for name in patients if name not in result), shares, seed)
        result = {**drawn, **result}
    own = images["split"].is_in(list(SPLITS))
    looked = images["patient_id"].replace_strict(result, return_dtype=pl.String)
    return pl.select(pl.when(own).then(images["split"]).otherwise(looked)).to_series()

"""The probe set: the entries whose gradients are measured, the same for every run that is compared.

Entropy and effective rank grow with the number of entries and depend on which ones they are. So the choice
depends on the entries themselves, a seed and a number, and on nothing of the run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_recipes.draws import draws
from data_recipes.errors import UserError, unknown
from data_recipes.records import SPLITS, Entry, Image, Mixture
from data_recipes.tasks import TASKS

Pair = tuple[Image, Entry]


@dataclass(frozen=True)
class Probe:
    """Entries with their images, task by task in the order of TASKS.

    Attributes:
        digest: SHA-256 of what the entries say and whom they are about; equal for equal probe sets. It does
            not cover pixels: runs are compared by the digest of the mixture's content for these.
    """

    pairs: tuple[Pair, ...]
    split: str
    seed: int

    @property
    def tasks(self) -> list[str]:
        """The task of each entry."""
        return [entry.task for _, entry in self.pairs]

    @property
    def patients(self) -> list[str]:
        """The patient of each entry."""
        return [image.patient_id for image, _ in self.pairs]

    @property
    def digest(self) -> str:
        total = hashlib.sha256()
        for image, entry in self.pairs:
            boxes = [list(box.xyxy) for box in entry.boxes]
            row = (image.image_id, image.patient_id, entry.entry_id, entry.task, entry.prompt, entry.target)
            total.update(json.dumps([*row, boxes]).encode() + b"\n")
        return total.hexdigest()

    def counts(self) -> dict[str, int]:
        """Entries of each task that occurs, in the order of TASKS."""
        found = Counter(self.tasks)
        return {task: found[task] for task in TASKS if found[task]}


def choose(
    mixture: Mixture,
    number: int,
    *,
    split: str = "validation",
    seed: int = 0,
    tasks: Sequence[str] | None = None,
) -> Probe:
    """`number` entries of a split, as even over tasks as there are entries, and within a task over as many
    patients as possible.

    Args:
        tasks: of these only; by default of all that the split has.

    Raises:
        UserError: the split is the test split or unknown; it has fewer entries; or `number` is less than two
            for a task.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if split == "test":
        raise UserError("a probe set is never taken from the test split: its patients are held out")
    held_out = {image.patient_id for image in mixture.images if image.split == "test"}
    pairs = [
        (image, entry)
        for image, entry in mixture.of_split(split)
        if image.patient_id not in held_out and (tasks is None or entry.task in tasks)
    ]
    by_task: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_task[pair[1].task].append(pair)
    present = [task for task in TASKS if by_task[task]]
    name = mixture.meta.get("name", "the mixture")
    if len(pairs) < number:
        raise UserError(
            f"{number} probe entries were asked for, the {split} split of {name} has {len(pairs)}: ask for "
            f"fewer (--dynamics_entries), or name another mixture to take them from (--dynamics_mixture)"
        )
    if number < 2 * len(present):
        raise UserError(
            f"{number} probe entries are too few for {len(present)} tasks: ask for {2 * len(present)} or more"
        )
    sizes = even_shares(number, [len(by_task[task]) for task in present])
    chosen = [
        pair
        for task, size in zip(present, sizes, strict=True)
        for pair in _spread(by_task[task], seed)[:size]
    ]
    return Probe(tuple(chosen), split, seed)


def even_shares(number: int, available: Sequence[int]) -> list[int]:
    """`number` shared out as evenly as what is available allows; of equal ones the first gets more.

    >>> even_shares(10, [2, 9, 9])
    [2, 4, 4]
    """
    assert sum(available) >= number, (number, available)
    shares = [0] * len(available)
    while number:
        open_ = [place for place, most in enumerate(available) if shares[place] < most]
        each, more = divmod(number, len(open_))
        for rank, place in enumerate(open_):
            # What does not go round evenly waits until nothing else is left.
            step = min(each, available[place] - shares[place]) if each else int(rank < more)
            shares[place] += step
            number -= step
    return shares


def _spread(pairs: Iterable[Pair], seed: int) -> list[Pair]:
    """A random order in which every patient comes once before any comes again. It depends on the ids alone,
    not on the order in which the mixture holds them."""
    found = list(pairs)
    drawn = draws([entry.entry_id for _, entry in found], seed, "probe")
    ranked = sorted(zip(drawn.tolist(), range(len(found)), strict=True))
    turn: dict[str, itertools.count[int]] = defaultdict(itertools.count)
    rounds = [(next(turn[found[place][0].patient_id]), rank) for rank, (_, place) in enumerate(ranked)]
    order = sorted(range(len(found)), key=rounds.__getitem__)
    return [found[ranked[rank][1]] for rank in order]

"""The funnel of a mixture: at every join or filter step how many rows came, stayed, and went, and why.

Rows that a policy leaves out are counted. Rows that are broken are counted and named as well: they go to
`rejected.jsonl` with file, row and reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from data_recipes.reject import Rejection

_WHY = "__why"


@dataclass(frozen=True)
class Step:
    """One step: `came` == `kept` + the sum of `dropped`. `rows` says what is counted: images, boxes, ..."""

    source: str
    step: str
    rows: str
    came: int
    kept: int
    dropped: dict[str, int]

    def __post_init__(self) -> None:
        assert self.came == self.kept + sum(self.dropped.values()), self


@dataclass
class Funnel:
    """The steps of one source in order, and its broken rows."""

    source: str
    steps: list[Step] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    def count(self, step: str, rows: str, came: int, kept: int, why: str = "") -> None:
        """A step that was carried out elsewhere; all that is gone went for one reason."""
        self.tally(step, rows, kept, {why: came - kept})

    def tally(self, step: str, rows: str, kept: int, dropped: Mapping[str, int]) -> None:
        """A step that was carried out elsewhere, with the number of rows for each reason."""
        gone = {why: number for why, number in dropped.items() if number}
        self.steps.append(Step(self.source, step, rows, kept + sum(gone.values()), kept, gone))

    def keep(
        self, step: str, rows: str, frame: pl.DataFrame, drops: Mapping[str, pl.Expr], *, reject: bool = False
    ) -> pl.DataFrame:
        """The rows of `frame` for which none of the conditions holds; the first that does is the reason.

        Args:
            drops: reason -> condition; a condition that is null does not hold.
            reject: name the rows that go; `frame` then has the columns `file` and `row`.
        """
        why = pl.lit(None, pl.String)
        for reason, condition in reversed(list(drops.items())):
            why = pl.when(condition.fill_null(False)).then(pl.lit(reason)).otherwise(why)
        return self.keep_unless(step, rows, frame, why, reject=reject)

    def keep_unless(
        self, step: str, rows: str, frame: pl.DataFrame, why: pl.Expr, *, reject: bool = False
    ) -> pl.DataFrame:
        """The rows of `frame` whose `why`, the reason to drop them, is null."""
        marked = frame.with_columns(why.alias(_WHY))
        gone = marked.filter(pl.col(_WHY).is_not_null())
        self.tally(step, rows, frame.height - gone.height, Counter(gone[_WHY].to_list()))
        if reject:
            self.rejected += [Rejection(*row) for row in gone.select("file", "row", _WHY).iter_rows()]
        return marked.filter(pl.col(_WHY).is_null()).drop(_WHY) if gone.height else frame


def as_json(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Steps as `mixture.json` keeps them."""
    return [asdict(step) for step in steps]


def table(steps: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str, int, int, str]]:
    """Rows for people: source, step, what is counted, came, kept, and why the others went."""
    return [
        (step["source"], step["step"], step["rows"], step["came"], step["kept"], _reasons(step["dropped"]))
        for step in steps
    ]


def _reasons(dropped: Mapping[str, int], shown: int = 4) -> str:
    parts = [f"{number} {why}" for why, number in sorted(dropped.items(), key=lambda item: -item[1])]
    if len(parts) > shown:
        rest = sum(dropped.values()) - sum(sorted(dropped.values(), reverse=True)[:shown])
        parts = [*parts[:shown], f"{rest} for {len(parts) - shown} other reasons"]
    return "; ".join(parts)

"""Odd values everywhere in the rows of any table of any source: such a row is used or rejected, nothing
crashes, and what other rows say stays as it is without it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl
import pytest

from data_recipes.errors import UserError
from tests.data_recipes.datasets import harvest
from tests.data_recipes.roots import ROOTS

GOOD = 4
DEEP: Any = []
for _ in range(50):
    DEEP = [DEEP]
# What JSON can say and no dataset means.
VALUES = [
    None, True, -1, 0, 1e308, 10**400, math.nan, math.inf, "", " ", "\0", "\ud800", "x" * 100_001, "NaN", [],
    [[]], [None], ["\ud800"], [-1, 2], {}, {"a": []}, {"id": {}}, DEEP,
]  # fmt: skip
CELLS = [
    "", " ", "NaN", "inf", "1e999", "-1", "0", "9" * 400, "x" * 100_001, "\u2028", "\U0010ffff", "{box}", "[",
    "'",
]  # fmt: skip

Place = tuple[str | int, ...]


class Odd(NamedTuple):
    """A value at a place of a row: of the keys that lead there (JSON), or a column's number."""

    place: Place
    value: Any

    def __str__(self) -> str:
        return f"{'/'.join(map(str, self.place)) or 'the row'} = {str(self.value)[:20]!r}"


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Where something stands in a JSON value, itself included."""
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*at, key))


def replaced(value: Any, at: Place, odd: Any) -> Any:
    if not at:
        return odd
    changed = copy.copy(value)
    changed[at[0]] = replaced(value[at[0]], at[1:], odd)
    return changed


class JsonTable:
    """A list of rows, JSON lines, or (COCO) an object with lists of rows."""

    def __init__(self, text: str) -> None:
        self._lines = text.startswith("{") and "}\n" in text
        self._content = [*map(json.loads, text.splitlines())] if self._lines else json.loads(text)

    def odds(self) -> list[Odd]:
        lists = ("images", "annotations") if isinstance(self._content, dict) else ()
        rows = [((name,), self._content[name][0]) for name in lists] or [((), self._content[0])]
        return [Odd((*start, *at), value) for start, row in rows for at in places(row) for value in VALUES]

    def changed(self, odds: Sequence[tuple[int, Odd]]) -> str:
        """The text with an odd value in each of these rows, counted from 0."""
        content = copy.deepcopy(self._content)
        for number, odd in odds:
            rows, at = content, odd.place
            if isinstance(content, dict):
                rows, at = content[at[0]], at[1:]
            rows[number] = replaced(rows[number], at, odd.value)
        return "".join(f"{json.dumps(row)}\n" for row in content) if self._lines else json.dumps(content)


class CellTable:
    """A table of text, with or without a header."""

    def __init__(self, text: str) -> None:
        self._separator = "\t" if "\t" in text else ","
        self._header = int(self._separator == ",")
        self._rows = text.splitlines()

    def odds(self) -> list[Odd]:
        columns = len(self._rows[-1].split(self._separator))
        return [Odd((column,), value) for column in range(columns) for value in CELLS]

    def changed(self, odds: Sequence[tuple[int, Odd]]) -> str:
        rows = [*self._rows]
        for number, odd in odds:
            cells = rows[number + self._header].split(self._separator)
            cells[int(odd.place[0])] = odd.value
            rows[number + self._header] = self._separator.join(cells)
        return "\n".join(rows) + "\n"


def told(found, among: Sequence[str]) -> list[tuple[Any, ...]]:
    """What is said of these images. Questions on findings are asked as often with yes as with no, so that
    they depend on what other rows say."""
    asked = (pl.col("task") == "vqa") & pl.col("provenance").str.ends_with("presence")
    rows = found.entries.filter(~asked & pl.col("image_id").is_in(list(among)))
    return sorted(rows.select("image_id", "task", "prompt", "target", pl.col("boxes").list.len()).rows())


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (name, table)
        for name, made in sorted(ROOTS.items())
        for table in made.tables
        if table.endswith((".csv", ".txt", ".json", ".jsonl")) and name != "montgomery"
    ],
)
def test_odd_values_in_rows_cost_these_rows_at_most(tmp_path, name, table):
    made = ROOTS[name]
    kind = JsonTable if table.endswith((".json", ".jsonl")) else CellTable
    good = [made.image_id(n) for n in range(GOOD)]
    odds = kind(str(made.tables[table](good))).odds()

    def fault(odds: Sequence[Odd]) -> str:
        """What goes wrong when each of these stands in a row of its own, after the good rows."""
        ids = [made.image_id(n) for n in range(GOOD + len(odds))]
        content = kind(str(made.tables[table](ids))).changed([*enumerate(odds, start=GOOD)])
        made.write(tmp_path, ids, **{table: content})
        try:
            found = harvest(name, tmp_path, **made.options)
        except UserError as error:
            return f"refused as a whole: {str(error)[-100:]}"
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:100]}"
        return "" if told(found, good) == expected else "other rows are lost or changed"

    expected = told(harvest(name, made.write(tmp_path, good), **made.options), good)
    assert expected
    if together := fault(odds):
        alone = [f"{odd}: {why}" for odd in odds if (why := fault([odd]))]
        raise AssertionError("\n".join([f"all of them: {together}", *alone]))

"""What parts of the atlas share: names, colours and shapes of categories, and estimates on an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.plots import Axis
from taco_probe.taco.tasks import CATEGORIES

Found = Mapping[str, Any]

# Of a category: its colour's number in templates/base.css, that colour, its mark as an SVG path around 0.
_NUMBERS = (1, 0, 9)
_COLOURS = ("#2563eb", "#ea580c", "#0d9488")
_SHAPES = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
    "M-3.6,-3.6h7.2v7.2h-7.2z",
    "M0,-4.8L4.6,3.4H-4.6z",
    "M0,-5L4.4,0L0,5L-4.4,0z",
)


@dataclass(frozen=True)
class Mark:
    """How a category is drawn: by a colour and by a shape, so that neither is needed alone."""

    name: str
    number: int
    colour: str
    shape: str


def marks(categories: Sequence[str]) -> dict[str, Mark]:
    """The marks of categories; those that are not ours share the last shape."""
    ours: list[str] = list(CATEGORIES)
    found = {}
    for name in (*ours, *sorted({*categories} - {*ours})):
        if name not in categories:
            continue
        if name in ours:
            place = ours.index(name)
            found[name] = Mark(name, _NUMBERS[place], _COLOURS[place], _SHAPES[place])
        else:
            found[name] = Mark(name, 8, "#475569", _SHAPES[-1])
    return found


def spoken(name: str) -> str:
    """A task's name in words."""
    return name.replace("_", " ")


def percent(value: float | None, digits: int = 0) -> str:
    """A share as percent, or a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number, or a dash; minus signs as they should be."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def interval(found: Found, *, scale: float = 1.0, digits: int = 3) -> str:
    """`0.12 to 0.34` of an estimate; "no interval" where there is none."""
    low, high = found.get("low"), found.get("high")
    if low is None or high is None:
        return "no interval"
    return f"{decimal(scale * low, digits)} to {decimal(scale * high, digits)}"


@dataclass(frozen=True)
class Bar:
    """One estimate on the axis of a panel; places in percent of its length, None where there is no number."""

    name: str
    note: str
    number: int
    text: str
    value: float | None
    low: float | None
    high: float | None
    chance: float | None
    title: str


@dataclass(frozen=True)
class Panel:
    """Estimates over one axis; `zero` is the place of 0 where both signs occur."""

    title: str
    ticks: Sequence[tuple[float, str]]
    bars: Sequence[Bar]
    zero: float | None


@dataclass(frozen=True)
class Row:
    """What a bar is made of: an estimate, None where there is none."""

    name: str
    found: Found | None
    number: int = 8
    note: str = ""


def panel(
    title: str, rows: Sequence[Row], *, scale: float = 100, digits: int = 0, zero: bool = True
) -> Panel:
    """Estimates as bars; `scale` 100 shows shares as percent; `zero` begins the axis at 0."""
    ends = [0.0] if zero else []
    for row in rows:
        named = (row.found or {}).get
        ends += [scale * end for end in map(named, ("value", "low", "high", "chance")) if end is not None]
    axis = Axis.around(ends)

    def place(value: float | None) -> float | None:
        return None if value is None else axis.place(scale * value)

    bars = []
    for row in rows:
        found = row.found or {}
        value = found.get("value")
        text = "–" if value is None else decimal(scale * value, digits)
        said = [f"{row.name}: {text}", interval(found, scale=scale, digits=digits)]
        said += (
            [f"chance {decimal(scale * found['chance'], digits)}"] if found.get("chance") is not None else []
        )
        said += [f"{found['n']} {found.get('over', 'datasets')}"] if found.get("n") is not None else []
        at = {end: place(found.get(end)) for end in ("value", "low", "high", "chance")}
        bars.append(Bar(row.name, row.note, row.number, text, **at, title=", ".join(said)))
    below = any(end < 0 for end in ends)
    return Panel(title, axis.ticks, bars, axis.place(0.0) if below else None)

"""The shaded tables of the dynamics report: parts of the model, tasks against each other, updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taco_probe.dynamics.moments import named
from taco_probe.dynamics.quantities import HEADLINES, TITLES
from taco_probe.dynamics.summary import Q, signed


@dataclass(frozen=True)
class Cell:
    """Of a shaded table: `shade` from -4 (blue, below 0) to 4 (red, above 0)."""

    text: str
    shade: int = 0
    title: str = ""


@dataclass(frozen=True)
class Sheet:
    """A shaded table with a name and a note."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    note: str = ""


def parts(report: Mapping[str, Any]) -> list[Sheet]:
    """The map of layers: headlines of each part of the model, and differences between groups."""
    held = report["parts"]
    thirds = list(dict.fromkeys(third for third, _ in held["places"]))
    kinds = list(dict.fromkeys(kind for _, kind in held["places"]))
    sheets = []
    for quantity in HEADLINES:
        for group in report["groups"]:
            rows = {
                (row["third"], row["kind"]): row
                for row in held["levels"]
                if (row["group"], row["quantity"]) == (group["name"], quantity)
            }
            cells = {key: Cell(f"{row['value']:.2f}", title=_interval(row)) for key, row in rows.items()}
            sheets.append(Sheet(f"{TITLES[quantity]}: {group['name']}", kinds, _grid(cells, thirds, kinds)))
        pairs = dict.fromkeys((row["first"], row["second"]) for row in held["differences"])
        for first, second in pairs:
            rows = {
                (row["third"], row["kind"]): row
                for row in held["differences"]
                if (row["first"], row["second"], row["quantity"]) == (first, second, quantity)
            }
            widest = max(abs(row["value"]) for row in rows.values()) or 1.0
            cells = {
                key: Cell(
                    signed(row["value"]) + ("*" if row["q"] < Q else ""),
                    _shade(row["value"] / widest),
                    f"{_interval(row)}, q {row['q']:.3f}",
                )
                for key, row in rows.items()
            }
            note = f"* q < {Q}, Benjamini-Hochberg over the parts"
            sheets.append(
                Sheet(f"{TITLES[quantity]}: {first} − {second}", kinds, _grid(cells, thirds, kinds), note)
            )
    return sheets


def _grid(
    cells: Mapping[tuple[str, str], Cell], rows: Sequence[str], columns: Sequence[str]
) -> list[tuple[str, list[Cell]]]:
    return [(row, [cells.get((row, column), Cell("")) for column in columns]) for row in rows]


def each_moment(
    report: Mapping[str, Any], sheet: Callable[[Mapping[str, Any], Mapping[str, Any]], Sheet | None]
) -> list[tuple[str, list[Sheet]]]:
    """Sheets of all runs, by the moment that they are of."""
    found = []
    for at in report["moments"]["shown"]:
        made = [sheet(run, one) for run in report["runs"] for one in run["between"] if one["at"] == at]
        found.append((named(report["moments"]["unit"], at), [one for one in made if one]))
    return [(when, sheets) for when, sheets in found if sheets]


def cosines(run: Mapping[str, Any], between: Mapping[str, Any]) -> Sheet:
    """Cosines between tasks of a run at a moment, and each task's signal."""
    found, rows = between["cosines"], []
    for place, task in enumerate(found["tasks"]):
        cells = []
        for other, value in enumerate(found["debiased"][place]):
            plain = found["plain"][place][other]
            alike = found["magnitude"][place][other]
            title = f"plain {plain:.2f}" if plain is not None else ""
            title += f", magnitude similarity {alike:.2f}" if alike is not None else ""
            cells.append(Cell("·", 0, title) if value is None else Cell(signed(value), _shade(value), title))
        rows.append(
            (task, [*cells, Cell(_short(found["snr"][place])), Cell(_short(found["noise_scale"][place]))])
        )
    note = f"· where a task's signal-to-noise ratio is below {found['gate']:g}: not known"
    return Sheet(run["name"], [*found["tasks"], "SNR", "noise scale"], rows, note)


def conflicts(run: Mapping[str, Any], between: Mapping[str, Any]) -> Sheet | None:
    """How often batches of two tasks of a run disagree at a moment."""
    names, found = between["cosines"]["tasks"], between["conflicts"]
    if not found:
        return None
    pair = {(one["first"], one["second"]): one for one in found}
    rows = []
    for task in names:
        cells = []
        for other in names:
            one = pair.get((task, other)) or pair.get((other, task))
            if one is None:
                cells.append(Cell(""))
                continue
            mark = "*" if one["q"] < Q else ""
            null = f"{one['null_mean']:.2f} [{one['null_low']:.2f}, {one['null_high']:.2f}]"
            title = f"permuted labels {null}, q {one['q']:.3f}"
            cells.append(Cell(f"{one['rate']:.2f}{mark}", _shade(one["rate"] - one["null_mean"]), title))
        rows.append((task, cells))
    batch = found[0]["batch"]
    return Sheet(
        run["name"], names, rows, f"batches of {batch}; shade: above or below permuted labels; * q < {Q}"
    )


def affinity(report: Mapping[str, Any], group: str, found: Mapping[str, Any]) -> Sheet:
    """What a step along one task does to the others."""
    rows = []
    for place, task in enumerate(found["tasks"]):
        cells = []
        for other in range(len(found["tasks"])):
            value, q = 100 * found["value"][place][other], found["q"][place][other]
            title = (
                f"[{signed(100 * found['low'][place][other])}, {signed(100 * found['high'][place][other])}] %"
            )
            mark = "*" if q is not None and q < Q else ""
            cells.append(Cell(signed(value) + mark, _shade(value), title))
        rows.append((f"step along {task}", cells))
    when = named(report["moments"]["unit"], found["at"])
    note = f"change of the column's loss in percent, {when}, direction: {found['direction']}; * q < {Q}"
    return Sheet(group, [f"on {task}" for task in found["tasks"]], rows, note)


def updates(report: Mapping[str, Any]) -> Sheet:
    """Cosines of the runs' updates, and their lengths."""
    names = [run["name"] for run in report["runs"]]
    pair = {}
    for one in report["updates"]["pairs"]:
        if one["cosine"] is not None:
            pair[one["first"], one["second"]] = pair[one["second"], one["first"]] = one
    rows = []
    for name in names:
        cells = [
            Cell(signed(one["cosine"]), _shade(one["cosine"]), _overlap(one, report["updates"]["top"]))
            if (one := pair.get((name, other)))
            else Cell("")
            for other in names
        ]
        rows.append((name, [*cells, Cell(f"{report['updates']['lengths'][name]:.2f}")]))
    note = "point at a cell for what independent directions give; runs of one seed start from the same A"
    return Sheet("cosine of ΔW", [*names, "length"], rows, note)


def _overlap(one: Mapping[str, Any], top: int) -> str:
    beside = [
        f"{side} overlap {one[f'{side}_overlap']:.3f} (random {one[f'{side}_overlap_random']:.3f})"
        for side in ("column", "row")
    ]
    degrees = ", ".join(f"{angle:.0f}°" for angle in one["column_angles"])
    energy = f"energy {one['energy']:.3f} (random {one['energy_random']:.4f})"
    said = f"independent directions: 0 ± {one['cosine_random']:.4f}; leading {top} directions: "
    return said + ", ".join([*beside, energy, f"column angles {degrees}"])


def kinds(runs: Sequence[Mapping[str, Any]]) -> Sheet:
    """All quantities of every kind of Gram matrix at the last moment."""
    rows = [
        (f"{run['name']}: {kind}", [Cell(_short(found[name])) for name in TITLES])
        for run in runs
        for kind, found in run["kinds"].items()
    ]
    return Sheet("", list(TITLES.values()), rows)


def by_task(runs: Sequence[Mapping[str, Any]]) -> Sheet:
    """All quantities of each task's own entries at the last moment."""
    rows = [
        (f"{task}: {run['name']}", [Cell(_short(run["tasks"][task][name])) for name in TITLES])
        for task in runs[0]["tasks"]
        for run in runs
    ]
    return Sheet("entries of one task", list(TITLES.values()), rows)


def _interval(row: Mapping[str, Any]) -> str:
    return f"[{signed(row['low'])}, {signed(row['high'])}]"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _shade(value: float) -> int:
    return max(-4, min(4, round(4 * value)))

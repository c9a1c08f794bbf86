"""From an analysis to the atlas: index.html, and figures for other pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_recipes.errors import UserError
from data_recipes.page import render
from data_recipes.tables import write_text
from taco_probe.taco.analysis.analyze import FILE
from taco_probe.taco.atlas import figures, heat, plane, scores, ways
from taco_probe.taco.atlas.marks import decimal, interval, marks, percent, spoken
from taco_probe.taco.atlas.reading import Material, read
from taco_probe.taco.words import probability

STYLES = ("dynamics/page.css", "taco/page.css")

# Sections that need a key of the analysis, and what makes it.
_NEEDS = {
    "retrieval": ("retrieval", "runs"),
    "shortcut": ("shortcut",),
    "silhouette": ("silhouette", "runs"),
    "heats": ("distances",),
    "tree": ("clusters",),
    "ways": ("paths",),
    "sensitivity": ("sensitivity",),
    "failures": ("failures",),
    "transfer": ("transfer",),
    "natural": ("natural",),
}


class Report(NamedTuple):
    """What was written."""

    page: Path
    figures: list[Path]


def build(
    folder: Path,
    out: Path,
    *,
    method: plane.Method = "tsne",
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Writes OUT/index.html and OUT/figures/ from the folder of an analysis, or of one run.

    Args:
        folder: as `reading.read` takes it.
        out: where to.
        method: how the 2-D view is projected.
        say: told what is missing.

    Raises:
        UserError: no analysis there, or one that is not as it should be.
    """
    material = read(folder)
    if material.why:
        say(material.why)
    out.mkdir(parents=True, exist_ok=True)
    write_text(page(material, method=method), out / "index.html")
    drawn = figures.save(figures.draw(material.found), out / "figures")
    return Report(out / "index.html", drawn)


def page(material: Material, *, method: plane.Method = "tsne") -> str:
    """The page as text. Raises as `view`."""
    context = view(material, method=method)
    return render("taco/page.html", style=STYLES, script="taco/page.js", **context)


def view(material: Material, *, method: plane.Method = "tsne") -> dict[str, Any]:
    """The context of `taco/page.html`.

    Raises:
        UserError: a key of the analysis is not as it should be.
    """
    found = material.found
    made: dict[str, Callable[[], Any]] = {
        "retrieval": lambda: scores.retrieval(found),
        "shortcut": lambda: scores.shortcut(found),
        "silhouette": lambda: scores.silhouette(found),
        "heats": lambda: _heats(found),
        "tree": lambda: _tree(found),
        "ways": lambda: ways.ways(found["paths"]),
        "sensitivity": lambda: ways.sensitivity(found["sensitivity"]),
        "failures": lambda: scores.failures(found),
        "transfer": lambda: scores.transfer(found),
        "natural": lambda: scores.natural(found),
    }
    context: dict[str, Any] = {name: _section(name, make, found) for name, make in made.items()}
    tasks = _tasks(material)
    return {
        "title": "Atlas of visual tasks",
        "summary": [str(line) for line in found.get("summary") or ()],
        "runs": found.get("runs"),
        "marks": marks(list(tasks.values())),
        "plane": plane.plane(material.test, material.pool, method=method) if material.test else None,
        "box": {"width": plane.WIDTH, "height": plane.HEIGHT, "thumb": plane.THUMB, "columns": plane.COLUMNS},
        "pairs": plane.pairs(material.pool, list(tasks)) if material.pool else [],
        "why": material.why,
        "spoken": spoken,
        **context,
    }


def _section(name: str, make: Callable[[], Any], found: Mapping[str, Any]) -> Any:
    """A section's context; None where its data are missing."""
    if any(not found.get(key) for key in _NEEDS[name]):
        return None
    try:
        return make()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        keys = ", ".join(_NEEDS[name])
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(
            f"{FILE}: {keys} is not as `imax taco analyze` writes it ({said}); analyze again"
        ) from error


def _tasks(material: Material) -> dict[str, str]:
    """Each task's category, from whatever names them."""
    found = material.found
    if distances := found.get("distances"):
        return dict(zip(distances["tasks"], distances["categories"], strict=True))
    if (runs := found.get("runs")) and runs.get("tasks"):
        return dict(runs["tasks"])
    if material.test is not None:
        return dict(material.test.rows.select("task", "category").unique(maintain_order=True).iter_rows())
    return {}


def _heats(found: Mapping[str, Any]) -> dict[str, Any]:
    """The heat map and the numbers beside it."""
    own = found["distances"]
    sharp = own["sharpness"]
    blends = [
        {
            "tasks": " – ".join(spoken(task) for task in pair["tasks"]),
            "value": decimal(pair["value"], 4),
            "interval": interval(pair, digits=4),
            "floor": decimal(pair["floor"], 4),
        }
        for pair in own["blends"]
        if not pair["reach"]
    ]
    return {
        "maps": heat.heats(own, found.get("clusters")),
        "legend": heat.legend(own),
        "cell": heat.CELL,
        "tree": heat.TREE,
        "blends": blends,
        "reach": sum(pair["reach"] for pair in own["blends"]),
        "tasks": len(own["tasks"]),
        "n": own["n"],
        "datasets": len(own["datasets"]),
        "facts": [
            ("mean distance within a category", decimal(own["within"]["value"]), interval(own["within"])),
            ("mean distance between categories", decimal(own["between"]["value"]), interval(own["between"])),
            ("contrast: between over within", decimal(sharp["contrast"]["value"], 2),
             interval(sharp["contrast"], digits=2)),
            ("variation of distances (SD over mean)", decimal(sharp["variation"]["value"], 2),
             interval(sharp["variation"], digits=2)),
            ("nearest task over noise floor, median", decimal(sharp["margin"]["value"], 1), ""),
            ("agreement with energy distances (Spearman)", decimal(own["energy"]["agreement"], 2), ""),
            ("agreement between seeds (Spearman)", decimal(own["seeds"]["agreement"], 2),
             f"{own['seeds']['n']} seeds" if own["seeds"]["n"] > 1 else "one seed"),
        ],
    }  # fmt: skip


def _tree(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    own = found["clusters"]
    stable, seeds = own["stability"]["datasets"], own["stability"]["seeds"]
    k = own["k"]
    return [
        (f"adjusted Rand index of the cut into {k} with the categories", decimal(own["rand"]["value"], 2),
         f"{interval(own['rand'], digits=2)}; chance 0, p {probability(own['rand']['p'])}"),
        ("nearest task is of the same category", percent(own["nearest"]["value"]),
         f"{interval(own['nearest'], scale=100, digits=0)} %; chance {percent(own['nearest']['chance'])}, "
         f"p {probability(own['nearest']['p'])}"),
        ("cophenetic correlation", decimal(own["cophenetic"], 2), "how well the tree keeps the distances"),
        ("the cut again with other datasets (Rand index)", decimal(stable["value"], 2),
         f"95 % of resamples: {interval(stable, digits=2)}"),
        ("the cut again with other seeds (Rand index)", decimal(seeds["value"] if seeds else None, 2),
         f"{seeds['n']} seeds" if seeds else "one seed"),
    ]  # fmt: skip

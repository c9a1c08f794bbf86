"""The whole analysis of runs: analysis.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from taco_probe.taco.analysis import (
    baselines,
    distances,
    elsewhere,
    failures,
    paths,
    retrieval,
    runs,
    shortcut,
    silhouette,
    summary,
    variance,
)
from taco_probe.taco.analysis.elsewhere import Seeded
from taco_probe.taco.analysis.intervals import Found, average, contrast
from taco_probe.taco.analysis.retrieval import GALLERIES, HEADLINE, Retrieved
from taco_probe.taco.embed import untrained
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.progress import Progress
from taco_probe.taco.settings import Settings

FILE = "analysis.json"


@dataclass(frozen=True)
class Studied:
    """A variant or a baseline: embeddings of the same instances, and what was retrieved from each gallery."""

    embedded: Seeded
    retrieved: Mapping[retrieval.Gallery, list[tuple[int | None, Retrieved]]]

    def measured(self, gallery: retrieval.Gallery = HEADLINE) -> list[Any]:
        """Numbers of each run."""
        return [found.measured(seed) for seed, found in self.retrieved[gallery]]


def analyse(
    folders: Sequence[Path],
    out: Path,
    *,
    weights: Mapping[baselines.Network, Path] | None = None,
    permutations: int = variance.PERMUTATIONS,
    quiet: bool = True,
) -> Found:
    """Analyses runs and writes analysis.json; embeddings are kept beside the runs.

    Args:
        weights: of networks to compare with.
        permutations: of each test; 0 for none.

    Raises:
        UserError: runs that cannot be compared, or weights that do not fit.
    """
    groups = runs.variants(runs.read_runs(folders))
    settings = {name: group[0].settings for name, group in groups.items()}
    main = next(iter(groups))
    if settings[main].view != "both":
        raise UserError("only controls were named: name a run that sees input and target (view both) first")
    test: dict[str, Seeded] = {
        name: [(run.seed, run.embedded("test", quiet=quiet)) for run in group]
        for name, group in groups.items()
    }
    held_out = settings[main].held_out
    first = test[main][0][1]
    if first.plain.where(pl.col("dataset").is_in(list(held_out))).rows.is_empty():
        raise UserError(
            f"{groups[main][0].folder}: its test pool has no instance of a held-out dataset "
            f"({', '.join(held_out)}): pool.json there says why"
        )
    others = _baselines(groups[main], dict(weights or {}), quiet=quiet)
    with Progress("retrieval", len(test) + len(others), "encoder", quiet=quiet) as progress:
        studied: dict[str, Studied] = {}
        for name, seeded in (test | others).items():
            galleries = GALLERIES if name in test else (HEADLINE,)
            studied[name] = Studied(
                seeded,
                {g: [(seed, retrieval.across(one, g, held_out)) for seed, one in seeded] for g in galleries},
            )
            progress.step()
    found: Found = {"runs": _runs(groups, main, first), "retrieval": _retrieval(studied, test, main, first)}
    found["controls"] = _controls(studied, settings, main)
    found["baselines"] = {
        "reference": main,
        "gallery": HEADLINE,
        "rows": [
            {"baseline": name, "size": one[0][1].vectors.shape[1]} | _against(studied, name, main)
            for name, one in others.items()
        ],
    }
    found |= _structure(test | others, main, held_out, permutations, quiet=quiet)
    found["failures"] = _failures(studied, settings, held_out)
    found["nearest"] = elsewhere.nearest(test[main], held_out)
    found["natural"] = elsewhere.natural(test[main], settings[main])
    embedded = [one for _, one in test[main]]
    found |= distances.measured(embedded)
    if len(groups[main][0].pool("paths")):
        moved = [run.embedded("paths", quiet=quiet) for run in groups[main]]
        found |= paths.measured(moved, embedded)
    found["summary"] = summary.sentences(found)
    out.mkdir(parents=True, exist_ok=True)
    found = without_nan(found)
    write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", out / FILE)
    return found


def _baselines(
    main: Sequence[runs.Run], weights: dict[baselines.Network, Path], *, quiet: bool
) -> dict[str, Seeded]:
    """Encoders without training by each seed, raw pixels, and networks whose weights are given."""
    first = main[0]
    place = runs.pool_name(first.folder, "test")
    pool = first.pool("test")

    def random(run: runs.Run) -> Embeddings:
        made_of = {"pool": place, "settings": run.settings.model_dump_json(exclude={"weights"})}
        made_now = partial(untrained, run.settings, pool, run.seed, quiet=quiet)
        return run.kept("untrained", made_of, made_now)

    found: dict[str, Seeded] = {"untrained": [(run.seed, random(run)) for run in main]}
    found["pixels"] = [(None, baselines.pixels(pool, first.settings.datasets))]
    for name, weight in weights.items():
        made_of = {"pool": place, "weights": _digest(weight)}
        made_now = partial(baselines.pretrained, name, weight, pool, quiet=quiet)
        seen = first.kept(name, made_of, made_now)
        found[name] = [(None, seen)]
    return found


def _digest(place: Path) -> str:
    files = sorted(file for file in place.iterdir() if file.is_file()) if place.is_dir() else [place]
    return " ".join(runs.digest(file) for file in files)


def _runs(groups: Mapping[str, Sequence[runs.Run]], main: str, first: Embeddings) -> Found:
    shown = {
        name: {
            "view": group[0].settings.view,
            "failures": group[0].settings.failures,
            "seeds": [run.seed for run in group],
            "folders": [str(run.folder) for run in group],
        }
        for name, group in groups.items()
    }
    settings = groups[main][0].settings
    plain = first.plain
    tasks = plain.rows.select("task", "category").unique().sort("category", "task")
    return {
        "main": main,
        "variants": shown,
        "datasets": {"training": list(settings.datasets), "held_out": list(settings.held_out)},
        "tasks": dict(tasks.iter_rows()),
        "instances": plain.rows.height,
        "embedding_size": first.vectors.shape[1],
    }


def _retrieval(
    studied: Mapping[str, Studied], variants: Mapping[str, Seeded], main: str, first: Embeddings
) -> Found:
    found = studied[main].retrieved[HEADLINE]
    tasks = first.rows.select("task", "category").unique().sort("category", "task")["task"].to_list()
    return {
        "gallery": HEADLINE,
        "k": retrieval.K,
        "variants": {
            name: {g: retrieval.summarised(one) for g, one in studied[name].retrieved.items()}
            for name in variants
        },
        "tasks": retrieval.by_task(found),
        "confusion": retrieval.confusion([one for _, one in found], tasks),
    }


def _against(studied: Mapping[str, Studied], name: str, reference: str | None) -> Found:
    """One's numbers, and the reference minus them; None where there is no reference."""
    mine = studied[name].measured()
    other = studied[reference].measured() if reference else []
    shown: Found = {number: average(mine, number, f"chance_{number}") for number in ("top1", "map")}
    shown["difference"] = {number: contrast(other, mine, number) for number in ("top1", "map")}
    return shown


def _controls(studied: Mapping[str, Studied], settings: Mapping[str, Settings], main: str) -> Found:
    """Each control against the variant that differs in the view only."""
    rows = []
    for name, mine in settings.items():
        if mine.view != "both":
            reference = runs.partner(mine, dict(settings), view="both")
            about = {"variant": name, "view": mine.view, "against": reference}
            rows.append(about | _against(studied, name, reference))
    return {"reference": main, "gallery": HEADLINE, "rows": rows}


def _structure(
    encoders: Mapping[str, Seeded], main: str, held_out: Sequence[str], permutations: int, *, quiet: bool
) -> Found:
    """Shortcut and silhouettes of every variant and baseline; permutations for the main one alone."""
    shortcuts: Found = {}
    silhouettes: Found = {}
    new = pl.col("dataset").is_in(list(held_out))
    with Progress("structure", len(encoders), "encoder", quiet=quiet) as progress:
        for name, seeded in encoders.items():
            shuffles = permutations if name == main else 0
            shortcuts[name] = shortcut.summarised(
                [(seed, shortcut.shortcut(one)) for seed, one in seeded], held_out
            )
            shortcuts[name]["variance"] = variance.summarised(
                [
                    variance.variance(one, permutations=0 if number else shuffles)
                    for number, (_, one) in enumerate(seeded)
                ]
            )
            parts = {"all": seeded, "held_out": [(seed, one.where(new)) for seed, one in seeded]}
            silhouettes[name] = {
                part: silhouette.summarised(some, permutations=shuffles) for part, some in parts.items()
            }
            progress.step()
    return {"shortcut": {"variants": shortcuts}, "silhouette": {"variants": silhouettes}}


def _failures(
    studied: Mapping[str, Studied], settings: Mapping[str, Settings], held_out: Sequence[str]
) -> Found:
    """Variants trained with failures against those that differ in nothing else."""
    pairs = []
    for name, mine in settings.items():
        other = runs.partner(mine, dict(settings), failures="none")
        if mine.failures == "none" or mine.view != "both" or other is None:
            continue
        sharp = [
            [
                failures.sharpness(one, held_out, found.measured(seed), seed)
                for (seed, one), (_, found) in zip(
                    studied[variant].embedded, studied[variant].retrieved[HEADLINE], strict=True
                )
            ]
            for variant in (name, other)
        ]
        seeds, measures = failures.pairs(sharp[0], sharp[1])
        if seeds:
            pairs.append({"with": name, "without": other, "seeds": seeds, "measures": measures})
    apart = {
        name: failures.apart_summarised(studied[name].embedded)
        for name in settings
        if settings[name].view == "both"
    }
    return {"pairs": pairs, "told_apart": apart}


def without_nan(found: Any) -> Any:
    """Numbers that are none are null, as JSON has it."""
    if isinstance(found, dict):
        return {key: without_nan(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [without_nan(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found

"""What the study found, as `transfer.json` holds it: gains, distances, their agreement, and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from taco_probe.taco.tasks import TASKS
from taco_probe.taco.transfer.agreement import (
    Estimate,
    Matrix,
    agreement,
    by_target,
    correlation,
    difference,
    jackknife,
    partial,
    pooled,
    random_agreement,
    reliability,
)
from taco_probe.taco.transfer.distances import same_category
from taco_probe.taco.transfer.grid import Grid
from taco_probe.taco.transfer.material import Material
from taco_probe.taco.transfer.measure import Budget
from taco_probe.taco.words import DISTANCES, probability


def results(
    material: Material, grid: Grid, runs: Mapping[str, Matrix], pixels: Matrix, budget: Budget
) -> dict[str, Any]:
    """The `transfer` key of analysis.json: plain values, lists and mappings.

    Args:
        runs: the TaCo distance (T, T) of each run by name; their mean is judged.
        pixels: (T, T).

    Raises:
        UserError: too few tasks.
    """
    tasks, gain, same = material.tasks, grid.gain, same_category(material.tasks)
    categories = [TASKS[task].category for task in tasks]
    taco = np.mean([*runs.values()], axis=0)
    distances = {"taco": taco, "task2vec": grid.task2vec, "pixels": pixels, "category": 1 - same}
    agree: dict[str, Any] = {}
    for name, matrix in distances.items():
        agree[name] = agreement(matrix, gain, same).json()
        agree[name] |= {
            "pooled": pooled(-matrix, gain),
            "by_target": dict(zip(tasks, by_target(-matrix, gain), strict=True)),
        }
    agree["random"] = random_agreement(gain).json()
    low, high = _over_seeds(grid.log_ratio)
    found = {
        "tasks": list(tasks),
        "categories": dict(zip(tasks, categories, strict=True)),
        "datasets": {
            "pretrain": list(material.pretrain),
            "fine_tune": list(material.fine_tune),
            "held_out": material.held_out,
        },
        "settings": {"seeds": len(grid.errors), **budget.model_dump()},
        "seconds": grid.seconds,
        "gain": gain.tolist(),
        "gain_low": None if low is None else low.tolist(),
        "gain_high": None if high is None else high.tolist(),
        "scratch": dict(zip(tasks, grid.errors[:, -1].mean(axis=(0, 2)).tolist(), strict=True)),
        **_mean_gains(gain, same),
        "reliability": reliability(-grid.log_ratio),
        "distances": {name: matrix.tolist() for name, matrix in distances.items()},
        "agreement": agree,
        "by_run": {name: correlation(-matrix, gain) for name, matrix in runs.items()},
        "difference": {
            name: difference(taco, matrix, gain).json()
            for name, matrix in distances.items()
            if name != "taco"
        },
        "given_category": agreement(taco, gain, same, statistic=partial, groups=categories).json(),
    }
    return found | {"summary": sentences(found)}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What may be said of the results: no more than their intervals allow."""
    agree, settings = found["agreement"], found["settings"]
    taco = agree["taco"]
    said = [
        f"Pretraining on one of {len(found['tasks'])} tasks and fine-tuning on another with "
        f"{settings['examples']} examples changed the error by a mean {_percent(found['same_category'])} "
        f"within a category and {_percent(found['other_category'])} across categories (more of "
        f"the same task: {_percent(found['same_task'])}), "
        "against the same fine-tuning from scratch; minus is less error.",
        f"TaCo distance and gain agree by a rank correlation of {_interval(taco)} within targets "
        f"(permutation {p_text(taco)}): "
        + ("tasks that lie nearer helped more." if taco["low"] > 0 and taco["p"] <= 0.05 else
           "tasks that lie nearer helped less." if taco["high"] < 0 and taco["p"] <= 0.05 else
           "that nearer tasks help more is not shown here."),
    ]  # fmt: skip
    for name, estimate in found["difference"].items():
        verdict = (
            "TaCo distance predicts better"
            if estimate["low"] > 0
            else "TaCo distance predicts worse" if estimate["high"] < 0 else "no difference is shown"
        )  # fmt: skip
        said.append(
            f"{DISTANCES[name]}: {_interval(agree[name])}; {verdict} (difference {_interval(estimate)})."
        )
    given = found["given_category"]
    more = given["low"] > 0 and given["p"] <= 0.05
    said.append(
        f"Given the category, TaCo distance {'adds' if more else 'is not shown to add'} to what predicts "
        f"gain (partial correlation {_interval(given)}, {p_text(given)})."
    )
    if (reliable := found["reliability"]) is not None:
        said.append(
            f"Gains of {settings['seeds']} seeds have a reliability of {reliable:.2f}: no distance can be "
            f"expected to agree by more than {np.sqrt(reliable):.2f}."
        )
    if not found["datasets"]["held_out"]:
        said.append(
            "Targets are on datasets that the sources had too: transfer to new datasets is not tested."
        )
    return said


def _over_seeds(log_ratio: NDArray[np.float64]) -> tuple[Matrix, Matrix] | tuple[None, None]:
    """95 % interval of each gain over seeds, by Student's t on log ratios."""
    seeds = len(log_ratio)
    if seeds < 2:
        return None, None
    reach = scipy.stats.t.ppf(0.975, seeds - 1) * log_ratio.std(axis=0, ddof=1) / np.sqrt(seeds)
    mean = log_ratio.mean(axis=0)
    return 1 - np.exp(mean + reach), 1 - np.exp(mean - reach)


def _mean_gains(gain: Matrix, same: Matrix) -> dict[str, Any]:
    """Mean gains of the same task, of others of its category, and of other categories."""
    itself = np.eye(len(gain), dtype=bool)
    parts = {
        "same_task": itself,
        "same_category": (same == 1) & ~itself,
        "other_category": same == 0,
    }
    found: dict[str, Any] = {}
    for name, where in parts.items():
        values = np.where(where, gain, np.nan)
        if not where.any():
            found[name] = Estimate(None).json()
            continue
        without = []
        for left in range(len(gain)):
            rest = np.delete(np.delete(values, left, axis=0), left, axis=1)
            if np.isfinite(rest).any():
                without.append(float(np.nanmean(rest)))
        found[name] = jackknife(float(np.nanmean(values)), without).json()
    return found


def _percent(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "(none)"
    value, low, high = (
        -100 * estimate[key] for key in ("value", "high", "low")
    )  # of the error, not the gain
    return f"{value:+.0f} % ({low:+.0f} to {high:+.0f})"


def p_text(estimate: Mapping[str, Any]) -> str:
    """Such as "p 0.012" or "p < 0.001"."""
    return f"p {probability(estimate['p'])}"


def _interval(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"

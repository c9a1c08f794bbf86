"""A made-up analysis with its embeddings and pool, as `imax taco analyze` leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from taco_probe.taco.analysis import distances, paths
from taco_probe.taco.analysis.runs import digest
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.pools import write_places
from taco_probe.taco.settings import Settings, write_settings
from taco_probe.taco.training import SETTINGS, WEIGHTS
from tests.taco_probe.taco.planted_map import clusters, joined, trajectories, unit

WIDTH = 48
SIDE = 32
RUN = "main-s1"
VARIANT, OTHER = "both+negatives", "both+none"
TASKS = {
    f"{category}_{k}": category for category in ("semantic", "generative", "transformation") for k in "abc"
}
DATASETS = ("phantom", "mni_brain", "chest_ct", "retina")

Pixels = Callable[[str, str, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def write(
    folder: Path,
    *,
    tasks: Mapping[str, str] = TASKS,
    datasets: Sequence[str] = DATASETS,
    images: int = 4,
    pixels: Pixels | None = None,
    resamples: int = 12,
) -> dict[str, Any]:
    """Writes analysis.json and, in RUN, embeddings and pools; returns the analysis."""
    folder.mkdir(parents=True, exist_ok=True)
    test = _embeddings(tasks, datasets, images, seed=0)
    again = _embeddings(tasks, datasets, images, seed=0, noise=1)
    ways = _paths(tasks, datasets[:3])
    found = {
        "runs": _runs(tasks, datasets),
        **scores(tasks, datasets),
        **distances.measured([test, again], resamples=resamples),
        **paths.measured([ways], [test], resamples=resamples, orders=49),
        "transfer": _transfer(list(tasks)[:6], tasks),
        "summary": [
            "Top-1 retrieval across datasets is 61.0 % (52.1 to 69.3), chance 3.9 %.",
            "It is 31 points above the best control (the input alone).",
        ],
    }
    (folder / "analysis.json").write_text(json.dumps(found))
    _run(folder / RUN, {"test": test, "paths": ways}, pixels or _noise)
    return found


def _run(folder: Path, embedded: Mapping[str, Embeddings], pixels: Pixels) -> None:
    """A finished run whose embeddings are kept: its weights are never read."""
    folder.mkdir()
    write_settings(Settings(), folder / SETTINGS)
    (folder / WEIGHTS).write_bytes(b"weights")
    for part, found in embedded.items():
        _pool(folder / f"pool-{part}", found, pixels)
        found.save(folder / "embeddings", part)
    settle(folder)


def settle(folder: Path) -> None:
    """Notes where the pools of a run lie, and that its embeddings are of them."""
    places = {part: folder.resolve() / f"pool-{part}" for part in ("test", "paths")}
    write_places(places, folder)
    for part, place in places.items():
        made_of = {"encoder": digest(folder / WEIGHTS), "pool": str(place)}
        (folder / "embeddings" / f"{part}.json").write_text(json.dumps(made_of))


def estimate(value: float, half: float = 0.06, chance: float | None = None) -> dict[str, Any]:
    found = {
        "value": value,
        "low": value - half,
        "high": value + half,
        "n": 6,
        "over": "datasets",
        "seeds": 3,
    }
    return found if chance is None else found | {"chance": chance}


def scores(tasks: Mapping[str, str], datasets: Sequence[str]) -> dict[str, Any]:
    """The keys of retrieval, controls, baselines, shortcut, silhouette, failures and natural."""
    rng = np.random.default_rng(4)
    chance = 1 / len(tasks)

    def by(top1: float) -> dict[str, Any]:
        kinds = {"top1": top1, "map": top1 * 0.7, "knn": top1 * 1.02, "category": min(0.95, top1 * 1.4)}
        levels = {"top1": chance, "map": 1.4 * chance, "knn": chance, "category": 0.36}
        found = {name: estimate(value, chance=levels[name]) for name, value in kinds.items()}
        above = estimate(top1 - chance)
        return found | {"above_chance": above, "queries": 812, "unanswerable": 14, "datasets": 6}

    def beside(name: str, top1: float, **said: Any) -> dict[str, Any]:
        found = by(top1)
        difference = {score: estimate(0.61 - found[score]["value"]) for score in ("top1", "map")}
        return {
            "variant": name,
            "against": VARIANT,
            "top1": found["top1"],
            "map": found["map"],
            "difference": difference,
            **said,
        }

    share = rng.dirichlet(np.full(len(tasks), 0.4), len(tasks))
    quality = {"null": 0.02, "null_high": 0.05, "p_permutation": 0.001}

    def silhouette(value: float) -> dict[str, Any]:
        kinds = {
            label: {
                kind: estimate(value * f) | quality for kind, f in (("centroids", 1.0), ("instances", 0.6))
            }
            for label in ("category", "task")
        }
        return {"all": kinds, "held_out": kinds}

    def variance(value: float) -> dict[str, Any]:
        return {
            "value": value,
            "alone": value * 1.2,
            "null": 0.01,
            "p": 0.001,
            "seeds": 3,
            "low": value - 0.02,
            "high": value + 0.02,
        }

    def taken(same: float) -> dict[str, Any]:
        return {
            "dataset_read": estimate(0.7, chance=0.06),
            "same_dataset": estimate(same, chance=0.05),
            "cross_dataset": estimate(same * 0.7, chance=0.05),
            "drop": estimate(same * 0.3),
            "matrix": {"datasets": list(datasets), "share": [], "chance": []},
            "variance": {
                "task": variance(0.5),
                "dataset": variance(0.1),
                "category": variance(0.2),
                "residual": 0.3,
                "shared": 0.05,
            },
        }

    measures = {
        name: {
            "with": estimate(one),
            "without": estimate(one - 0.05),
            "difference": estimate(0.05, half),
            "seeds_only": {"low": -0.01, "high": 0.11},
        }
        for name, one, half in (
            ("silhouette_task", 0.3, 0.02),
            ("peakedness", 1.8, 0.1),
            ("top1", 0.61, 0.03),
        )
    }
    return {
        "retrieval": {
            "gallery": "both",
            "k": 5,
            "variants": {
                name: {gallery: by(top1) for gallery in ("training", "held_out", "both")}
                for name, top1 in ((VARIANT, 0.61), (OTHER, 0.58))
            },
            "tasks": [
                {
                    "task": task,
                    "category": category,
                    "top1": estimate(float(rng.uniform(0.2, 0.95)), 0.1, chance),
                    "map": estimate(0.4),
                    "queries": 30,
                    "datasets": list(datasets),
                }
                for task, category in tasks.items()
            ],
            "confusion": {"tasks": list(tasks), "share": share.tolist()},
        },
        "controls": {
            "reference": VARIANT,
            "gallery": "both",
            "rows": [
                beside("input+negatives", 0.3, view="input"),
                beside("target+negatives", 0.26, view="target"),
                beside("shuffled+negatives", 0.09, view="shuffled"),
            ],
        },
        "baselines": {
            "reference": VARIANT,
            "gallery": "both",
            "rows": [
                beside("untrained", 0.12, baseline="untrained", size=512),
                beside("pixels", 0.08, baseline="pixels", size=6144),
            ],
        },
        "shortcut": {"variants": {VARIANT: taken(0.8), "untrained": taken(0.2)}},
        "silhouette": {
            "variants": {VARIANT: silhouette(0.34), OTHER: silhouette(0.29), "pixels": silhouette(0.01)}
        },
        "failures": {
            "pairs": [{"with": VARIANT, "without": OTHER, "seeds": [1, 2, 3], "measures": measures}],
            "told_apart": {
                VARIANT: {
                    "auroc": estimate(0.81, 0.04, 0.5),
                    "kinds": {
                        kind: estimate(value, 0.05, 0.5)
                        for kind, value in (("other_image", 0.7), ("blank", 0.99), ("underdone", 0.62))
                    },
                }
            },
        },
        "natural": {
            "datasets": ["photographs"],
            "trained_on": [],
            "natural_to_medical": {"top1": estimate(0.5, chance=chance), "map": estimate(0.3)},
            "medical_to_natural": {"top1": estimate(0.44, chance=chance), "map": estimate(0.3)},
            "medical_to_medical": {"top1": estimate(0.6, chance=chance), "map": estimate(0.4)},
        },
    }


def _runs(tasks: Mapping[str, str], datasets: Sequence[str]) -> dict[str, Any]:
    variants = {
        name: {"view": view, "failures": failures, "seeds": [1, 2, 3], "folders": [RUN]}
        for name, view, failures in (
            (VARIANT, "both", "negatives"),
            (OTHER, "both", "none"),
            ("input+negatives", "input", "negatives"),
        )
    }
    half = len(datasets) // 2
    return {
        "main": VARIANT,
        "variants": variants,
        "instances": 900,
        "embedding_size": WIDTH,
        "datasets": {"training": list(datasets[:half]), "held_out": list(datasets[half:])},
        "tasks": dict(tasks),
    }


def _embeddings(
    tasks: Mapping[str, str], datasets: Sequence[str], images: int, *, seed: int, noise: float = 0.7
) -> Embeddings:
    """Tasks around the axes of their categories."""
    rng = np.random.default_rng(11)
    axes = {category: unit(rng.standard_normal(WIDTH)) for category in dict.fromkeys(tasks.values())}
    spread = {category: 0.35 + 0.35 * place for place, category in enumerate(axes)}
    centres = {
        task: axes[category] + spread[category] * unit(rng.standard_normal(WIDTH))
        for task, category in tasks.items()
    }
    return clusters(centres, tasks, datasets=datasets, images=images, noise=noise, of_dataset=0.2, seed=seed)


def _paths(tasks: Mapping[str, str], datasets: Sequence[str]) -> Embeddings:
    """Paths that bend and waver, differently much under each alteration."""
    parts: list[Embeddings] = []
    chosen = [task for category in dict.fromkeys(tasks.values()) for task in tasks if tasks[task] == category]
    for alteration, bend, waver in (("brightness", 0.2, 0.02), ("rotation", 1.2, 0.1), ("noise", 0.6, 0.05)):
        for number, task in enumerate(chosen):

            def path(rng, bend=bend, waver=waver, number=number):
                start, one, two = np.linalg.qr(rng.standard_normal((WIDTH, 3)))[0].T
                t = np.linspace(0, 1, 11)[:, None]
                scale = 0.4 + 0.1 * (number % 5)
                way = scale * (t * one + bend * t**2 * two)
                return start + way + waver * rng.standard_normal((11, WIDTH)) / np.sqrt(WIDTH)

            first = sum(len(part.rows) for part in parts)
            how = {
                "alteration": alteration,
                "datasets": datasets,
                "anchors": 2,
                "seed": number,
                "first": first,
            }
            parts.append(trajectories(path, task=task, category=tasks[task], **how))
    return joined(parts)


def _transfer(tasks: Sequence[str], categories: Mapping[str, str]) -> dict[str, Any]:
    rng = np.random.default_rng(6)
    size = len(tasks)
    about = {"value": 0.42, "low": 0.2, "high": 0.6, "n": size, "p": 0.004, "pooled": 0.3, "by_target": {}}
    return {
        "tasks": list(tasks),
        "categories": {task: categories[task] for task in tasks},
        "datasets": {"pretrain": ["phantom"], "fine_tune": ["mni_brain"], "held_out": True},
        "settings": {"seeds": 2},
        "seconds": 300.0,
        "gain": rng.normal(0.1, 0.15, (size, size)).tolist(),
        "gain_low": None,
        "gain_high": None,
        "scratch": {},
        "same_task": estimate(0.4),
        "same_category": estimate(0.18),
        "other_category": estimate(0.05),
        "reliability": 0.66,
        "distances": {},
        "agreement": {
            "taco": about,
            "task2vec": about | {"value": 0.25, "low": 0.0, "high": 0.5},
            "pixels": about | {"value": 0.02, "low": -0.2, "high": 0.3},
            "category": about | {"value": 0.3},
            "random": {"value": 0, "low": -0.2, "high": 0.2, "n": 99},
        },
        "by_run": {},
        "difference": {},
        "given_category": about | {"value": 0.1, "low": -0.2, "high": 0.3},
        "within_category": None,
        "summary": ["Nearness in TaCo goes with gain: 0.42 (0.20 to 0.60)."],
    }


def _noise(task: str, dataset: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noise, each picture of its own brightness."""
    first, second = (
        rng.integers(0, rng.integers(40, 256), (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(2)
    )
    return first, second


def _pool(folder: Path, test: Embeddings, pixels: Pixels) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    pairs = [pixels(row["task"], row["dataset"], rng) for row in test.rows.iter_rows(named=True)]
    for place, name in enumerate(("inputs", "targets")):
        np.save(folder / f"{name}.npy", np.array([pair[place] for pair in pairs]))
    test.rows.write_parquet(folder / "rows.parquet")


def with_names(folder: Path, swap: Mapping[str, str]) -> None:
    """Renames tasks, datasets and whatever else in an analysis, its embeddings and its pool."""
    text = (folder / "analysis.json").read_text()
    for old, new in swap.items():
        text = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
    (folder / "analysis.json").write_text(text)
    for file in (folder / RUN).rglob("*.parquet"):
        rows = pl.read_parquet(file)
        for old, new in swap.items():
            rows = rows.with_columns(pl.col(pl.String).str.replace_all(old, new, literal=True))
        rows.write_parquet(file)

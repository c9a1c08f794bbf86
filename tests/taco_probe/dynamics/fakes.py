"""Run folders with made-up dynamics: gradients drawn with a known spectrum, no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from data_recipes.tasks import TASKS
from taco_probe.dynamics import measurement
from taco_probe.dynamics.measurement import Measurement, Part

MODULES = ("layers.0.self_attn.q_proj", "layers.0.mlp.up_proj")


def gradients(rng: np.random.Generator, tasks: list[str], decay: float, width: int = 40) -> np.ndarray:
    """(n, width): a mean for each task, noise whose variance falls as k^-decay."""
    scale = np.arange(1, width + 1) ** (-decay / 2)
    means = {task: rng.normal(size=width) * scale for task in TASKS}
    return np.stack([means[task] + rng.normal(size=width) * scale for task in tasks])


def measured(step: int, *, seed: int = 0, decay: float = 1.0, per_task: int = 6, **facts) -> Measurement:
    """One measurement; a larger decay has a lower entropy."""
    rng = np.random.default_rng([seed, step])
    tasks = [task for task in TASKS for _ in range(per_task)]
    n = len(tasks)
    parts = {}
    for fisher in ("empirical", "true"):
        for form in ("gauge", "factor"):
            for third in ("early", "late"):
                for kind in ("attention", "mlp"):
                    g = gradients(rng, tasks, decay)
                    parts[Part(fisher, form, third, kind)] = (g @ g.T).astype(np.float32)
    lora = {}
    for name in MODULES:
        lora[f"{name}.lora_A.weight"] = rng.normal(size=(4, 12)).astype(np.float32)
        lora[f"{name}.lora_B.weight"] = rng.normal(size=(10, 4)).astype(np.float32) * bool(step)
    changes = {task: (rng.normal(size=n) * 0.01).tolist() for task in TASKS}
    content = {
        "step": step,
        "max_steps": 20,
        "recipe": "imax",
        "mixture_hash": "a" * 64,
        "model_hash": "b" * 64,
        "probe": {
            "digest": "d" * 64,
            "split": "validation",
            "seed": 0,
            "per_task": dict.fromkeys(TASKS, per_task),
        },
        "reduction": "token_mean",
        "exact": True,
        "left_out": [],
        "b_is_zero": 0 if step else 2,
        "lora_scale": dict.fromkeys(MODULES, 2.0),
        "entries": [f"e{number}" for number in range(n)],
        "tasks": tasks,
        "patients": [f"p{number % 9}" for number in range(n)],
        "losses": {fisher: rng.uniform(1, 3, size=n).tolist() for fisher in ("empirical", "true")},
        "seconds": {"grams": 1.0},
        "affinity": {
            "direction": "gradient",
            "before": rng.uniform(1, 3, size=n).tolist(),
            "changes": changes,
        },
    }
    return Measurement(content | facts, parts, lora)


class Nothing(Measurement):
    """A measurement without content."""

    def __init__(self, step: int, max_steps: int) -> None:
        super().__init__({"step": step, "max_steps": max_steps}, {})


def run(
    folder: Path, *, recipe: str = "imax", seed: int = 0, decay: float = 1.0, steps=(0, 10, 20), **facts
) -> Path:
    """A run folder with settings and measurements."""
    folder.mkdir(parents=True)
    settings = {"recipe": recipe, "model": "tiny", "mixture": "x", "mixture_hash": "a" * 64, "seed": seed}
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    for step in steps:
        measurement.write(measured(step, seed=seed, decay=decay, **facts), folder / measurement.FOLDER)
    return folder

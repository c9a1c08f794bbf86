"""Times kinds of work in alternating runs of one process, so that a busy machine slows all of them alike, and
ends a benchmark with its one JSON line."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Spent(NamedTuple):
    """Seconds of each run of one kind of work, by the clock and by the processor."""

    wall: list[float]
    cpu: list[float]


def alternate(works: Mapping[str, Callable[[], object]], runs: int) -> dict[str, Spent]:
    """Each kind of work once untimed, then all of them in turn, `runs` times."""
    spent = {name: Spent([], []) for name in works}
    for work in works.values():
        work()
    for _ in range(runs):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            spent[name].wall.append(time.perf_counter() - wall)
            spent[name].cpu.append(time.process_time() - cpu)
    return spent


def show(spent: Mapping[str, Spent], handled: Mapping[str, int], unit: str) -> None:
    """A table of rates: median, lowest and highest by the clock, median by the processor."""
    wide = max(map(len, spent))
    print(f"{'work':{wide}} {f'{unit}/s':>11} {'lowest':>10} {'highest':>10} {'per CPU s':>10}")
    for name, (wall, cpu) in spent.items():
        n = handled[name]
        rates = (n / statistics.median(wall), n / max(wall), n / min(wall), n / statistics.median(cpu))
        print(f"{name:{wide}} " + f"{rates[0]:11.1f} " + " ".join(f"{rate:10.1f}" for rate in rates[1:]))


def ratio(over: Spent, under: Spent) -> float:
    """Ratio of medians of processor time."""
    return round(statistics.median(over.cpu) / statistics.median(under.cpu), 3)


def conclude(name: str, ratios: Mapping[str, float], targets: Mapping[str, str], **more: Any) -> None:
    """Prints the JSON line."""
    machine = {
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    print(
        json.dumps(
            {"benchmark": name, "ratios": dict(ratios), "targets": dict(targets), **more, "machine": machine}
        )
    )

"""Time and memory of recipe `imax_mimic`, from annotation files to the mixture on disk, beside pandas. The
files are shaped like those of the MIMIC-CXR family (`benchmarks/mimic_root.py`).

    python -m benchmarks.recipes [--runs 3] [--scales 1 3 10] [--work FOLDER]

Every run is a process of its own, interpreter and imports included, so that its peak memory is its own; runs
alternate. The numbers of entries of each task must be equal, or the benchmark fails. The peer runs at the
first scale only. `--work` keeps the folders for the next time; 1 takes 0.5 GB, 10 takes 5 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.alternating import conclude
from benchmarks.mimic_root import write_root

CONTENDERS = ("imax", "pandas")


class Run(NamedTuple):
    """Seconds by the clock and by the processor, MB at most, entries per task."""

    wall: float
    cpu: float
    peak: float
    entries: dict[str, int]


def run(contender: str, root: Path) -> Run:
    """One build, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "benchmarks.recipes",
            "--build",
            contender,
            str(root),
            f"{folder}/out",
        ]
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        wall = time.perf_counter() - start
    told = json.loads(done.stdout.splitlines()[-1])
    return Run(wall, told["cpu"], told["peak"], told["entries"])


def build(contender: str, root: Path, out: Path) -> None:
    """What the process does: prints seconds of processor time, peak memory, and entries per task."""
    if contender == "imax":
        from data_recipes import recipe

        chosen = recipe.load_recipe("imax_mimic", {"options.root": str(root), "options.pixels": "skip"})
        meta = json.loads((recipe.build(chosen, out, progress=False) / "mixture.json").read_text())
        entries: dict[str, int] = {}
        for split in meta["counts"].values():
            for task, size in split["per_task"].items():
                entries[task] = entries.get(task, 0) + size
    else:
        from benchmarks import mimic_pandas

        entries = mimic_pandas.build(root, out)
    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(float(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    print(json.dumps({"cpu": cpu, "peak": peak, "entries": dict(sorted(entries.items()))}))


def measure(scales: Sequence[float], runs: int, work: Path) -> None:
    spent: dict[tuple[str, float], list[Run]] = {}
    for scale in scales:
        root = work / f"mimic-{scale:g}"
        if not (root / "done").exists():
            shutil.rmtree(root, ignore_errors=True)
            write_root(root, scale)
            (root / "done").touch()
        contenders = CONTENDERS if scale == scales[0] else CONTENDERS[:1]
        for _ in range(runs):
            for contender in contenders:
                spent.setdefault((contender, scale), []).append(run(contender, root))
        entries = {contender: spent[contender, scale][0].entries for contender in contenders}
        if len({json.dumps(found) for found in entries.values()}) > 1:
            raise SystemExit(f"the contenders do not make the same entries: {entries}")
        print(f"scale {scale:g}: {sum(entries['imax'].values())} entries, {entries['imax']}")
        for contender in contenders:
            one = middle(spent[contender, scale])
            print(
                f"  {contender:7} {one['wall']:7.1f} s ({one['wall_low']:.1f} to {one['wall_high']:.1f}), "
                f"{one['cpu']:7.1f} s of processor, {one['peak']:6.0f} MB"
            )
    report(scales, runs, {key: middle(found) for key, found in spent.items()})


def middle(found: Sequence[Run]) -> dict[str, float]:
    walls = [one.wall for one in found]
    return {
        "wall": statistics.median(walls),
        "wall_low": min(walls),
        "wall_high": max(walls),
        "cpu": statistics.median(one.cpu for one in found),
        "peak": statistics.median(one.peak for one in found),
    }


def report(scales: Sequence[float], runs: int, found: dict[tuple[str, float], dict[str, float]]) -> None:
    first = found["imax", scales[0]]
    peer = found["pandas", scales[0]]
    ratios = {f"pandas over imax: {key}": peer[key] / first[key] for key in ("wall", "cpu", "peak")}
    for scale in scales[1:]:
        times = scale / scales[0]
        for key in ("wall", "cpu", "peak"):
            ratios[f"scale {scale:g} over {scales[0]:g}, by {times:g}: {key}"] = (
                found["imax", scale][key] / first[key] / times
            )
    facts: dict[str, Any] = {
        f"{contender} at scale {scale:g}": {key: round(value, 1) for key, value in one.items()}
        for (contender, scale), one in found.items()
    }
    targets = {"imax at scale 1: wall": "<= 60 s on two cores", "imax at scale 1: peak": "<= 2000 MB"}
    targets |= {name: "<= 1.2" for name in ratios if name.startswith("scale")}
    conclude("recipes", {name: round(value, 3) for name, value in ratios.items()}, targets, n=runs, **facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender, alternating")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="1 is the real size")
    parser.add_argument("--work", type=Path, help="keep the folders there for the next time")
    parser.add_argument("--build", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.build:
        build(asked.build[0], Path(asked.build[1]), Path(asked.build[2]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure(asked.scales, asked.runs, asked.work or Path(scratch))


if __name__ == "__main__":
    main()

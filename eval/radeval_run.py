"""Runs RadEval's metrics on the reports of a predictions file, for `imax eval RUN --merge radeval.json`.

python radeval_run.py RUN/predictions.jsonl --out radeval.json [--metrics radgraph green ...] [--offline]

It runs in an environment of RadEval's own, whose packages clash with this project's, so it imports nothing of
this project. A metric that fails is written down with its reason; the others go on. The file's format and the
environment are described in docs/metrics-outside.md.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# A value per report: a number, or a numerator and a denominator that are summed over reports first.
Values = list[float] | list[tuple[float, float]]
# RadEval's metrics and the names of their values in the file, but for those that ask a paid service, or are
# made for CT or mammography.
METRICS = {
    "bertscore": ("bertscore",),
    "radeval_bertscore": ("radeval_bertscore",),
    "radgraph": ("radgraph_simple", "radgraph_partial", "radgraph_complete"),
    "f1chexbert": ("f1chexbert_all_micro_f1", "f1chexbert_5_micro_f1"),
    "ratescore": ("ratescore",),
    "green": ("green",),
    "radcliq": ("radcliq_v1",),
    "srrbert": ("srrbert_weighted_f1", "srrbert_weighted_precision", "srrbert_weighted_recall"),
    "temporal": ("temporal_f1",),
    "rouge": ("rouge1", "rouge2", "rougeL"),
    "bleu": ("sentence_bleu",),
}
DEFAULT = ("bertscore", "radgraph", "f1chexbert", "ratescore", "green")
# RadEval's own BLEU is one value for the whole corpus; the mean over reports is another metric.
RENAMED = {"bleu": "sentence_bleu"}
DISTANCES = {"radcliq_v1"}  # lower is better, and not from 0 to 1


def reports(path: Path) -> dict[str, tuple[str, str]]:
    """entry_id -> (reference, hypothesis) of the report lines of a predictions file."""
    found = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        row = json.loads(line) if line.strip() else {}
        if row.get("task") == "report":
            found[row["entry_id"]] = (row["target"], row.get("parsed", row["output"]) or "")
    return found


def per_report(name: str, refs: list[str], hyps: list[str]) -> dict[str, Values]:
    """Values of one RadEval metric, in % except for distances.

    Raises:
        Exception: whatever RadEval raises when weights or packages are missing.
    """
    radeval = importlib.import_module("radeval")
    # RadEval 2.2.1 imports parts of itself by its former name; without this `radgraph` does not load.
    sys.modules.setdefault("RadEval", radeval)
    scorer = radeval.RadEval(metrics=[name], per_sample=True, show_progress=False)
    if name == "f1chexbert":
        return chexbert(scorer.f1chexbert_scorer.get_labels, scorer.f1chexbert_scorer.top5_idx, refs, hyps)
    scale = {key: 1.0 if key in DISTANCES else 100.0 for key in scorer.metric_keys}
    found = scorer(refs=refs, hyps=hyps)
    return {
        RENAMED.get(key, key): [scale.get(key, 100.0) * float(value) for value in values]
        for key, values in found.items()
    }


def chexbert(
    labels: Callable[[list[str]], Sequence[Sequence[int]]],
    top5: Sequence[int],
    refs: list[str],
    hyps: list[str],
) -> dict[str, Values]:
    """Micro-F1 of CheXbert's labels over 14 and over 5 observations, as sums: 2 TP over 2 TP + FP + FN.
    (RadEval's values per report are label accuracies, whose mean is no F1.)"""
    truth, found = labels(refs), labels(hyps)

    def micro(columns: Sequence[int]) -> list[tuple[float, float]]:
        pairs = []
        for true, said in zip(truth, found, strict=True):
            both = sum(true[i] and said[i] for i in columns)
            pairs.append((200.0 * both, float(sum(true[i] + said[i] for i in columns))))
        return pairs

    return {"f1chexbert_all_micro_f1": micro(range(14)), "f1chexbert_5_micro_f1": micro(top5)}


def reason(error: Exception) -> str:
    """One line, not too long."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'...' * (len(text) > 300)}"


def measure(
    entries: dict[str, tuple[str, str]], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Metrics with values by entry_id, and the reasons of those that could not be computed."""
    refs, hyps = ([pair[i] for pair in entries.values()] for i in (0, 1))
    computed: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            found = per_report(name, refs, hyps)
        except Exception as error:  # what a metric fails with is up to its packages
            failed |= dict.fromkeys(METRICS[name], reason(error))
            print(f"{name}: not computed: {reason(error)}", flush=True)
            continue
        for key, values in found.items():
            flat = [
                number for value in values for number in (value if isinstance(value, tuple) else (value,))
            ]
            if len(values) != len(refs) or not all(map(math.isfinite, flat)):
                failed[key] = f"RadEval gave {len(values)} values for {len(refs)} reports, or not all finite"
                print(f"{key}: not computed: {failed[key]}", flush=True)
                continue
            distance = key in DISTANCES
            computed[key] = {
                "unit": "distance" if distance else "%",
                "higher_is_better": not distance,
                "values": dict(zip(entries, values, strict=True)),
            }
            print(f"{key}: {len(values)} reports", flush=True)
    return computed, failed


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("radeval", "torch", "transformers", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("predictions", type=Path, help="predictions.jsonl of a scored run")
    parser.add_argument("--out", type=Path, default=Path("radeval.json"), help="where values go")
    parser.add_argument(
        "--metrics", nargs="+", choices=list(METRICS), default=list(DEFAULT), metavar="METRIC"
    )
    parser.add_argument("--offline", action="store_true", help="weights from the local cache only")
    asked = parser.parse_args()
    if asked.offline:  # before anything of Hugging Face is imported
        os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    entries = reports(asked.predictions)
    if not entries:
        print(f"error: {asked.predictions}: no line of task report", file=sys.stderr)
        return 2
    computed, failed = measure(entries, asked.metrics)
    content = {
        "schema": 1,
        "source": f"RadEval {versions()['radeval']}",
        "task": "report",
        "predictions_sha256": hashlib.sha256(asked.predictions.read_bytes()).hexdigest(),
        "versions": versions(),
        "metrics": computed,
        "not_computed": failed,
    }
    asked.out.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"written: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Agreement of the rule labeller with the 1,000 labelled synthetic reports of `radlabels`, and its speed.

    pip install --no-deps radlabels==0.2.0    # its data only: its dependencies clash with ours
    python -m benchmarks.clinical

The rules were written with the even reports in sight; the odd ones were held out.
"""

from __future__ import annotations

import json
import sys
import time

from eval.clinical.labeller import label
from tests.eval.radlabels import CLEAN, FINDINGS, NEGATIVE, POSITIVE, Labelled, agreement, reports


def show(title: str, half: list[Labelled]) -> dict[str, float]:
    """Prints a table; returns the F1 pooled over the observations that map cleanly."""
    print(f"{title}, {len(half)} reports")
    print(f"{'':28}positive or uncertain            negative")
    print(f"{'':28}{'n':>4}  precision  recall     F1  {'n':>4}  precision  recall     F1")
    lines = {**{name: (name,) for name in FINDINGS}, "pooled, clean": CLEAN, "pooled, all": tuple(FINDINGS)}
    for name, observations in lines.items():
        cells = [agreement(half, observations, statuses) for statuses in (POSITIVE, NEGATIVE)]
        row = "  ".join(f"{c.n:>4}  {c.precision:>9.3f}  {c.recall:>6.3f}  {c.f1:>5.3f}" for c in cells)
        print(f"{name:28}{row}")
    print()
    return {
        "positive_f1": round(agreement(half, CLEAN, POSITIVE).f1, 4),
        "negative_f1": round(agreement(half, CLEAN, NEGATIVE).f1, 4),
    }


def main() -> None:
    labelled = reports()
    if labelled is None:
        sys.exit("pip install --no-deps radlabels==0.2.0 first: its reports are what is labelled here")
    label.cache_clear()
    start = time.perf_counter()
    for one in labelled:
        label(one.text)
    seconds = time.perf_counter() - start
    result = {
        "development": show("Even reports, seen while the rules were written", labelled[1::2]),
        "held_out": show("Odd reports, held out", labelled[::2]),
        "reports_per_second": round(len(labelled) / seconds),
    }
    print(json.dumps({"benchmark": "clinical", **result, "n": len(labelled)}))


if __name__ == "__main__":
    main()

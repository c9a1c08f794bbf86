"""At which moments runs are compared: at equal steps, or, where they have different numbers of steps, after
equal shares of their training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_recipes.errors import UserError
from taco_probe.dynamics.measurement import Measurement
from taco_probe.dynamics.runs import Series

STEP, PERCENT = "step", "percent"


@dataclass(frozen=True)
class Moments:
    """The moments that all runs have.

    Attributes:
        unit: what `at` counts: STEP, or PERCENT of a run's own training.
        at: of each moment, in order.
        steps: by run, its own step at each moment.
        totals: by run, the steps of its whole training; None where the record does not say.
    """

    unit: str
    at: tuple[float, ...]
    steps: Mapping[str, tuple[int, ...]]
    totals: Mapping[str, int | None]

    def of(self, run: Series, number: int) -> Measurement:
        """What was measured of a run at moment `number`."""
        return run.measured[self.steps[run.name][number]]

    def last(self, run: Series) -> Measurement:
        """What was measured at the last moment that all runs have."""
        return self.of(run, -1)

    def place(self, run: Series, step: int) -> float:
        """Where any step of a run lies in the unit of `at`."""
        steps = self.steps[run.name]
        if step in steps:
            return self.at[steps.index(step)]
        total = self.totals[run.name]
        return 100 * step / total if self.unit == PERCENT and total else float(step)


def matched(runs: Sequence[Series]) -> Moments:
    """The moments at which all of the runs were measured.

    Shares match that round to the same percentage: they differ by half a step of each run at most. Equal
    steps serve where shares match in fewer moments.

    Raises:
        UserError: there is none.
    """
    totals = {run.name: _total(run) for run in runs}
    steps = sorted(set.intersection(*(set(run.measured) for run in runs)))
    rows = []
    if None not in totals.values() and len(set(totals.values())) > 1:
        rows = _by_share(runs, [total for total in totals.values() if total])
    if len(rows) >= max(1, len(steps)):
        shares = [
            [step / (totals[run.name] or 1) for run, step in zip(runs, row, strict=True)] for row in rows
        ]
        at = tuple(round(100 * sum(row) / len(row), 2) for row in shares)
        taken = {run.name: tuple(row[place] for row in rows) for place, run in enumerate(runs)}
        return Moments(PERCENT, at, taken, totals)
    if not steps:
        listed = "; ".join(f"{run.name}: {', '.join(map(str, run.measured))}" for run in runs)
        raise UserError(
            f"the runs have no measured step, or share of training, in common ({listed}): train with the "
            "same --dynamics_steps, such as 0,50%,end"
        )
    return Moments(STEP, tuple(map(float, steps)), {run.name: tuple(steps) for run in runs}, totals)


def named(unit: str, at: float) -> str:
    """A moment in words, such as "step 20" or "50 % of training"."""
    return f"step {at:g}" if unit == STEP else f"{round(at, 1):g} % of training"


def _total(run: Series) -> int | None:
    found = {one.facts.get("max_steps") for one in run.measured.values()}
    total = found.pop()
    return total if not found and isinstance(total, int) and total > 0 else None


def _by_share(runs: Sequence[Series], totals: Sequence[int]) -> list[tuple[int, ...]]:
    """Steps of all runs, in the order of runs, that are one share of training."""
    rows = []
    for step in sorted(runs[0].measured):
        row = [step]
        for run, total in zip(runs[1:], totals[1:], strict=True):
            other = _nearest(step, totals[0], run, total)
            # Each is the other's nearest, so no measurement serves twice.
            if other is None or _nearest(other, total, runs[0], totals[0]) != step:
                break
            row.append(other)
        if len(row) == len(runs):
            rows.append(tuple(row))
    return rows


def _nearest(step: int, total: int, run: Series, other_total: int) -> int | None:
    """The run's measured step after the same share of training; only start meets start, and end the end."""
    same = [
        one
        for one in sorted(run.measured)
        if (one == 0, one == other_total) == (step == 0, step == total)
        and abs(one * total - step * other_total) <= (total + other_total) / 2
    ]
    return min(same, key=lambda one: abs(one * total - step * other_total), default=None)

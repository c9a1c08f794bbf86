"""The numbers of a Gram matrix that reports show, by name. See docs/dynamics.md for what each means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from data_recipes.errors import UserError
from taco_probe.dynamics import spectrum as of
from taco_probe.dynamics.conflict import signal
from taco_probe.dynamics.resample import part

Number = Callable[[torch.Tensor], float]


@dataclass(frozen=True)
class Quantity:
    """A number of a Gram matrix (n, n).

    Attributes:
        title: for people.
        headline: one of those that the summary speaks of.
    """

    name: str
    title: str
    number: Number
    headline: bool = False


def _ratio(name: str) -> Number:
    return lambda kernel: float(getattr(of.spectrum(kernel), name))


def _centred(kernel: torch.Tensor) -> float:
    return of.spectrum(of.centred(kernel), rank_bound=len(kernel) - 1).entropy


QUANTITIES = (
    Quantity("entropy", "spectral entropy (SE)", _ratio("entropy"), headline=True),
    Quantity("dominance", "dominant eigenvalue ratio (rho)", _ratio("dominance"), headline=True),
    Quantity("entropy_normalised", "SE / log n", _ratio("entropy_normalised")),
    Quantity("entropy_centred", "SE of centred gradients", _centred),
    Quantity("entropy_directions", "SE of directions (rows of length 1)", lambda k: of.spectrum(of.normalised(k)).entropy),
    Quantity("effective_rank", "effective rank exp(SE)", _ratio("effective_rank")),
    Quantity("participation", "participation ratio", _ratio("participation")),
    Quantity("participation_debiased", "participation ratio, debiased", of.participation_debiased),
    Quantity("first_over_second", "lambda 1 / lambda 2", _ratio("first_over_second")),
    Quantity("first_over_rest", "lambda 1 / rest", _ratio("first_over_rest")),
    Quantity("gradient", "mean squared gradient", lambda kernel: float(kernel.diagonal().mean())),
    Quantity("noise_scale", "gradient noise scale (entries)", lambda kernel: signal(kernel).noise_scale),
)  # fmt: skip
HEADLINES = tuple(one for one in QUANTITIES if one.headline)


def numbers(kernel: torch.Tensor) -> dict[str, float | None]:
    """All quantities of K (n, n); None where one is not defined (no signal, a zero gradient)."""
    found: dict[str, float | None] = {}
    for one in QUANTITIES:
        try:
            value = one.number(kernel)
        except UserError:
            value = math.nan
        found[one.name] = value if math.isfinite(value) else None
    return found


def by_task(kernel: torch.Tensor, tasks: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """All quantities of each task's own entries. Tasks have different n: compare a task between runs, not
    with another task."""
    found = {}
    for task in dict.fromkeys(tasks):
        rows = torch.tensor([row for row, name in enumerate(tasks) if name == task])
        found[task] = numbers(part(kernel, rows))
    return found

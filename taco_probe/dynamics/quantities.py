"""The numbers of a Gram matrix that reports show, by name. docs/dynamics.md says what each means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from data_recipes.errors import UserError
from taco_probe.dynamics import spectrum as of
from taco_probe.dynamics.conflict import signal

# Name -> title. The first two are the headlines.
TITLES = {
    "entropy": "spectral entropy (SE)",
    "dominance": "dominant eigenvalue ratio (ρ)",
    "entropy_normalised": "SE / log n",
    "entropy_centred": "SE of centred gradients",
    "entropy_directions": "SE of directions (rows of length 1)",
    "effective_rank": "effective rank, exp(SE)",
    "participation": "participation ratio",
    "participation_debiased": "participation ratio, debiased",
    "first_over_second": "λ₁ / λ₂",
    "first_over_rest": "λ₁ / rest",
    "gradient": "mean squared gradient",
    "noise_scale": "gradient noise scale (entries)",
}
HEADLINES = ("entropy", "dominance")


def headlines(kernel: torch.Tensor) -> tuple[float, ...]:
    """HEADLINES of K (n, n). Raises: UserError: see `spectrum.spectrum`."""
    found = of.spectrum(kernel)
    return tuple(float(getattr(found, name)) for name in HEADLINES)


def numbers(kernel: torch.Tensor) -> dict[str, float | None]:
    """All of TITLES for K (n, n); None where one is not defined (a zero gradient, no signal above noise)."""
    plain = _of(kernel, len(kernel))
    centred = _of(of.centred(kernel), len(kernel) - 1)
    try:
        directions = _of(of.normalised(kernel), len(kernel))
    except UserError:  # an entry without a gradient has no direction
        directions = None
    try:
        debiased = of.participation_debiased(kernel)
        noise_scale = signal(kernel).noise_scale
    except UserError:
        debiased = noise_scale = math.nan
    found = {name: getattr(plain, name, math.nan) for name in TITLES} | {
        "entropy_centred": centred.entropy if centred else math.nan,
        "entropy_directions": directions.entropy if directions else math.nan,
        "participation_debiased": debiased,
        "gradient": float(kernel.diagonal().mean()),
        "noise_scale": noise_scale,
    }
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def by_task(kernel: torch.Tensor, tasks: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """All of TITLES for each task's own entries. Tasks may have different n: compare a task between runs, not
    with another task."""
    found = {}
    for task in dict.fromkeys(tasks):
        rows = torch.tensor([row for row, name in enumerate(tasks) if name == task])
        found[task] = numbers(of.part(kernel, rows))
    return found


def _of(kernel: torch.Tensor, rank_bound: int) -> of.Spectrum | None:
    try:
        return of.spectrum(kernel, rank_bound=rank_bound)
    except UserError:
        return None

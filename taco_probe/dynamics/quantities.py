"""The numbers of a Gram matrix that reports show, by name. docs/dynamics.md says what each means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from data_recipes.errors import UserError
from taco_probe.dynamics import spectrum as of
from taco_probe.dynamics.conflict import signal

# Name -> title.
TITLES = {
    "entropy": "spectral entropy (SE)",
    "dominance": "dominant eigenvalue ratio (ρ)",
    "entropy_normalised": "SE / log n",
    "entropy_centred": "SE of centred gradients",
    "entropy_directions": "SE of directions (rows of length 1)",
    "dominance_directions": "ρ of directions (rows of length 1)",
    "effective_rank": "effective rank, exp(SE)",
    "participation": "participation ratio",
    "participation_debiased": "participation ratio, debiased",
    "first_over_second": "λ₁ / λ₂",
    "first_over_rest": "λ₁ / rest",
    "gradient": "mean squared gradient",
    "effective_entries": "effective entries, (Σ|g|²)² / Σ|g|⁴",
    "noise_scale": "gradient noise scale (entries)",
}
# Compared between groups, with intervals. Few entries may hold most of the squared gradient, and then the
# first two say little else; the others weigh all entries alike.
HEADLINES = ("entropy", "dominance", "entropy_directions", "dominance_directions")


def headlines(kernel: torch.Tensor) -> tuple[float, ...]:
    """HEADLINES of K (n, n). Raises: UserError: see `spectrum.spectrum`."""
    plain, directions = of.spectrum(kernel), of.spectrum(_directions(kernel))
    return plain.entropy, plain.dominance, directions.entropy, directions.dominance


def numbers(kernel: torch.Tensor) -> dict[str, float | None]:
    """All of TITLES for K (n, n); None where one is not defined (a zero gradient, no signal above noise)."""
    plain = _of(kernel, len(kernel))
    centred = _of(of.centred(kernel), len(kernel) - 1)
    directions = _of(_directions(kernel), len(kernel))
    own = kernel.diagonal()
    try:
        debiased = of.participation_debiased(kernel)
        noise_scale = signal(kernel).noise_scale
    except UserError:
        debiased = noise_scale = math.nan
    found = {name: getattr(plain, name, math.nan) for name in TITLES} | {
        "entropy_centred": centred.entropy if centred else math.nan,
        "entropy_directions": directions.entropy if directions else math.nan,
        "participation_debiased": debiased,
        "dominance_directions": directions.dominance if directions else math.nan,
        "gradient": float(own.mean()),
        "effective_entries": float(own.sum().square() / own.square().sum()),
        "noise_scale": noise_scale,
    }
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _directions(kernel: torch.Tensor) -> torch.Tensor:
    """Of gradients of length 1; an entry without a gradient has no direction and is left out."""
    return of.normalised(of.part(kernel, kernel.diagonal().nonzero()[:, 0]))


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

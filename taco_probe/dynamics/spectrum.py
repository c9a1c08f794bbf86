"""Spectra of Gram matrices: spectral entropy, dominance of the first eigenvalue, effective ranks.

The nonzero eigenvalues of the empirical Fisher matrix M^T M / n are those of K / n, K = M M^T. Every ratio
here is free of that factor and of the unit of the loss. All of them grow or fall with n even for the same
distribution: compare at equal n, on the same entries, and look at `curve`.

Legend: n entries, k eigenvalues.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from data_recipes.errors import UserError

_NEGATIVE = 1e-6  # of the largest eigenvalue: more than rounding, so the matrix is no Gram matrix


class Spectrum(NamedTuple):
    """Numbers of one spectrum, with p_k = lambda_k / sum(lambda).

    Attributes:
        entropy: SE = -sum p log p, in nats. Headline.
        entropy_normalised: SE / log(rank bound), 0 to 1.
        dominance: rho = lambda_1 / sum(lambda). Headline.
        first_over_second: lambda_1 / lambda_2, infinite if there is no second.
        first_over_rest: lambda_1 / (sum(lambda) - lambda_1), infinite if there is no other.
        effective_rank: exp(SE) (Roy and Vetterli 2007).
        participation: (sum lambda)^2 / sum lambda^2.
        n: entries.
    """

    entropy: float
    entropy_normalised: float
    dominance: float
    first_over_second: float
    first_over_rest: float
    effective_rank: float
    participation: float
    n: int


def eigenvalues(kernel: torch.Tensor) -> torch.Tensor:
    """Eigenvalues (n,) in float64, largest first, rounding below 0 set to 0.

    Raises:
        UserError: the matrix is not symmetric, not finite, or has a negative eigenvalue beyond rounding.
    """
    wide = kernel.double()
    if not wide.isfinite().all():
        raise UserError("the Gram matrix has values that are not finite")
    if wide.ndim != 2 or wide.shape[0] != wide.shape[1] or not torch.allclose(wide, wide.T):
        raise UserError(f"a Gram matrix is square and symmetric; this one has shape {tuple(wide.shape)}")
    values = torch.linalg.eigvalsh(wide).flip(0)
    if len(values) and values[-1] < -_NEGATIVE * values[0].abs():
        raise UserError(f"the Gram matrix has the negative eigenvalue {float(values[-1]):.3g}: it is none")
    kept: torch.Tensor = values.clamp(min=0)
    return kept


def spectrum(kernel: torch.Tensor, *, rank_bound: int | None = None) -> Spectrum:
    """The numbers of a Gram matrix (n, n).

    Args:
        rank_bound: the most eigenvalues that can be above 0, by default n; n - 1 for a centred matrix, the
            number of parameters if that is less.

    Raises:
        UserError: see `eigenvalues`; or all gradients are zero.
    """
    values = eigenvalues(kernel)
    total = values.sum()
    if not total > 0:
        raise UserError("all gradients are zero, so they have no spectrum")
    shares = values / total
    kept = shares[shares > 0]
    entropy = float(-(kept * kept.log()).sum())
    bound = len(values) if rank_bound is None else min(rank_bound, len(values))
    first, second = float(shares[0]), float(shares[1]) if len(shares) > 1 else 0.0
    rest = float(shares[1:].sum())
    return Spectrum(
        entropy=entropy,
        entropy_normalised=entropy / math.log(bound) if bound > 1 else 0.0,
        dominance=first,
        first_over_second=first / second if second > 0 else math.inf,
        first_over_rest=first / rest if rest > 0 else math.inf,
        effective_rank=math.exp(entropy),
        participation=float(1 / shares.square().sum()),
        n=len(values),
    )


def centred(kernel: torch.Tensor) -> torch.Tensor:
    """H K H, H = I - 1/n: the Gram matrix of gradients less their mean (the gradients' covariance)."""
    wide = kernel.double()
    rows = wide.mean(0)
    return wide - rows[:, None] - rows[None, :] + rows.mean()


def normalised(kernel: torch.Tensor) -> torch.Tensor:
    """K_ij / sqrt(K_ii K_jj): of gradients of length 1, so that no entry counts more than another.

    Raises:
        UserError: an entry's gradient is zero.
    """
    lengths = kernel.double().diagonal().sqrt()
    if not (lengths > 0).all():
        raise UserError(f"entry {int((lengths == 0).nonzero()[0])} has a zero gradient: it has no direction")
    return kernel.double() / lengths.outer(lengths)


def weighted(kernel: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """w_i w_j K_ij: of the gradients of losses times w (n,), such as the weights of `--loss_weighting`."""
    return kernel.double() * weights.double().outer(weights.double())


def participation_debiased(kernel: torch.Tensor) -> float:
    """(tr S)^2 / tr S^2 of the second-moment matrix S = E g g^T that entries are independent draws of; the
    plug-in value from K is at most n.

    Both traces are estimated from distinct entries, so each is unbiased: tr(S)^2 by the mean of K_ii K_jj and
    tr(S^2) by the mean of K_ij^2, over i != j. Their ratio is unbiased to first order. Give it `centred`
    gradients only if n is large: their rows are not independent.

    Raises:
        UserError: fewer than 2 entries, or gradients of different entries are orthogonal.
    """
    wide = kernel.double()
    n = len(wide)
    if n < 2:
        raise UserError("the debiased participation ratio needs 2 entries at least")
    own = wide.diagonal()
    pairs = n * (n - 1)
    squared_trace = (own.sum().square() - own.square().sum()) / pairs
    trace_squared = (wide.square().sum() - own.square().sum()) / pairs
    if not trace_squared > 0:
        raise UserError(
            "gradients of different entries are all orthogonal: the participation ratio is unbounded"
        )
    return float(squared_trace / trace_squared)


def part(kernel: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The rows and columns of K that are kept (indices)."""
    return kernel[kept][:, kept]


class Point(NamedTuple):
    """Mean and standard deviation of a number over random subsets of n entries."""

    n: int
    mean: float
    deviation: float


def curve(
    kernel: torch.Tensor,
    sizes: Sequence[int],
    number: Callable[[torch.Tensor], float] = lambda kernel: spectrum(kernel).entropy,
    *,
    draws: int = 20,
    seed: int = 0,
) -> list[Point]:
    """How a number depends on n: subsets without replacement, since a duplicate would lower the rank.

    Raises:
        UserError: a size is below 1 or above n.
    """
    n = len(kernel)
    generator = torch.Generator().manual_seed(seed)
    points = []
    for size in sizes:
        if not 1 <= size <= n:
            raise UserError(f"no subset of {size} among {n} entries")
        found = []
        for _ in range(draws if size < n else 1):
            kept = torch.randperm(n, generator=generator)[:size]
            found.append(number(part(kernel, kept)))
        values = torch.tensor(found, dtype=torch.float64)
        points.append(Point(size, float(values.mean()), float(values.std(correction=0))))
    return points

"""Whether tasks pull the weights in different directions: from the Gram matrix of entries and their tasks.

Cosines of batch-mean gradients are biased towards 0 by noise, and two noisy gradients 'conflict' half of the
time whatever their tasks are. So cosines are debiased and gated on signal, and a conflict rate is given only
beside its value under permuted labels.

Legend: n entries, T tasks, B entries of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from data_recipes.errors import UserError

_GATHERED = 2**20  # numbers at a time
MIN_SNR = 1.0  # below it, the debiased cosine is noise over noise


class Signal(NamedTuple):
    """Of one task: U, the unbiased squared length of its mean gradient (mean of K_ij, i != j); the variance
    of an entry's gradient (trace of its covariance); the signal-to-noise ratio U / (variance / B) of the mean
    of its B entries; the gradient noise scale variance / U, the batch at which noise equals signal
    (McCandlish et al. 2018, 'simple' noise scale), infinite where U <= 0."""

    squared_mean: float
    variance: float
    snr: float
    noise_scale: float
    entries: int


class Cosines(NamedTuple):
    """Between tasks, in the order of `tasks`, all (T, T).

    Attributes:
        debiased: mean K_ab / sqrt(U_a U_b), NaN where a task's SNR is below the gate: not known, and not 0.
            May leave [-1, 1] by noise.
        plain: the cosine of the tasks' mean gradients, which noise pulls towards 0.
        magnitude: 2 |a| |b| / (|a|^2 + |b|^2) of the debiased lengths, 1 for equal ones (Yu et al. 2020), NaN
            under the same gate.
    """

    tasks: tuple[Hashable, ...]
    signals: tuple[Signal, ...]
    debiased: torch.Tensor
    plain: torch.Tensor
    magnitude: torch.Tensor


class Conflict(NamedTuple):
    """P(g_a . g_b < 0) over pairs of batch means, its values under permuted labels, and the share of these
    that is at least as high (one-sided p, the observed one counted)."""

    rate: float
    null_mean: float
    null_low: float
    null_high: float
    p: float
    pairs: int


def signal(kernel: torch.Tensor) -> Signal:
    """Signal and noise of the entries of one task, from their K (B, B).

    Raises:
        UserError: fewer than 2 entries.
    """
    n = len(kernel)
    if n < 2:
        raise UserError("signal and noise need 2 entries of a task at least")
    wide = kernel.double()
    own = float(wide.diagonal().mean())
    squared = float((wide.sum() - wide.diagonal().sum()) / (n * (n - 1)))
    variance = own - squared
    snr = squared / (variance / n) if variance > 0 else math.inf
    return Signal(squared, variance, snr, variance / squared if squared > 0 else math.inf, n)


def cosines(kernel: torch.Tensor, tasks: Sequence[Hashable], *, min_snr: float = MIN_SNR) -> Cosines:
    """Cosines between the mean gradients of tasks.

    Args:
        kernel: K (n, n).
        tasks: of each entry (n,).

    Raises:
        UserError: a task has fewer than 2 entries.
    """
    wide = kernel.double()
    names, members = _by_task(tasks, len(wide))
    signals = tuple(signal(wide[one][:, one]) for one in members)
    means = torch.stack([torch.stack([wide[a][:, b].mean() for b in members]) for a in members])
    squared = torch.tensor([one.squared_mean for one in signals], dtype=torch.float64)
    known = torch.tensor([one.snr >= min_snr and one.squared_mean > 0 for one in signals])
    lengths = torch.where(known, squared, math.nan).sqrt()
    debiased = means / lengths.outer(lengths)
    debiased.diagonal().copy_(torch.where(known, 1.0, math.nan))
    plain = means / means.diagonal().sqrt().outer(means.diagonal().sqrt())
    both = lengths.square()[:, None] + lengths.square()[None, :]
    return Cosines(names, signals, debiased, plain, 2 * lengths.outer(lengths) / both)


def conflict(
    kernel: torch.Tensor,
    tasks: Sequence[Hashable],
    first: Hashable,
    second: Hashable,
    *,
    batch: int = 8,
    splits: int = 20,
    permutations: int = 200,
    seed: int = 0,
) -> Conflict:
    """How often the mean gradients of a batch of one task and of a batch of another have a negative product.

    Each task's entries are dealt into disjoint batches, `splits` times; every batch of one meets every batch
    of the other. The null deals the entries of both tasks to the two labels at random.

    Raises:
        UserError: a task is missing or has fewer entries than a batch.
    """
    names, members = _by_task(tasks, len(kernel))
    for name in (first, second):
        if name not in names or len(members[names.index(name)]) < batch:
            raise UserError(f"task {name!r} has fewer than {batch} entries, which is one batch")
    a, b = members[names.index(first)], members[names.index(second)]
    both = torch.cat([a, b])
    wide = kernel.double()[both][:, both]
    generator = torch.Generator().manual_seed(seed)
    deal = partial(_shares, wide, len(a), batch=batch, splits=splits, generator=generator)
    rate = float(deal(torch.arange(len(both))[None]))
    pairs = splits * (len(a) // batch) * (len(b) // batch)
    labels = torch.rand(permutations, len(both), generator=generator).argsort(1)
    # A few permutations at a time, so that what they gather stays small.
    some = max(1, _GATHERED // (pairs * batch**2))
    nulls = torch.cat([deal(part) for part in torch.split(labels, some)])
    low, high = torch.quantile(nulls, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    p = (1 + int((nulls >= rate - 1e-12).sum())) / (1 + permutations)
    return Conflict(rate, float(nulls.mean()), low, high, p, pairs)


def _shares(
    kernel: torch.Tensor,
    first: int,
    orders: torch.Tensor,
    *,
    batch: int,
    splits: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Share of negative products (P,) for each of P orders (P, n) of the entries, the `first` of which are
    the one task and the rest the other."""
    left, right = (_dealt(part, batch, splits, generator) for part in (orders[:, :first], orders[:, first:]))
    # (P, splits, batches of one, batch, batches of the other, batch), summed within both batches
    products = kernel[left[..., None, None], right[:, :, None, None]].sum((3, 5))
    return (products < 0).double().mean((1, 2, 3))


def _dealt(orders: torch.Tensor, batch: int, splits: int, generator: torch.Generator) -> torch.Tensor:
    """Disjoint batches of the entries of each order (P, n), dealt anew for each split: (P, splits, batches,
    batch)."""
    permutations, n = orders.shape
    count = n // batch
    shuffled = torch.rand(permutations, splits, n, generator=generator).argsort(2)[:, :, : count * batch]
    dealt = orders[:, None].expand(-1, splits, -1).gather(2, shuffled)
    return dealt.view(permutations, splits, count, batch)


def _by_task(tasks: Sequence[Hashable], n: int) -> tuple[tuple[Hashable, ...], list[torch.Tensor]]:
    if len(tasks) != n:
        raise UserError(f"{len(tasks)} tasks for {n} entries")
    names = tuple(dict.fromkeys(tasks))
    return names, [torch.tensor([i for i, task in enumerate(tasks) if task == name]) for name in names]

"""Intervals and tests: bootstrap over patients, randomisation of pairs, Holm's correction.

Patients are resampled, not entries: the entries of a patient share an image, so they are right or wrong
together, and resampling entries would make the intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy.stats

from eval.metrics import FloatArray

RESAMPLES = 10_000
SEED = 20250414
_CHUNK = 500  # resamples at a time: bounds the memory of the weights


def patient_sums(rows: FloatArray, patient: npt.NDArray[np.intp], patients: int) -> FloatArray:
    """Rows (n, k) summed per patient -> (patients, k); `patient` (n,) holds each row's patient."""
    sums = np.zeros((patients, rows.shape[1]))
    np.add.at(sums, patient, rows)
    return sums


def resampled_sums(sums: FloatArray, *, resamples: int = RESAMPLES, seed: int = SEED) -> FloatArray:
    """Column sums of `resamples` draws of patients with replacement: (patients, k) -> (resamples, k).

    The draws depend on seed, number of resamples and number of patients only, so two calls are paired.
    """
    patients = len(sums)
    rng = np.random.default_rng(seed)
    out = np.empty((resamples, sums.shape[1]))
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        drawn = rng.integers(patients, size=(size, patients))
        cells = (drawn + patients * np.arange(size)[:, None]).ravel()
        weights = np.bincount(cells, minlength=size * patients).reshape(size, patients)
        out[start : start + size] = weights.astype(np.float64) @ sums
    return out


def interval(samples: FloatArray, patients: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of values (resamples,) that were resampled from so many patients; resamples with
    nothing to judge (NaN) are left out.

    The percentiles lie a little farther out than the level says, by Student's t and sqrt(n / (n - 1)), since
    a plain percentile interval is too narrow for few patients: the expanded percentile interval of Hesterberg
    2015 (The American Statistician 69(4), section 5.3).
    """
    n = max(2, patients)
    reach = np.sqrt(n / (n - 1)) * scipy.stats.t.ppf((1 + level) / 2, n - 1)
    tail = 100.0 * float(scipy.stats.norm.cdf(-reach))
    low, high = np.nanpercentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def swapped_sums(
    first: FloatArray, second: FloatArray, *, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[FloatArray, FloatArray]:
    """Column sums of two runs (patients, k) -> (resamples, k) each, with the runs exchanged for a random half
    of the patients: what could have been seen if it did not matter which run answered.

    The draws depend on seed, number of resamples and number of patients only.
    """
    patients = len(first)
    rng = np.random.default_rng(seed)
    moved = np.empty((resamples, first.shape[1]))
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        swaps = rng.integers(2, size=(size, patients)).astype(np.float64)
        moved[start : start + size] = swaps @ (second - first)
    return first.sum(axis=0) + moved, second.sum(axis=0) - moved


def p_value(observed: float, exchanged: FloatArray) -> float:
    """Two-sided p of a difference by a randomisation test (Fisher; Noreen 1989): the share of `exchanged`
    differences (resamples,) that are at least as large, the observed one counted in. It holds its level
    exactly, for any metric, however many entries a patient has."""
    # Sums in another order differ in the last digits.
    larger = int((np.abs(exchanged) >= abs(observed) - 1e-9).sum())
    return (larger + 1) / (len(exchanged) + 1)


def bootstrap_p(differences: FloatArray) -> float:
    """Two-sided p of "no difference" from resampled differences (resamples,): twice the share of resamples on
    the far side of 0, with one added to both counts (Davison and Hinkley 1997, section 4.2). For differences
    that no exchange of patients can make, such as those between groups of runs."""
    differences = differences[np.isfinite(differences)]
    tail = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(differences) + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p values (Holm 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(value) for value in adjusted]

"""Intervals and comparisons: bootstrap over patients, paired differences, Holm's correction.

Patients are resampled, not entries: the entries of a patient share an image, so they are right or wrong
together, and resampling entries would make the intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from eval.metrics import FloatArray

RESAMPLES = 2000
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


def interval(samples: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values (resamples,); resamples with nothing to judge (NaN) are left
    out."""
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def p_value(differences: FloatArray) -> float:
    """Two-sided bootstrap p of "no difference" from resampled paired differences (resamples,): twice the
    share of resamples on the far side of 0, with one added to both counts (Davison and Hinkley 1997, section
    4.2)."""
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

"""Referring expression comprehension: share of boxes found with IoU >= 0.5 and 0.75, and mean IoU.

One box: found or not. Several: predicted and true boxes are matched one to one (Hungarian), and the matches
are divided by the larger of the two counts, so that both a missed and a superfluous box cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from data_recipes.records import Box
from eval.answers import Answer
from eval.metrics import Metric, mean, parse_rate


def matched(predicted: Sequence[Box] | None, truth: Sequence[Box], threshold: float | None = None) -> float:
    """Sum over the best one-to-one matching, of IoU or (with a threshold) of IoU >= threshold, over the
    larger number of boxes; 0..1."""
    if not predicted:
        return 0.0
    gain = np.array([[box.iou(other) for other in truth] for box in predicted])
    if threshold is not None:
        gain = (gain >= threshold).astype(np.float64)
    chosen = linear_sum_assignment(gain, maximize=True)
    return float(gain[chosen].sum() / max(gain.shape))


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    return (
        mean("acc_at_0.5", lambda answer: 100 * matched(answer.predicted, answer.truth, 0.5)),
        mean("acc_at_0.75", lambda answer: 100 * matched(answer.predicted, answer.truth, 0.75)),
        mean("mean_iou", lambda answer: 100 * matched(answer.predicted, answer.truth)),
        parse_rate(),
    )

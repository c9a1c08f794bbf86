"""The project's metrics as a local module of Hugging Face's `evaluate`, which reads it from its folder:

    import evaluate
    from eval import imax_metrics

    metric = evaluate.load(imax_metrics.FOLDER, "rec.acc_at_0.5")
    metric.compute(predictions=["[0.1, 0.2, 0.5, 0.6]"], references=["[0.1, 0.2, 0.5, 0.7]"])

The configuration names a task, for all of its metrics, or a task and a metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from data_recipes.errors import UserError, unknown
from data_recipes.records import Entry, Image
from data_recipes.tasks import TASKS
from eval.answers import Answer, truth_of
from eval.predictions import CanonicalBoxes, parse
from eval.scores import score
from eval.tasks import metrics

_BOXES = CanonicalBoxes()
_DESCRIPTION = "Scores of chest X-ray tasks, 0..100 where that makes sense; see docs/metrics.md."
_INPUTS = """
Args:
    predictions: outputs of a model, one text an entry; what cannot be read as an answer is wrong.
    references: targets. Boxes on both sides as [x1, y1, x2, y2] in fractions of the image.
    kinds: for task vqa, the kind of each question; scores come by kind as well.
    patient_ids: whose entry each is. With them each score gets its 95 % interval.
Returns:
    {metric: value}; with patient_ids also {metric_ci: [low, high]}.
"""


class ImaxMetrics(evaluate.Metric):  # type: ignore[misc]
    """See the module."""

    def _info(self) -> evaluate.MetricInfo:
        task, _, _ = self.config_name.partition(".")
        if task not in TASKS:
            raise unknown("configuration", self.config_name, TASKS)
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="arXiv 2504.09967",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        kinds: Sequence[str] | None = None,
        patient_ids: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        task, _, wanted = self.config_name.partition(".")
        everyone = patient_ids or [str(number) for number in range(len(references))]
        rows = zip(predictions, references, kinds or [""] * len(references), everyone, strict=True)
        answers = [_answer(number, task, *row) for number, row in enumerate(rows)]
        names = [metric.name for metric in metrics(task, answers)]
        if wanted and wanted not in names:
            raise unknown(f"metric of task {task}", wanted, names)
        scored = score(answers).tasks[task]
        found: dict[str, Any] = {}
        for name, estimate in scored.estimates.items():
            if wanted in ("", name):
                found[name] = estimate.value
                if patient_ids is not None:
                    found[f"{name}_ci"] = [estimate.ci_low, estimate.ci_high]
        if wanted and not found:
            raise UserError(f"{self.config_name}: {scored.not_computed[wanted]}")
        return found


def _answer(number: int, task: str, prediction: str, reference: str, kind: str, patient: str) -> Answer:
    """Raises UserError when the reference is no answer of the task."""
    target, boxes = _BOXES.read(reference, 1, 1)
    entry = Entry(f"{number}", f"{number}", task, "", target, boxes, f"evaluate/{task}/{kind}")
    image = Image(f"{number}", patient, "test", "evaluate", "", 1, 1, "")
    return Answer(entry, patient, truth_of(entry), parse(entry, image, prediction, _BOXES))

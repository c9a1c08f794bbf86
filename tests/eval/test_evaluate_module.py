"""The metrics through `evaluate.load`, without a network, against the metrics themselves."""

import evaluate
import pytest

from data_recipes.errors import UserError
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS
from eval.answers import known
from eval.imax_metrics import FOLDER
from eval.predictions import CanonicalBoxes, prediction
from eval.scores import score
from tests.eval.test_scores import right


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path)


def load(configuration, tmp_path):
    return evaluate.load(FOLDER, configuration, cache_dir=str(tmp_path))


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_of_a_task(task, mixture_dir, tmp_path):
    pairs = [pair for pair in read_mixture(mixture_dir).of_split("test") if pair[1].task == task]
    answers = right(known(pairs), 0.5)
    boxes = CanonicalBoxes()
    targets = [prediction(entry, image, "", boxes)["target"] for image, entry in pairs]
    outputs = [
        target if a.predicted is not None else "?!" for target, a in zip(targets, answers, strict=True)
    ]
    expected = score(answers).tasks[task]
    found = load(task, tmp_path).compute(
        predictions=outputs,
        references=targets,
        kinds=[entry.kind for _, entry in pairs],
        patient_ids=[image.patient_id for image, _ in pairs],
    )
    assert found[expected.headline] == pytest.approx(expected.value)
    assert {name for name in found if not name.endswith("_ci")} == set(expected.estimates)
    estimate = expected.estimates[expected.headline]
    assert found[f"{expected.headline}_ci"] == pytest.approx([estimate.ci_low, estimate.ci_high])


def test_one_metric(tmp_path):
    metric = load("rec.acc_at_0.5", tmp_path)
    boxes = ["[0.1, 0.2, 0.5, 0.6]", "[0.1, 0.2, 0.5, 0.6]"]
    found = metric.compute(predictions=["here: [0.1, 0.2, 0.5, 0.6]", "nowhere"], references=boxes)
    assert found == {"acc_at_0.5": 50}


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="did you mean 'vqa'"):
        load("vqaa", tmp_path)
    with pytest.raises(UserError, match="did you mean 'mean_iou'"):
        load("rec.mean_iuo", tmp_path).compute(predictions=["?"], references=["[0, 0, 1, 1]"])
    with pytest.raises(UserError, match="is no answer of task severity"):
        load("severity", tmp_path).compute(predictions=["grade 1"], references=["no grade at all"])

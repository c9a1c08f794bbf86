"""Run folders with predictions made by rote, scored without a model."""

import json

import numpy as np
import yaml

from data_recipes.store import read_mixture
from eval import evaluation
from eval.plan import prepare
from eval.predictions import CanonicalBoxes, prediction

HOSTILE = (
    "</script></style></title></svg><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
    "\" onmouseover=window.hacked=1 ' autofocus onfocus=window.hacked=1 javascript:alert(1) "
    "| `x` $a_1$ {{ 7 * 7 }}"
)
HOSTILE_NAME = HOSTILE.replace("/", "")  # what a folder may be called


def make_run(folder, mixture, *, recipe, share, luck=0, wrong="?", **settings):
    """A run folder with a predictions file in which a share of the answers is right."""
    folder.mkdir(parents=True)
    content = read_mixture(mixture)
    settings |= {
        "recipe": recipe,
        "model": "tiny",
        "mixture": str(mixture),
        "mixture_hash": content.meta["mixture_hash"],
        "output_dir": str(folder),
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    (folder / "train.jsonl").write_text(
        '{"step": 1, "loss": 2.0, "loss_vqa": 1.0}\n{"step": 2, "loss": 1.0}\n{"ste'
    )
    rng = np.random.default_rng(luck)
    with (folder / "made.jsonl").open("w") as file:
        for image, entry in content.of_split("test"):
            target = prediction(entry, image, "", CanonicalBoxes())["target"]
            output = target if rng.random() < share else wrong
            file.write(json.dumps({"entry_id": entry.entry_id, "output": output}) + "\n")
    return folder


def score_run(folder, **kwargs):
    file = folder / "made.jsonl"
    options = {
        key: kwargs.pop(key) for key in ("mixture", "output_dir", "split", "limit", "base") if key in kwargs
    }
    plan = prepare(str(folder), predictions=file, notation="canonical", progress=False, **options)
    content, problems = evaluation.evaluate(plan, predictions=file, resamples=200, **kwargs)
    return plan.out, content, problems


def change_scores(folder, **values):
    scores = json.loads((folder / "scores.json").read_text())
    (folder / "scores.json").write_text(json.dumps(scores | values))


def change_task(folder, task, **values):
    """Puts parts into what `scores.json` says of a task."""
    scores = json.loads((folder / "scores.json").read_text())
    change_scores(folder, tasks=scores["tasks"] | {task: scores["tasks"][task] | values})

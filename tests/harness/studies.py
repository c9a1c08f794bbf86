"""Studies with made-up runs: scored, measured and recorded by the real writers, trained by nobody."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from harness.study import work
from harness.study.planning import Plan, Run, make_plan
from harness.study.report import build
from harness.study.spec import Study, read_study
from harness.study.state import write_record
from taco_probe.dynamics import measurement
from tests.eval.run_folders import make_run, score_run
from tests.taco_probe.dynamics import fakes

# Begins a script that takes a lock.
HOLD = "import sys, time; from pathlib import Path; from harness.study.locks import lock\n"

TWO = ["tiny", {"name": "other", "model": "llava-med"}]  # models; the second is never loaded


def study(folder: Path, **keys: Any) -> tuple[Study, Path]:
    """A study file with these keys, read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"name": "made", **keys}))
    return read_study(str(path))


def plan(folder: Path, **keys: Any) -> Plan:
    """Its plan, in `folder`/study."""
    read, root = study(folder, **keys)
    return make_plan(read, root, folder / "study")


def finish(
    plan: Plan, run: Run, mixture: Path, *, share: float, decay: float = 1.0, **provenance: Any
) -> None:
    """A run folder as training, measuring and scoring leave it; a share of the answers is right."""
    make_run(
        run.folder,
        mixture,
        recipe=run.arm.recipe,
        share=share,
        luck=hash_of(run.name),
        seed=run.seed,
        batching="entry",
    )
    where = {"output_dir": run.scores, "mixture": str(mixture)} if run.arm.evaluate_on else {}
    score_run(run.folder, **where)
    (run.folder / "adapter").mkdir()
    facts = {
        "finished": "now",
        "wall_seconds": 60.0,
        "parameters": {"trainable": 10, "all": 20},
        "sessions": [{"to_step": 30}],
    }
    (run.folder / "provenance.json").write_text(json.dumps(facts | provenance))
    line = {"step": 30, "loss": 1.0, "tokens": 500.0, "tokens_unshared": 900.0}
    (run.folder / "train.jsonl").write_text(json.dumps(line) + "\n")
    if plan.study.dynamics:
        measured = fakes.measured(20, seed=hash_of(run.name) % 1000, decay=decay)
        measurement.write(measured, run.folder / measurement.FOLDER)
    attempts = [{"step": "train", "seconds": 60.0, "processor_seconds": 55.0, "exit": 0}]
    write_record(run.folder, {"key": run.key, "evaluation": run.evaluation, "attempts": attempts})


def finish_all(
    plan: Plan,
    mixture: Path,
    share: Callable[[Run], float],
    *,
    decay: Callable[[Run], float] = lambda run: 1.0,
) -> None:
    """All runs of the plan."""
    for run in plan.runs:
        finish(plan, run, mixture, share=share(run), decay=decay(run))


def report(plan: Plan) -> dict[str, Any]:
    """The report of what is finished, as study.json has it."""
    return dict(json.loads((build(plan).page.parent / "study.json").read_text()))


def line(found: dict[str, Any], start: str) -> str:
    """The first sentence of the summary that begins so."""
    return next(str(one) for one in found["summary"] if one.startswith(start))


def hash_of(text: str) -> int:
    """A number for a text, the same in every process."""
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text))


def commands(monkeypatch: Any, train: str, score: str = "pass") -> None:
    """Python lines in place of training and scoring, which get the run's folder as their argument."""
    for name, script in (("_train", train), ("_score", score)):
        monkeypatch.setattr(
            work, name, lambda plan, run, script=script: [sys.executable, "-c", script, str(run.folder)]
        )


TRAIN = (  # and uses the processor for a while
    "import time\nwhile time.process_time() < 0.2: pass\n"
    "import sys, json; from pathlib import Path; folder = Path(sys.argv[1]); (folder / 'adapter').mkdir()\n"
    "(folder / 'provenance.json').write_text(json.dumps({'finished': 'now'}))"
)
SCORE = "import sys; from pathlib import Path; (Path(sys.argv[1]) / 'scores.json').write_text('{}')"

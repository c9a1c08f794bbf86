"""`imax eval`: from a run folder to `predictions.jsonl` and `scores.json`."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_recipes.tables import write_text
from eval.answers import Answer, known
from eval.backends import BATCH_SIZES
from eval.baselines import baselines, best
from eval.generate import ALONE, Pair, blind_pairs, fingerprint, make_backend, predict, token_limits
from eval.plan import Evaluation
from eval.predictions import (
    BoxNotation,
    CanonicalBoxes,
    Problems,
    answers_from_outputs,
    answers_from_rows,
    prediction,
    read_outputs,
    read_own,
)
from eval.runs import write_json
from eval.scores import Scores, score
from eval.stats import RESAMPLES, SEED
from eval.tasks import metrics
from eval.team import Team
from model_adapters.registry import load_adapter

BLIND_PROMPTS = 200  # different prompts a task that the model answers without an image


def evaluate(
    plan: Evaluation,
    *,
    predictions: Path | None = None,
    blind: bool = True,
    backend: str = "transformers",
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    resamples: int = RESAMPLES,
    progress: bool = True,
) -> tuple[dict[str, Any], Problems]:
    """Generates (or reads) predictions, scores them and the baselines, writes `predictions.jsonl` and
    `scores.json`.

    Returns:
        the content of `scores.json`, and what was wrong with a predictions file.

    Raises:
        UserError: the model, an image or the predictions file cannot be used.
    """
    known_ids = {entry.entry_id for _, entry in plan.pairs}
    problems = Problems()
    blind_answers: list[Answer] = []
    own = plan.out / "predictions.jsonl"
    if predictions is None:
        blind_answers = generate(
            plan,
            blind=blind,
            backend=backend,
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            progress=progress,
        )
        answers = answers_from_rows(plan.pairs, read_own(own))
    else:
        codec: BoxNotation = (
            CanonicalBoxes() if plan.notation == "canonical" else load_adapter(plan.model).codec
        )
        outputs, problems = read_outputs(predictions, known_ids)
        answers = answers_from_outputs(plan.pairs, outputs, codec)
        rows = [
            prediction(entry, image, outputs[entry.entry_id], codec)
            for image, entry in plan.pairs
            if entry.entry_id in outputs
        ]
        _replace(own, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    scores = score(answers, resamples=resamples)
    trivial = _baselines(plan, answers, blind_answers)
    content = _content(plan, scores, trivial, problems, resamples=resamples)
    write_json(plan.out / "scores.json", content)
    return content, problems


def _replace(path: Path, content: str) -> None:
    """Writes a file; what it held before, if that was something else, is set aside as `<name>.old.jsonl`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_bytes() != content.encode():
        path.replace(path.with_suffix(".old.jsonl"))
    write_text(content, path)


def generate(
    plan: Evaluation,
    *,
    blind: bool = True,
    backend: str = "transformers",
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    progress: bool = True,
    team: Team = ALONE,
) -> list[Answer]:
    """Writes `predictions.jsonl`, going on with it if it is not whole; several processes call this together.

    Args:
        blind: answer without images too. batch_size, batch_tokens: entries, prompt tokens at a time.

    Returns:
        what the model answers without images.

    Raises:
        UserError: the model, the backend or an image cannot be used.
    """
    adapter = load_adapter(plan.model)
    limits = token_limits(adapter, plan.train)
    weights = sorted(plan.adapter_folder.glob("adapter_*")) if plan.adapter_folder else []
    facts = [plan.model, str(plan.mixture.meta.get("mixture_hash")), plan.split, json.dumps(limits)]
    facts += _stored(Path(adapter.folder))
    mark = fingerprint(*facts, *([] if backend == "transformers" else [backend]), files=weights)
    make = functools.cache(
        functools.partial(make_backend, backend, adapter, plan.adapter_folder, batch_tokens=batch_tokens)
    )

    def run(pairs: Sequence[Pair], out: Path, *, blank: bool) -> None:
        predict(
            make,
            adapter.codec,
            plan.folder,
            pairs,
            out,
            max_new_tokens=limits,
            batch_size=batch_size or BATCH_SIZES[backend],
            blank=blank,
            fingerprint=mark,
            progress=progress,
            team=team,
        )

    run(plan.pairs, plan.out / "predictions.jsonl", blank=False)
    if not blind:
        return []
    standing = blind_pairs(plan.pairs, limit=BLIND_PROMPTS)
    asked = {pair[1].entry_id: pair for pair in standing.values()}
    path = plan.out / "blind.jsonl"
    run(list(asked.values()), path, blank=True)
    rows = read_own(path)
    covered = {entry_id: rows[pair[1].entry_id] for entry_id, pair in standing.items()}
    return answers_from_rows([pair for pair in plan.pairs if pair[1].entry_id in covered], covered)


def _stored(folder: Path) -> list[str]:
    """What changes when a checkpoint in this folder is replaced by another."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


def _baselines(plan: Evaluation, answers: Sequence[Answer], blind: Sequence[Answer]) -> dict[str, Any]:
    """{task: {"best": name, "value": its headline, "values": {name: headline}}}."""
    values = baselines(known(plan.train.of_split("train")), answers)
    for task, found in values.items():
        mine = [answer for answer in blind if answer.entry.task == task]
        if mine:
            found["blind"] = metrics(task, mine)[0].value(mine)
    return {
        task: {
            "best": best(found),
            "value": round(found[best(found)], 6),
            "values": {name: round(value, 6) for name, value in found.items()},
        }
        for task, found in values.items()
    }


def _content(
    plan: Evaluation, scores: Scores, trivial: dict[str, Any], problems: Problems, *, resamples: int
) -> dict[str, Any]:
    return {
        "tasks": {task: scored.to_json() for task, scored in scores.tasks.items()},
        "multi_task_average": scores.average.to_json(),
        "baselines": trivial,
        "mixture_hash": plan.mixture.meta.get("mixture_hash"),
        "model": plan.model,
        "recipe": plan.run.recipe if plan.run and plan.adapter_folder else None,
        "run": str(plan.run.folder.resolve()) if plan.run else None,
        "adapter": plan.adapter_folder is not None,
        "mixture": str(plan.folder.resolve()),
        "mixture_name": plan.mixture.meta.get("name"),
        "split": plan.split,
        "limit": plan.limit,
        "test_hash": scores.test_hash,
        "entries": len(plan.pairs),
        "patients": scores.patients,
        "problems": dict(problems.counts),
        "interval": {
            "level": 0.95,
            "method": "expanded percentile bootstrap over patients",
            "resamples": resamples,
            "seed": SEED,
        },
        "versions": {name: version(name) for name in ("rouge-score", "sacrebleu", "nltk", "scipy", "numpy")},
    }

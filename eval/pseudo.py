"""Asks a model the questions of a pseudo-annotation: the likeliest answer to each with its likelihood, and
answers drawn beside it, all questions about an image in shared sequences. Goes on after a kill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_recipes.draws import draws
from data_recipes.pseudo.filters import Answered
from data_recipes.records import Entry
from data_recipes.store import open_image
from data_recipes.tasks import task
from data_recipes.tasks.calculation import Ratio
from eval.agreement import agreement
from eval.backends import BATCH_SIZES, Asked, Output, Transformers
from eval.generate import Pair, make_batches, make_rows, progress_bar
from eval.outputs import Outputs
from eval.predictions import BoxNotation, parse, read_own
from eval.team import Team

_BRANCHES = 48  # answers of one shared sequence, drawn ones counted; longer rows cost more than they save


@dataclass
class _Row:
    """What was answered to one question so far."""

    likeliest: Output | None = None
    drawn: dict[int, str] = field(default_factory=dict)


def ask(
    backend: Callable[[], Transformers],
    folder: Path,
    pairs: Sequence[Pair],
    out: Path,
    *,
    max_new_tokens: Mapping[str, int],
    samples: int,
    temperature: float,
    seed: int,
    fingerprint: str,
    what: str,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Answers questions about images of the mixture in `folder`, into `out`, going on with what is there.

    Args:
        backend: makes what answers; not called if all is answered.
        samples, temperature: answers drawn beside the likeliest one. seed: of the draws, with the question's
            id, so that batches do not matter.
        fingerprint: see `Outputs`. what: what the bar says.

    Returns:
        entry_id -> {"output", "log_probability", "samples"}.

    Raises:
        UserError: an image cannot be opened, or another process writes there.
    """
    outputs = Outputs(out, fingerprint, (entry.entry_id for _, entry in pairs), Team())
    left = [pair for pair in pairs if pair[1].entry_id not in outputs.done]
    each = max(1, _BRANCHES // (samples + 1))
    rows = [row[first : first + each] for row in make_rows(left) for first in range(0, len(row), each)]
    bar = progress_bar()
    with bar if progress and rows else nullcontext(), outputs:
        line = bar.add_task(what, total=len(left), rate="")
        answer = backend() if rows else None
        for batch in make_batches(rows, max(1, BATCH_SIZES["transformers"] // (samples + 1))):
            assert answer is not None
            entries = [entry for row in batch for _, entry in row]
            seeds = _seeds(entries, samples, seed)
            asked = [
                Asked(open_image(folder, row[0][0]), [e for _, e in row for _ in range(samples + 1)])
                for row in batch
            ]
            limits = [max_new_tokens[entry.task] for entry in entries for _ in range(samples + 1)]
            found: dict[int, _Row] = defaultdict(_Row)
            for number, output in answer.outputs(asked, limits, seeds=seeds, temperature=temperature):
                question, draw = divmod(number, samples + 1)
                row = found[question]
                if draw:
                    row.drawn[draw] = output.text
                else:
                    row.likeliest = output
                if row.likeliest and len(row.drawn) == samples:
                    outputs.add(
                        {
                            "entry_id": entries[question].entry_id,
                            "output": row.likeliest.text,
                            "log_probability": row.likeliest.log_probability,
                            "samples": [row.drawn[place] for place in range(1, samples + 1)],
                        }
                    )
                    bar.update(line, advance=1, rate=f"{bar.tasks[0].speed or 0:.1f} questions/s")
    return read_own(out)


def _seeds(entries: Sequence[Entry], samples: int, seed: int) -> list[int | None]:
    """None for the likeliest answer to each question, then a seed for each drawn one."""
    names = [f"{entry.entry_id}/{place}" for entry in entries for place in range(samples)]
    numbers = iter(draws(names, seed, "drawn answers").tolist() if names else [])
    return [next(numbers) if place else None for _ in entries for place in range(samples + 1)]


def read_answer(pair: Pair, row: Mapping[str, Any], codec: BoxNotation) -> Answered:
    """A question with its answer as the entry's target in canonical form, if that can be read and written."""
    question = pair[1]
    value = _value(pair, row["output"], codec)
    entry, agreed = question, None
    if value is not None:
        entry = _with_answer(question, value)
    others = [_value(pair, output, codec) for output in row["samples"]]
    if others:
        agreed = 0.0 if not entry.target else agreement(question.task, value, others)
    return Answered(entry, row["output"], float(row["log_probability"]), agreed)


def _value(pair: Pair, output: str, codec: BoxNotation) -> Any | None:
    image, question = pair
    value = parse(question, image, output, codec)
    if isinstance(value, Ratio):
        name = question.kind.upper()
        return Ratio(name, value.value) if value.name in ("", name) else None
    return value


def _with_answer(question: Entry, value: Any) -> Entry:
    """The question with this answer; as it is where the task cannot write it, or not read it again."""
    form = task(question.task)
    try:
        text, boxes = form.render(value)
    except ValueError:
        return question
    if form.parse(text, boxes) is None:
        return question
    return replace(question, target=text, boxes=(*question.boxes, *boxes))

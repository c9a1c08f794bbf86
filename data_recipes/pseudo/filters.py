"""Which answers are kept. Each filter judges all answers, whatever the other filters say of them, so that
their order does not matter: what is kept is what passes all that are on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_recipes.pseudo.spec import Filters
from data_recipes.records import Entry


@dataclass(frozen=True)
class Answered:
    """A question with what was answered.

    Attributes:
        entry: the question; its target and boxes are the answer where that could be read, else "".
        output: what was answered, word for word.
        log_probability: mean over the tokens of the answer, natural logarithm.
        agreement: mean agreement with the answers drawn beside it, 0..1; None without such.
        contradicted: names of the rules under which other answers contradict it.
    """

    entry: Entry
    output: str
    log_probability: float
    agreement: float | None = None
    contradicted: tuple[str, ...] = ()

    @property
    def parsed(self) -> bool:
        return bool(self.entry.target)


def verdicts(answers: Sequence[Answered], filters: Filters) -> list[dict[str, bool]]:
    """Of each answer: name of each filter that is on -> whether the answer passes it."""
    least = _least(answers, filters)
    return [_passes(answered, filters, least[answered.entry.task]) for answered in answers]


def _passes(answered: Answered, filters: Filters, least: float) -> dict[str, bool]:
    passes = {"parse": answered.parsed}
    if filters.likelihood is not False:
        passes["likelihood"] = answered.log_probability >= least
    if filters.agreement is not False:
        # An answer without draws beside it (the truth) has nothing to disagree with.
        passes["agreement"] = answered.agreement is None or answered.agreement >= filters.agreement
    if filters.consistency:
        passes["consistency"] = not answered.contradicted
    return passes


def _least(answers: Sequence[Answered], filters: Filters) -> dict[str, float]:
    """Task -> the log-probability of the least likely answer among the share that is kept."""
    of_task: dict[str, list[float]] = {}
    for answered in answers:
        of_task.setdefault(answered.entry.task, []).append(answered.log_probability)
    share = 1.0 if filters.likelihood is False else filters.likelihood
    return {
        name: sorted(found, reverse=True)[max(1, round(share * len(found))) - 1]
        for name, found in of_task.items()
    }


def as_json(answered: Answered, passes: Mapping[str, bool], *, used: bool) -> Mapping[str, object]:
    """A line of `answers.jsonl`: what stands behind an entry, or why there is none."""
    entry = answered.entry
    return {
        "entry_id": entry.entry_id,
        "image_id": entry.image_id,
        "task": entry.task,
        "prompt": entry.prompt,
        "output": answered.output,
        "log_probability": round(answered.log_probability, 6),
        "agreement": None if answered.agreement is None else round(answered.agreement, 6),
        "contradicted": list(answered.contradicted),
        "passed": [name for name, passed in passes.items() if passed],
        "used": used,
    }

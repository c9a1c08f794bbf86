"""Which answers are kept. Each filter judges each answer by itself, so that their order does not matter: what
is kept is what passes all that are on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def verdicts(answered: Answered, filters: Filters) -> dict[str, bool]:
    """Name of each filter that is on -> whether the answer passes it."""
    passes = {"parse": answered.parsed}
    if filters.likelihood is not False:
        passes["likelihood"] = answered.log_probability >= filters.likelihood
    if filters.agreement is not False:
        # An answer without draws beside it (the truth) has nothing to disagree with.
        passes["agreement"] = answered.agreement is None or answered.agreement >= filters.agreement
    if filters.consistency:
        passes["consistency"] = not answered.contradicted
    return passes


def kept(answers: Iterable[Answered], filters: Filters) -> list[Answered]:
    """The answers that pass all filters that are on."""
    return [answered for answered in answers if all(verdicts(answered, filters).values())]


def funnel(answers: Iterable[Answered], filters: Filters) -> list[tuple[str, list[Answered]]]:
    """What is left after each filter, in the order of `spec.FILTERS`, the first row being all that was
    asked."""
    left = list(answers)
    rows = [("asked", left)]
    for name in filters.on:
        left = [answered for answered in left if verdicts(answered, filters)[name]]
        rows.append((name, left))
    return rows


def as_json(answered: Answered, filters: Filters, *, used: bool) -> Mapping[str, object]:
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
        "passed": [name for name, passes in verdicts(answered, filters).items() if passes],
        "used": used,
    }

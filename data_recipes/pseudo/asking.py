"""The questions about one image, in rounds, because some follow from answers to others:

1. what can be asked of any image: ratios, report, severity, findings, and questions that suppose nothing;
2. what the answers of round 1 (and the image's own entries) say is there: where it is (`rec`), and questions
   about it, as many that should be answered yes as no;
3. what lies in the boxes that round 2 gave (`reg`).

Prompts, kinds and questions are those of the mixture's own training entries, so that an annotated mixture
speaks as the mixture does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_recipes.annotate import SAME_REGION
from data_recipes.priors import phrase
from data_recipes.pseudo.queries import Query, read_query
from data_recipes.pseudo.things import HEART, Thing, any_covered, read_phrase, read_report
from data_recipes.records import Box, Entry, Image, Mixture
from data_recipes.report_text import pick
from data_recipes.tasks import rec, reg, task

ROUNDS = (1, 2, 3)
_ALWAYS = ("calculation", "report", "severity", "findings")
_BALANCED = ("presence", "heart large", "heart normal", "normal", "edema")
_EACH_ANSWER = 2  # questions on presence that should be answered yes, and no, where there are so many
_NOT_UNDERSTOOD = 2  # questions of unknown form about each image


@dataclass(frozen=True)
class Pool:
    """What the training entries of a mixture ask.

    Attributes:
        prompts: task -> kind -> prompts, as often as they occur.
        queries: (prompt, kind, what it asks) of task vqa -> how often.
        phrases: phrases of task rec, by what they name.
        labels: all that task findings chooses from.
    """

    prompts: dict[str, dict[str, list[str]]]
    queries: dict[tuple[str, str, Query | None], int]
    phrases: dict[Thing, str]
    labels: frozenset[str]

    @classmethod
    def of(cls, mixture: Mixture) -> Pool:
        """The pool of a mixture's training split."""
        prompts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        queries: Counter[tuple[str, str, Query | None]] = Counter()
        phrases: dict[Thing, str] = {}
        labels: set[str] = set()
        for _, entry in mixture.of_split("train"):
            prompts[entry.task][entry.kind].append(entry.prompt)
            if entry.task == "vqa":
                queries[entry.prompt, entry.kind, read_query(entry.prompt)] += 1
            if entry.task == "findings":
                labels |= task(entry.task).parse(entry.target) or frozenset()
            if entry.task in ("rec", "reg"):
                text = phrase(entry) if entry.task == "rec" else entry.target
                if thing := read_phrase(text):
                    phrases.setdefault(thing, text)
        return cls(prompts, dict(queries), phrases, frozenset(labels))


def ask(
    number: int,
    image: Image,
    known: Sequence[Entry],
    pool: Pool,
    tasks: Collection[str],
    rng: np.random.Generator,
) -> list[Entry]:
    """The questions of a round: entries whose target is empty.

    Args:
        number: of the round, one of ROUNDS.
        known: entries about the image so far: its own, and answers that could be read.
        tasks: what may be asked.
    """
    asked: list[tuple[str, str, str, tuple[Box, ...]]]
    if number == 1:
        asked = [
            (name, kind, pick(rng, prompts), ())
            for name in _ALWAYS
            if name in tasks
            for kind, prompts in pool.prompts.get(name, {}).items()
        ]
        if "vqa" in tasks:
            asked += [("vqa", kind, prompt, ()) for prompt, kind in _of_any_image(pool, rng)]
    elif number == 2:
        said = things_said(known)
        asked = [("rec", "phrase", prompt, ()) for prompt in _where(said, pool, rng) if "rec" in tasks]
        if "vqa" in tasks:
            asked += [("vqa", kind, prompt, ()) for prompt, kind in _about(said, pool, rng)]
    else:
        templates = reg.PROMPTS["phrase"]
        boxes = _boxes(known) if "reg" in tasks else []
        asked = [("reg", "phrase", pick(rng, templates), (box,)) for box in boxes]
    return [
        Entry(
            f"{image.image_id}/pseudo-{name}/{number}-{place}",
            image.image_id,
            name,
            prompt,
            "",
            boxes,
            f"{image.source}/{name}/{kind}",
        )
        for place, (name, kind, prompt, boxes) in enumerate(asked)
    ]


def things_said(known: Iterable[Entry]) -> set[Thing]:
    """The things that entries say are there."""
    found: set[Thing] = set()
    for entry in known:
        answer: Any = task(entry.task).parse(entry.target, entry.target_boxes)
        names: list[str] = []
        if entry.task == "report":
            said = read_report(answer)
            found.update(said.present)
            names = [HEART] * bool(said.large_heart) + ["edema"] * bool(said.grade)
        elif entry.task == "findings":
            names = sorted(answer)
        elif entry.task == "calculation" and entry.kind == "ctr":
            names = [HEART] * (answer.value > 0.5)
        elif entry.task == "severity":
            names = ["edema"] * (answer > 0)
        elif entry.task in ("rec", "reg"):
            names = [phrase(entry) if entry.task == "rec" else entry.target]
        found.update(read_phrase(name) or Thing(name) for name in names)
    return found


def _of_any_image(pool: Pool, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(prompt, kind) of a question on the view, and of some whose form is unknown."""
    view = {key[:2]: n for key, n in pool.queries.items() if key[2] and key[2].form == "view"}
    strange = {key[:2]: n for key, n in pool.queries.items() if key[2] is None}
    return [*_drawn(view, 1, rng), *_drawn(strange, _NOT_UNDERSTOOD, rng)]


def _where(said: set[Thing], pool: Pool, rng: np.random.Generator) -> list[str]:
    """A rec prompt for each thing said that the mixture has a phrase for."""
    named = sorted({thing._replace(number=1) for thing in said} & pool.phrases.keys())
    templates = rec.PROMPTS["phrase"]
    return [pick(rng, templates).replace("{phrase}", pool.phrases[thing]) for thing in named]


def _about(said: set[Thing], pool: Pool, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(prompt, kind) of questions about what was said: as many on presence that should be answered yes as
    no, and one of each form that supposes something."""
    by_form: dict[tuple[str, bool], dict[tuple[str, str], int]] = defaultdict(dict)
    for (prompt, kind, query), weight in pool.queries.items():
        if query is None or query.form == "view":
            continue
        expected = _expected(query, said)
        if query.form in _BALANCED:
            by_form["presence", expected][prompt, kind] = weight
        elif expected:
            by_form[query.form, True][prompt, kind] = weight
    balanced = [by_form.pop(("presence", expected), {}) for expected in (True, False)]
    n = min(_EACH_ANSWER, *(len({prompt for prompt, _ in offered}) for offered in balanced))
    chosen = [question for offered in balanced for question in _drawn(offered, n, rng)]
    return chosen + [
        question for _, offered in sorted(by_form.items()) for question in _drawn(offered, 1, rng)
    ]


def _expected(query: Query, said: set[Thing]) -> bool:
    """Whether a question on presence should be answered yes, or another one makes sense."""
    names = {thing.name for thing in said}
    match query.form:
        case "heart large":
            return HEART in names
        case "heart normal":
            return HEART not in names
        case "edema":
            return "edema" in names
        case "normal":
            return not names
        case "presence" | "count":
            return any_covered(query.things[0], said)
    meant = [_placed([thing for thing in said if kind.covers(thing)]) for kind in query.supposes]
    if query.form == "side":
        return len({thing.side for thing in meant[0]} - {""}) == 1
    if query.form == "kind":
        return bool(meant[0])
    return all(len(things) == 1 and things[0].number == 1 for things in meant)


def _placed(things: list[Thing]) -> list[Thing]:
    """Those with a side, where there are some: a list of findings names again what a report places."""
    return [thing for thing in things if thing.side] or things


def _boxes(known: Sequence[Entry]) -> list[Box]:
    """Boxes of rec entries, without those that nearly coincide under different phrases, as
    `annotate.regions`."""
    named = [(phrase(entry), box) for entry in known if entry.task == "rec" for box in entry.target_boxes]
    clear = [
        box
        for text, box in named
        if not any(other != text and box.iou(region) > SAME_REGION for other, region in named)
    ]
    return list(dict.fromkeys(clear))


def _drawn(offered: dict[tuple[str, str], int], n: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """n of those offered, likelier the larger their weight (Efraimidis and Spirakis 2006)."""
    keys = dict(zip(offered, rng.random(len(offered)).tolist(), strict=True))
    return sorted(keys, key=lambda question: float(keys[question] ** (1 / offered[question])), reverse=True)[
        :n
    ]

"""What answers about one image can say about each other.

A rule reads an entry, own or answered, as claims: pairs of a fact and its value. Two entries that claim
different values of a fact contradict each other. A new rule is one function and one line in RULES.

An answer is contradicted where it contradicts itself or an own entry of the mixture, or where on some fact no
majority is with it, its own voice counted. So of two that contradict each other and find no support, both go;
a wrong one against several goes alone. Answers to questions that were asked because of earlier answers (rec,
reg) are witnesses against others of their kind only: they repeat what they were asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data_recipes.phrases import UNCOUNTABLE
from data_recipes.priors import phrase
from data_recipes.pseudo.queries import Query, read_query
from data_recipes.pseudo.things import EDEMA, HEART, Said, Thing, read_phrase, read_report
from data_recipes.records import Entry
from data_recipes.tasks import task

MARGIN = 0.02  # a cardiothoracic ratio so near to 0.5 says nothing about the heart's size
_DERIVED = ("rec", "reg")

Claim = tuple[object, object]  # a fact and its value


class Context(NamedTuple):
    """What rules know beside the entries.

    Attributes:
        labels: the findings that the mixture's entries of task `findings` choose from.
        view: of the image, "" if unknown.
    """

    labels: frozenset[str] = frozenset()
    view: str = ""


Rule = Callable[[Entry, Context], Iterable[Claim]]


def heart_size(entry: Entry, context: Context) -> Iterator[Claim]:
    """A CTR above 0.5 is a large heart: against reports, the finding cardiomegaly, and questions on it."""
    answer, query = _answer(entry), _query(entry)
    if entry.task == "calculation" and entry.kind == "ctr" and abs(answer.value - 0.5) > MARGIN:
        yield HEART, answer.value > 0.5
    if entry.task == "report" and (large := read_report(answer).large_heart) is not None:
        yield HEART, large
    if entry.task == "findings" and HEART in context.labels:
        yield HEART, HEART in answer
    if query and query.form in ("heart large", "heart normal") and answer in ("yes", "no"):
        yield HEART, (answer == "yes") == (query.form == "heart large")


def edema_grade(entry: Entry, context: Context) -> Iterator[Claim]:
    """The grade against the report's; any grade above 0 is the finding edema, and yes to a question on it."""
    answer, query = _answer(entry), _query(entry)
    grade = answer if entry.task == "severity" else None
    if entry.task == "report":
        grade = read_report(answer).grade
    if grade is not None:
        yield "edema grade", grade
        yield EDEMA, grade > 0
    if entry.task == "findings" and EDEMA in context.labels:
        yield EDEMA, EDEMA in answer
    if query and query.form == "edema" and answer in ("yes", "no"):
        yield EDEMA, answer == "yes"


def presence(entry: Entry, context: Context) -> Iterator[Claim]:
    """A finding is there or not: findings, reports, boxes and phrases, questions on presence and number."""
    answer, query = _answer(entry), _query(entry)
    if entry.task == "findings":
        yield from ((name, name in answer) for name in context.labels - {HEART, EDEMA})
    if entry.task == "report":
        said = read_report(answer)
        yield from ((thing.name, True) for thing in said.present)
        yield from ((name, False) for name in said.absent)
    referred = _referred(entry)
    if referred is not None:
        yield referred.name, True
    if query and query.form == "presence" and (answer == "yes" or _plain(query)):
        yield query.things[0].name, answer == "yes"
    if query and query.form == "count" and answer.isdecimal() and _plain(query):
        yield query.things[0].name, answer != "0"


def side(entry: Entry, context: Context) -> Iterator[Claim]:
    """The side that a finding is on. A report that names it on one side only denies it on the other."""
    answer, query = _answer(entry), _query(entry)
    if entry.task == "report":
        yield from _sides(read_report(answer))
    if query and query.form == "presence" and answer in ("yes", "no") and query.things[0].side:
        yield (query.things[0].noun, query.things[0].side), answer == "yes"
    if query and query.form == "side" and answer in ("left", "right"):
        noun = query.things[0].noun
        yield from (((noun, where), where == answer) for where in ("left", "right"))
    if (thing := _referred(entry)) and thing.side:
        yield (thing.noun, thing.side), True


def number(entry: Entry, context: Context) -> Iterator[Claim]:
    """How many there are: a question's number against the report's; boxes of a phrase against the number of
    what the report names so."""
    answer, query = _answer(entry), _query(entry)
    if entry.task == "report":
        said = read_report(answer)
        counted = [thing for thing in said.present if thing.noun not in UNCOUNTABLE]
        yield from ((("number", thing._replace(number=1)), thing.number) for thing in counted)
        for name in {thing.name for thing in counted}:
            yield ("all", name), sum(thing.number for thing in counted if thing.name == name)
    if query and query.form == "count" and answer.isdecimal() and answer != "0" and _plain(query):
        yield ("all", query.things[0].name), int(answer)
    if entry.task == "rec" and (referred := _referred(entry)):
        yield ("number", referred), len(answer)


def normal(entry: Entry, context: Context) -> Iterator[Claim]:
    """A radiograph is normal where no finding is present."""
    answer, query = _answer(entry), _query(entry)
    if entry.task == "findings":
        yield "normal", not answer
    if entry.task == "report" and (said := read_report(answer)) and (said.present or said.large_heart):
        yield "normal", False
    if query and query.form == "normal" and answer in ("yes", "no"):
        yield "normal", answer == "yes"


def box_side(entry: Entry, context: Context) -> Iterator[Claim]:
    """What is on the patient's left lies with its centre in the right half of a frontal image."""
    thing = _referred(entry)
    if thing and thing.side and thing.noun not in _CROSSING and context.view in ("PA", "AP", ""):
        for box in entry.boxes:
            yield ("half", box), thing.side
            yield ("half", box), "left" if box.x1 + box.x2 > 1 else "right"


def round_trip(entry: Entry, context: Context) -> Iterator[Claim]:
    """The phrase that was answered for a box names the place of the phrase that the box was found by."""
    if thing := _referred(entry):
        yield from (((box, "there"), thing._replace(size="", number=1)) for box in entry.boxes)


def view(entry: Entry, context: Context) -> Iterator[Claim]:
    """The view that a question asks for is the one that the mixture says the image has."""
    query = _query(entry)
    if query and query.form == "view" and context.view in ("PA", "AP"):
        yield "view", _answer(entry)
        yield "view", context.view.lower()


RULES: Mapping[str, Rule] = {
    rule.__name__: rule
    for rule in (heart_size, edema_grade, presence, side, number, normal, box_side, round_trip, view)
}
# Lines cross the middle of the chest, and the box of one that enters on the right may end on the left.
_CROSSING = ("central line", "endotracheal tube")


def contradictions(
    entries: Sequence[Entry], own: Collection[str], context: Context, rules: Collection[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Entry id -> names of the rules under which it is contradicted, for the entries about one image that
    are; never one of `own`.

    Args:
        entries: all entries about the image. own: ids of those that are the mixture's own.
        rules: the rules to use; by default all.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name, rule in RULES.items():
        if rules is None or name in rules:
            claims = {entry.entry_id: list(rule(entry, context)) for entry in entries}
            for entry in entries:
                if entry.entry_id not in own and _contradicted(entry, entries, claims, own):
                    found[entry.entry_id].append(name)
    return {entry_id: tuple(names) for entry_id, names in found.items()}


def _contradicted(
    entry: Entry,
    entries: Sequence[Entry],
    claims: Mapping[str, Sequence[Claim]],
    own: Collection[str],
) -> bool:
    values: dict[object, object] = {}
    for fact, value in claims[entry.entry_id]:
        if values.setdefault(fact, value) != value:
            return True
    votes = dict.fromkeys(values, 1)
    for other in entries:
        if other is entry or (other.task in _DERIVED and entry.task not in _DERIVED):
            continue
        for fact, value in claims[other.entry_id]:
            if fact not in values:
                continue
            agrees = values[fact] == value
            if not agrees and other.entry_id in own:
                return True
            votes[fact] += 1 if agrees else -1
    return any(vote <= 0 for vote in votes.values())


def _answer(entry: Entry) -> Any:
    return task(entry.task).parse(entry.target, entry.target_boxes)


def _query(entry: Entry) -> Query | None:
    return read_query(entry.prompt) if entry.task == "vqa" else None


def _plain(query: Query) -> bool:
    """Whether the question is on a finding wherever it is, and on no particular kind of device."""
    (thing,) = query.things
    return thing.noun == thing.name and not (thing.side or thing.zone or thing.size)


def _referred(entry: Entry) -> Thing | None:
    """What a rec entry's prompt, or a reg entry's answer, names."""
    if entry.task == "rec":
        return read_phrase(phrase(entry))
    return read_phrase(entry.target) if entry.task == "reg" else None


def _sides(said: Said) -> Iterator[Claim]:
    for noun in {thing.noun for thing in said.present if thing.side}:
        named = {thing.side for thing in said.present if thing.noun == noun}
        if "" not in named:
            yield from (((noun, where), where in named) for where in ("left", "right"))

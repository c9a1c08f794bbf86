"""Phrases and reports read back into what they name: the inverse of `phrases` and `report_text`, for texts
that a model wrote. What is not understood says nothing.

The words are those of the generated sources (`scene.FINDINGS`); a report of another source is understood as
far as it uses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from data_recipes.phrases import LUNG, plural
from data_recipes.questions import DEVICES
from data_recipes.scene import EDEMA_GRADES, FINDINGS

HEART, DEVICE, EDEMA = "cardiomegaly", "support device", "edema"
_NAME_OF = {name: name for name in FINDINGS if name != EDEMA}
_NAME_OF |= dict.fromkeys(DEVICES, DEVICE) | {"enlarged heart": HEART}
_NOUN_OF = {form: noun for noun in _NAME_OF for form in (noun, plural(noun))} | {HEART: "enlarged heart"}
_NUMBERS = {word: n for n, word in enumerate(("no", "one", "two", "three", "four", "five", "six"))}
_THING = re.compile(
    rf"\b(?:(?P<number>{'|'.join(_NUMBERS)}|\d{{1,2}}) )?(?:(?P<size>small|moderate|large) )?"
    rf"(?:(?P<side>left|right) )?(?P<noun>{'|'.join(sorted(_NOUN_OF, key=len, reverse=True))})\b"
    r"(?: in the (?P<lung>left|right) (?:(?P<zone>upper|mid|lower) zone|lung)\b)?"
)
_DENIED = re.compile(r"\b(?:no|without|free of|negative for)\b")
_ALL_DENIED = re.compile(r"\b(?:not|absent|clear|unremarkable)\b")
_HEART = re.compile(r"\bheart\b|\bcardiac silhouette\b|cardiomegaly")
_LARGE = re.compile(r"enlarged|cardiomegaly")
_NORMAL = re.compile(r"\bnormal\b|\bnot\b|\bno\b|without")


class Thing(NamedTuple):
    """Something that a text names. Sides are the patient's; what is not said is ""; `number` is of things
    in the plural, else 1."""

    noun: str
    side: str = ""
    zone: str = ""
    size: str = ""
    number: int = 1

    @property
    def name(self) -> str:
        """Its label among `scene.FINDINGS`."""
        return _NAME_OF.get(self.noun, self.noun)

    def covers(self, other: Thing) -> bool:
        """Whether the other thing is one of this kind, as "nodule" covers "nodule in the left upper zone"."""
        return self.noun in (other.noun, other.name) and all(
            not mine or mine == theirs
            for mine, theirs in ((self.side, other.side), (self.zone, other.zone), (self.size, other.size))
        )


class Said(NamedTuple):
    """What a report says: things that are there, names (labels) of things that are not, the edema grade, and
    whether the heart is large; None where it does not say."""

    present: tuple[Thing, ...]
    absent: frozenset[str]
    grade: int | None
    large_heart: bool | None


def read_phrase(text: str) -> Thing | None:
    """The thing that a phrase names.

    >>> read_phrase("large left pleural effusion")
    Thing(noun='pleural effusion', side='left', zone='', size='large', number=1)
    """
    found = _THING.fullmatch(" ".join(text.lower().split()).strip(" ."))
    return _thing(found) if found else None


def _thing(match: re.Match[str]) -> Thing:
    number = match["number"]
    return Thing(
        _NOUN_OF[match["noun"]],
        match["side"] or match["lung"] or "",
        match["zone"] or "",
        match["size"] or "",
        _NUMBERS.get(number, 0) or int(number) if number and number != "no" else 1,
    )


def read_report(text: str) -> Said:
    """What the sentences of a report say, one by one."""
    present: list[Thing] = []
    absent: set[str] = set()
    grade: int | None = None
    large: bool | None = None
    for sentence in re.split(r"[.;\n]", text.lower().replace("oedema", EDEMA)):
        if _HEART.search(sentence):
            large = _heart(sentence, large)
            continue
        if found := _grade(sentence):
            grade = found[0]
        for thing, denied in _things(sentence):
            if denied:
                absent.add(thing.name)
            else:
                present.append(thing)
        if "lungs are clear" in sentence:
            absent.update(LUNG)
    return Said(tuple(present), frozenset(absent) - {thing.name for thing in present}, grade, large)


def _heart(sentence: str, before: bool | None) -> bool | None:
    if _NORMAL.search(sentence):
        return False
    return True if _LARGE.search(sentence) else before


def _grade(sentence: str) -> tuple[int] | None:
    named = [grade for grade, name in enumerate(EDEMA_GRADES) if grade and name in sentence]
    if not named and EDEMA not in sentence:
        return None
    denied = _DENIED.search(sentence) or _ALL_DENIED.search(sentence)
    if denied:
        return (0,)
    return (named[-1],) if named else None


def _things(sentence: str) -> Iterator[tuple[Thing, bool]]:
    """The things that a sentence names, and whether it denies them."""
    denied = _DENIED.search(sentence)
    start = 0 if _ALL_DENIED.search(sentence) else denied.start() if denied else len(sentence)
    for match in _THING.finditer(sentence):
        yield _thing(match), match.end() > start


def any_covered(kind: Thing, things: Iterable[Thing]) -> bool:
    """Whether one of the things is of this kind."""
    return any(kind.covers(thing) for thing in things)

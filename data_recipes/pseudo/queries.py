"""Visual questions read back into what they ask: the inverse of `questions`. A question of another form is
asked as it stands, and no rule looks at it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from data_recipes.phrases import LUNG, PLEURAL, noun, place
from data_recipes.pseudo.things import DEVICE, EDEMA, HEART, Thing, any_covered, read_phrase
from data_recipes.scene import Abnormality, Scene

_THE = r"(?:an? |the )?"
_FORMS = {
    "heart large": r"is the heart enlarged",
    "heart normal": r"is the heart normal in size",
    "normal": r"is this radiograph (?:normal|free of findings)",
    "view": r"is this a pa or an ap view|which view is this, pa or ap",
    "kind": r"what kind of support device is there|which support device is seen",
    "presence": rf"(?:is there|does the image show) (?:evidence of )?{_THE}(.+)",
    "side": rf"(?:on which side is|which side shows) {_THE}(.+)",
    "count": r"how many (.+) are there",
    "zone": r"in which lung zone is the (.+)",
    "size": r"(?:how large is|what is the size of) the (.+)",
    "larger side": r"which (.+) is larger, left or right",
    "larger": r"is the (.+) larger than the (.+)",
}
_PATTERNS = {form: re.compile(rf"(?:{pattern})\?") for form, pattern in _FORMS.items()}
_ANSWER = " answer briefly."


class Query(NamedTuple):
    """What a question asks: a form of `_FORMS`, and the things that it names. About edema it names none."""

    form: str
    things: tuple[Thing, ...] = ()

    @property
    def supposes(self) -> tuple[Thing, ...]:
        """The things without which the question makes no sense."""
        if self.form == "kind":
            return (Thing(DEVICE),)
        if self.form == "larger side":
            (thing,) = self.things
            return thing._replace(side="left"), thing._replace(side="right")
        return self.things if self.form in ("side", "zone", "size", "larger") else ()


@lru_cache(maxsize=100_000)
def read_query(prompt: str) -> Query | None:
    """What a prompt of task `vqa` asks; None where it is not understood.

    >>> read_query("Is there a mass in the left lung? Answer briefly.").form
    'presence'
    """
    text = " ".join(prompt.lower().split()).removesuffix(_ANSWER)
    for form, pattern in _PATTERNS.items():
        found = pattern.fullmatch(text)
        if not found:
            continue
        if form == "presence" and found[1] in (f"{EDEMA} or vascular congestion", EDEMA):
            return Query("edema")
        names = list(found.groups())
        if form == "larger" and names[1].endswith(" one"):
            side, _ = names[1].split(" ", 1)
            kind = read_phrase(names[0])
            return Query(form, (kind, kind._replace(side=side))) if kind else None
        things = tuple(read_phrase(name) for name in names)
        known = tuple(thing for thing in things if thing is not None)
        return Query(form, known) if len(known) == len(things) else None
    return None


def answer(query: Query, scene: Scene) -> str | None:
    """The true answer in a scene; None where the question has none, or more than one, there."""
    if query.form in ("heart large", "heart normal", "normal", "edema"):
        truth = {
            "heart large": HEART in scene.findings,
            "heart normal": HEART not in scene.findings,
            "normal": not scene.findings,
            "edema": scene.edema > 0,
        }[query.form]
        return "yes" if truth else "no"
    if query.form == "view":
        return scene.view.lower() if scene.view in ("PA", "AP") else None
    there = [(as_thing(a), a) for a in scene.abnormalities]
    if query.form == "presence":
        return "yes" if any_covered(query.things[0], (thing for thing, _ in there)) else "no"
    if query.form == "count":
        return str(sum(query.things[0].covers(thing) for thing, _ in there))
    meant = [[a for thing, a in there if kind.covers(thing)] for kind in query.supposes]
    if query.form == "larger side":
        left, right = meant
        return ("left" if left[0].area > right[0].area else "right") if _one_each(meant) else None
    if query.form == "larger":
        return ("yes" if meant[0][0].area > meant[1][0].area else "no") if _one_each(meant) else None
    return _shared({_PROPERTIES[query.form](a) for a in meant[0]})


def _side(abnormality: Abnormality) -> str:
    return abnormality.side


def _zone(abnormality: Abnormality) -> str:
    return abnormality.zone if abnormality.name in LUNG else ""


def _size(abnormality: Abnormality) -> str:
    return abnormality.size if abnormality.name in (*LUNG, *PLEURAL) else ""


def _kind(abnormality: Abnormality) -> str:
    return abnormality.attributes.get("kind", "")


_PROPERTIES = {"side": _side, "zone": _zone, "size": _size, "kind": _kind}


def _shared(values: set[str]) -> str | None:
    """The one value that there is."""
    return values.pop() or None if len(values) == 1 else None


def _one_each(meant: list[list[Abnormality]]) -> bool:
    return all(len(found) == 1 for found in meant)


def as_thing(abnormality: Abnormality) -> Thing:
    """An abnormality as texts name it, with its size."""
    found = read_phrase(place(abnormality))
    kind = found or Thing(noun(abnormality))
    return kind._replace(side=abnormality.side, zone=abnormality.zone, size=abnormality.size)

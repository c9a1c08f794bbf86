"""What the cues of a sentence say of its words: negated, doubtful, or not about this image."""

from __future__ import annotations

from collections.abc import Sequence

from eval.clinical.phrases import Match
from eval.clinical.words import Words

NEGATIVE, UNCERTAIN, DROPPED = "negative", "uncertain", "dropped"
_ENDS_ALL, _ENDS_NEGATION, _ENDS_LISTLESS = "break", "negative break", "list break"


def context(sentence: Words, cues: Sequence[Match]) -> list[frozenset[str]]:
    """For each word what is said of it, a subset of NEGATIVE, UNCERTAIN, DROPPED.

    `cues` share no word and come in order; the tag of one is "pseudo", a kind of break, or what it says and
    the way it reaches ("negative forward"). One pass in each direction, so the time is linear.
    """
    forward, backward = [frozenset[str]()] * len(sentence), [frozenset[str]()] * len(sentence)
    starts = {cue.start: cue for cue in cues}
    lists = _in_list(sentence, starts)
    active: frozenset[str] = frozenset()
    for i in range(len(sentence)):
        cue = starts.get(i)
        if cue is not None:
            says, _, way = cue.tag.rpartition(" ")
            if cue.tag == _ENDS_ALL or way == "backward":
                active = frozenset()
            elif cue.tag == _ENDS_NEGATION or (cue.tag == _ENDS_LISTLESS and not lists[i]):
                active -= {NEGATIVE}
            elif way in ("forward", "around"):
                if says == UNCERTAIN and i and sentence[i - 1] == ",":
                    active -= {NEGATIVE}  # "no effusion, likely atelectasis"
                active |= {says}
        forward[i] = active
    ends = {cue.end - 1: cue for cue in cues}
    active, reaches_from = frozenset(), -1
    for i in reversed(range(len(sentence))):
        cue = ends.get(i)
        if cue is not None:
            says, _, way = cue.tag.rpartition(" ")
            if cue.tag in (_ENDS_ALL, _ENDS_LISTLESS):
                if cue.end == reaches_from:
                    reaches_from = cue.start  # the verb of the cue itself: "pneumonia is | not excluded"
                else:
                    active = frozenset()
            elif cue.tag == _ENDS_NEGATION:
                active -= {NEGATIVE}
            elif way == "around":
                active |= {says}
            # A cue with nothing behind it speaks of what comes before: "pneumonia possible".
            elif way == "backward" or (way == "forward" and _is_last(sentence, i)):
                active, reaches_from = frozenset({says}), cue.start
        backward[i] = active
    return [before | after for before, after in zip(forward, backward, strict=True)]


def _is_last(sentence: Words, i: int) -> bool:
    return i + 1 == len(sentence) or sentence[i + 1] in ",;"


def _in_list(sentence: Words, starts: dict[int, Match]) -> list[bool]:
    """For each word whether an "or" follows in its part of the sentence."""
    found = [False] * len(sentence)
    ahead = False
    for i in reversed(range(len(sentence))):
        if i in starts and starts[i].tag == _ENDS_ALL:
            ahead = False
        ahead = ahead or sentence[i] in ("or", "nor")
        found[i] = ahead
    return found

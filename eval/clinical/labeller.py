"""The 14 observations of CheXpert in a radiology report, by rules and without weights; docs/clinical.md.

A mention is a phrase of an observation (phrases.yaml). The cues of its sentence decide what is said of it, in
the manner of NegEx (Chapman et al. 2001) and ConText (Harkema et al. 2009): a negation or a doubt reaches
over the words after or before it up to the end of that part of the sentence. Of several mentions the
strongest counts: positive, then uncertain, then negative (CheXpert, Irvin et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType

import yaml

from eval.clinical.context import DROPPED, NEGATIVE, UNCERTAIN, context
from eval.clinical.phrases import Phrases
from eval.clinical.words import Words, sentences

NO_FINDING, DEVICES = "No Finding", "Support Devices"
OBSERVATIONS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    DEVICES,
)
# The five that the CheXpert competition scores.
COMPETITION = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


class Status(IntEnum):
    """What a report says of an observation that it mentions, weakest first."""

    NEGATIVE = 0
    UNCERTAIN = 1
    POSITIVE = 2


@dataclass(frozen=True)
class _Table:
    """The phrases of phrases.yaml, ready to be found."""

    mentions: Phrases
    cues: Phrases


# Tags of phrases that are no mention of an observation.
_NONE, _OTHER, _CLEAN = "none", "other", "clean"
_DOUBTFUL, _NORMAL = "doubtful ", "normal "


@cache
def _table() -> _Table:
    content = yaml.safe_load(Path(__file__).with_name("phrases.yaml").read_text(encoding="utf-8"))
    tags = {_NONE: content["none"], _OTHER: content["other"], _CLEAN: content["clean"]}
    for name, kinds in content["observations"].items():
        tags[name] = kinds["mention"]
        tags[_DOUBTFUL + name] = kinds.get("doubtful", [])
        tags[_NORMAL + name] = kinds.get("normal", [])
    return _Table(Phrases(tags), Phrases(content["cues"]))


@lru_cache(maxsize=100_000)
def label(text: str) -> Mapping[str, Status]:
    """The status of each observation that a report mentions.

    "No Finding" is positive where something is called normal or absent, and neither another observation than
    support devices nor another abnormality is positive or uncertain; else it is not mentioned.
    """
    found: dict[str, Status] = {}
    for sentence in sentences(text):
        for name, status in _of_sentence(sentence):
            found[name] = max(status, found.get(name, status))
    normal = found.pop(_CLEAN, None) is not None or Status.NEGATIVE in found.values()
    if normal and all(status == Status.NEGATIVE for name, status in found.items() if name != DEVICES):
        found[NO_FINDING] = Status.POSITIVE
    found.pop(_OTHER, None)
    return MappingProxyType({name: found[name] for name in OBSERVATIONS if name in found})


def positive(text: str, among: Iterable[str] = OBSERVATIONS) -> frozenset[str]:
    """The observations that are positive or uncertain in a report."""
    found = label(text)
    return frozenset(name for name in among if found.get(name, Status.NEGATIVE) > Status.NEGATIVE)


def _of_sentence(sentence: Words) -> tuple[tuple[str, Status], ...]:
    """The mentions of one sentence, each with its status."""
    mentions = _table().mentions.find(sentence)
    if not mentions:
        return ()
    hidden = {i for match in mentions if match.tag == _NONE for i in range(match.start, match.end)}
    said_of = context(sentence, _table().cues.find_apart(sentence))
    found = []
    for match in mentions:
        # The last word stands for the phrase: "heart is not enlarged".
        said = said_of[match.end - 1]
        if match.end - 1 in hidden or DROPPED in said:
            continue
        if match.tag.startswith(_NORMAL) or match.tag == _CLEAN:
            if NEGATIVE not in said or match.tag == _CLEAN:
                found.append((match.tag.removeprefix(_NORMAL), Status.NEGATIVE))
        elif NEGATIVE in said:
            found.append((match.tag.removeprefix(_DOUBTFUL), Status.NEGATIVE))
        elif UNCERTAIN in said or match.tag.startswith(_DOUBTFUL):
            found.append((match.tag.removeprefix(_DOUBTFUL), Status.UNCERTAIN))
        else:
            found.append((match.tag, Status.POSITIVE))
    return tuple(found)

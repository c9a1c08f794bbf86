"""From a report to its sentences, each a tuple of words in lower case and in the singular.

Sections that say why an image was taken, how, and with what it is compared (INDICATION, TECHNIQUE,
COMPARISON, ...) are left out: "rule out pneumonia" there says nothing about the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

Words = tuple[str, ...]

# Words that make a title one of findings, and of what is left out.
_FINDINGS = {
    "findings",
    "finding",
    "impression",
    "impressions",
    "conclusion",
    "conclusions",
    "opinion",
    "report",
}
_LEFT_OUT = {
    *(
        "indication",
        "indications",
        "history",
        "clinical",
        "reason",
        "diagnosis",
        "order",
        "contact",
        "attending",
    ),
    *("comparison", "comparisons", "technique", "examination", "examinations", "exam", "study", "procedure"),
    *("notification", "recommendation", "recommendations"),
}
# "CHEST, PA AND LATERAL EXAM:" stands before findings.
_IMAGE = {"chest", "view", "views", "film", "radiograph", "radiographs"}
# A known title counts anywhere ("... fever. FINDINGS: ..."), any other only at the start of a line.
_INSIDE = re.compile(
    r"(?i)(?<![a-z])((?:clinical |patient )?(?:history|indication|information)|reason for exam(?:ination)?|"
    r"comparisons?|technique|examination|findings?(?: and impression|/impression)?|impression|conclusion) ?:"
)
_TITLE = re.compile(r"([A-Za-z][A-Za-z ,/&()-]{1,60}):")
_ITEM = re.compile(r"^(?:\d{1,2}[.)]|[-*\u2022])\s")
_WORD = re.compile(r"\d+(?:\.\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?|[.,;:?/()]")
_ABBREVIATION = re.compile(r"(?i)\b(vs|dr|approx|e\.g|i\.e)\.")
_IRREGULAR = {
    "pneumothoraces": "pneumothorax",
    "bullae": "bulla",
    "atelectases": "atelectasis",
    "masses": "mass",
}
_SINGULAR = {"was", "has", "gas", "this", "does", "series", "always"}


def sentences(text: str) -> tuple[Words, ...]:
    """The sentences of the sections that describe the image."""
    return tuple(sentence for block in _blocks(text) for sentence in _split(block))


def words(text: str) -> Words:
    """Lower case words in the singular, and punctuation; a hyphen parts two words."""
    return tuple(_singular(word) for word in _WORD.findall(text.lower().replace("\u2019", "'")))


def _blocks(text: str) -> Iterator[str]:
    """Runs of text without a blank line, list item or section title inside."""
    block: list[str] = []
    left_out = begun = False
    for line in _INSIDE.sub(r"\n\1:", _ABBREVIATION.sub(r"\1", text)).splitlines():
        line = line.strip()
        match = _TITLE.match(line)
        kind = _kind(match[1]) if match else None
        if block and (kind or not line or _ITEM.match(line)):
            yield " ".join(block)
            block = []
        if match and kind:
            rest = line[match.end() :].strip()
            left_out, begun = kind == "left out", bool(rest)
            line = rest if kind == "findings" else line
        elif line:
            begun = True
        elif begun:
            left_out = False  # many reports give findings no title: a paragraph after the indication
        if line and not left_out:
            block.append(_ITEM.sub("", line))
    if block:
        yield " ".join(block)


def _kind(title: str) -> str | None:
    """What a section with this title holds: "findings", something "left out", or "more"; None where it is no
    title of a section, such as "Heart" in "Heart: normal"."""
    parts = re.findall(r"[a-z]+", title.lower())
    capitals = title.isupper()
    if not capitals and len(parts) > 3:
        return None
    if _FINDINGS.intersection(parts):
        return "findings"
    if _LEFT_OUT.intersection(parts) and not (capitals and _IMAGE.intersection(parts)):
        return "left out"
    return "more" if capitals else None


def _split(block: str) -> Iterator[Words]:
    sentence: list[str] = []
    for word in words(block):
        if word != ".":
            sentence.append(word)
        elif sentence:
            yield tuple(sentence)
            sentence = []
    if sentence:
        yield tuple(sentence)


@lru_cache(maxsize=50_000)
def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")) or word in _SINGULAR:
        return word
    return word[:-3] + "y" if word.endswith("ies") else word[:-1]

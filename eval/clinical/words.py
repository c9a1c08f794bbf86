"""From a report to its sentences, each a list of words: sections that describe this image only, lower case, singular.

Sections that say why an image was taken, how, and with what it is compared (INDICATION, TECHNIQUE, COMPARISON,
...) are left out: "rule out pneumonia" there says nothing about the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

Words = tuple[str, ...]

_LEFT_OUT = frozenset(
    "indication indications history comparison comparisons technique examination exam examinations study procedure "
    "reason clinical notification diagnosis order recommendation contact attending".split()
)
_READ = frozenset(
    "findings finding impression impressions conclusion conclusions opinion report chest view views film radiograph radiographs".split()
)
# A known title counts anywhere ("... fever. FINDINGS: ..."), any other only at the start of a line.
_INSIDE = re.compile(
    r"(?i)(?<![a-z])((?:clinical |patient )?(?:history|indication|information)|reason for exam(?:ination)?|"
    r"comparisons?|technique|examination|findings?(?: and impression|/impression)?|impression|conclusion) ?:"
)
_TITLE = re.compile(r"([A-Za-z][A-Za-z ,/&()-]{1,60}):")
_ITEM = re.compile(r"(?:\d{1,2}[.)]|[-*\u2022])\s")
_WORD = re.compile(r"\d+(?:\.\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?|[.,;:?/()]")
_ABBREVIATION = re.compile(r"(?i)\b(vs|dr|approx|e\.g|i\.e)\.")
_IRREGULAR = {
    "pneumothoraces": "pneumothorax",
    "bullae": "bulla",
    "atelectases": "atelectasis",
    "masses": "mass",
}
_SINGULAR = frozenset("was has gas is this as does series always".split())


def sentences(text: str) -> tuple[Words, ...]:
    """The sentences of the sections that describe the image."""
    return tuple(sentence for block in _blocks(text) for sentence in _split(block))


def words(text: str) -> Words:
    """Lower case words in the singular, and punctuation; a hyphen parts two words."""
    return tuple(_singular(word) for word in _WORD.findall(text.lower().replace("\u2019", "'")))


def _blocks(text: str) -> Iterator[str]:
    """Runs of text without a blank line, list item or section title inside."""
    block: list[str] = []
    left_out = started = False
    for line in _INSIDE.sub(r"\n\1:", _ABBREVIATION.sub(r"\1", text)).splitlines():
        line = line.strip()
        title = _TITLE.match(line)
        kind = _kind(title[1]) if title else None
        ends = not line or kind is not None or _ITEM.match(line) is not None
        if ends and block:
            yield " ".join(block)
            block = []
        if kind is not None:
            left_out, started = not kind, False
            line = line[title.end() :].strip() if title and title[1].lower().split()[0] in _READ else line
        elif not line and started:
            left_out = (
                False  # a paragraph of its own after an indication: many reports give findings no title
            )
        started = started or bool(line if kind is None else title and line[title.end() :].strip())
        if line and not left_out:
            block.append(_ITEM.sub("", line, count=1) if _ITEM.match(line) else line)
    if block:
        yield " ".join(block)


def _kind(title: str) -> bool | None:
    """Whether the section of a title is read; None where it is no title of a section."""
    parts = set(re.findall(r"[a-z]+", title.lower()))
    if parts & _READ:
        return True
    if parts & _LEFT_OUT:
        return False
    return True if title.isupper() else None


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

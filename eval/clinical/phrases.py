"""Phrases of words, and where they occur in a sentence, in time linear in its length.

A phrase is written as its words: `heart|cardiac size? ~ normal`. `a|b` is either word, `word?` may be absent,
`~` stands for up to 4 words inside a part of a sentence, `~~` for up to 8 that may hold commas. Words are
compared in the singular.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from eval.clinical.words import Words, words

# What a gap never leaps over.
_ENDS = frozenset({";", "?", "but", "however", "although", "though", "except", "which"})
_GAPS = {"~": (4, _ENDS | {",", "normal", "clear"}), "~~": (8, _ENDS)}

_Gap = tuple[int, frozenset[str]]
_Item = frozenset[str] | _Gap


@dataclass(frozen=True, slots=True)
class Match:
    """Words start..end (end exclusive) are a phrase of `tag`."""

    start: int
    end: int
    tag: str


class Phrases:
    """Phrases by tag.

    Raises:
        ValueError: a phrase starts or ends with something other than a plain word.
    """

    def __init__(self, table: Mapping[str, Iterable[str]]) -> None:
        self._by_first: dict[str, list[tuple[tuple[_Item, ...], str]]] = defaultdict(list)
        for tag, phrases in table.items():
            for items in (items for phrase in phrases for items in _variants(phrase.split())):
                first, last = items[0], items[-1]
                if isinstance(first, tuple) or isinstance(last, tuple):
                    raise ValueError(f"a phrase of {tag!r} starts or ends with a gap")
                for word in first:
                    self._by_first[word].append((items[1:], tag))

    def find(self, sentence: Words) -> list[Match]:
        """Every match, by start; at most one (the longest) of a tag at a start."""
        found = []
        for start, word in enumerate(sentence):
            longest: dict[str, int] = {}
            for rest, tag in self._by_first.get(word, ()):
                end = _end(rest, sentence, start + 1)
                if end > longest.get(tag, 0):
                    longest[tag] = end
            found += [Match(start, end, tag) for tag, end in longest.items()]
        return found

    def find_apart(self, sentence: Words) -> list[Match]:
        """Matches that share no word: the longest of those that start first."""
        found: list[Match] = []
        for match in sorted(self.find(sentence), key=lambda m: (m.start, -m.end)):
            if not found or match.start >= found[-1].end:
                found.append(match)
        return found


def _variants(written: list[str]) -> Iterator[tuple[_Item, ...]]:
    """The phrase with and without each word that may be absent."""
    if not written:
        yield ()
        return
    head, *tail = written
    absent = len(head) > 1 and head.endswith("?")
    options = head.removesuffix("?") if absent else head
    item: _Item = _GAPS.get(head) or frozenset(
        word for option in options.split("|") for word in words(option)
    )
    for rest in _variants(tail):
        yield (item, *rest)
        if absent:
            yield rest


def _end(items: tuple[_Item, ...], sentence: Words, at: int) -> int:
    """Where a match of items that starts at word `at` ends; 0 if there is none."""
    for i, item in enumerate(items):
        if isinstance(item, tuple):
            limit, ends = item
            for skip in range(limit + 1):
                end = _end(items[i + 1 :], sentence, at + skip)
                if end or at + skip >= len(sentence) or sentence[at + skip] in ends:
                    return end
            return 0
        if at >= len(sentence) or sentence[at] not in item:
            return 0
        at += 1
    return at

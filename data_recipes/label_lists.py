"""Columns that hold several labels in one text: with a sign between them, or as a list written out."""

from __future__ import annotations

import re

import polars as pl

_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_LIST = re.compile(r"\s*[\[({].*[\])}]\s*", re.DOTALL)
_SIGNS = "|;\n,"
_EMPTY = ("", "nan", "none", "null", "[]")


def parted(values: pl.Series, separator: str | None) -> pl.Series:
    """Each text as the list of its labels; what says nothing is an empty list, null stays null.

    Args:
        separator: between labels; "" for one label a text; None for the likeliest: lists written out
            (`['a', 'b']`, `[a, b]`) first, then the first of `|`, `;`, a new line and `,` that occurs.
    """
    if separator is None:
        texts = [text for text in values.drop_nulls() if not _LIST.fullmatch(text)]
        separator = next((sign for sign in _SIGNS if any(sign in text for text in texts)), "")
        parts = {text: _listed(text) for text in values.drop_nulls() if _LIST.fullmatch(text)}
    else:
        parts = {}
    found = [None if text is None else parts.get(text, _cut(text, separator)) for text in values]
    return pl.Series(found, dtype=pl.List(pl.String))


def _cut(text: str, separator: str) -> list[str]:
    pieces = text.split(separator) if separator else [text]
    return [piece.strip() for piece in pieces if piece.strip().lower() not in _EMPTY]


def _listed(text: str) -> list[str]:
    """The parts of a list written out, with or without quotes."""
    if quoted := re.findall(_QUOTED, text):
        return [label for part in quoted if (label := part[1:-1].strip())]
    return _cut(text.strip()[1:-1], ",")

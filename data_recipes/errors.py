"""Mistakes of a user: one clear line that says what, where and what to do. Commands exit with 2 on them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user's, worded as one line for the user. Never shown with a traceback."""


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> UserError:
    """The error for a name that is not in a table, with a did-you-mean.

    >>> str(unknown("task", "vqaa", ["rec", "vqa"]))
    "unknown task 'vqaa': did you mean 'vqa'? Known: rec, vqa"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return UserError(
        f"unknown {what} {name!r}: {guess}Known: {', '.join(names)}{'. ' + hint if hint else ''}"
    )

"""Text from data inside Markdown."""

from __future__ import annotations

_SPECIAL = str.maketrans({"&": "&amp;", "<": "&lt;", "|": "\\|", "[": "\\[", "`": "\\`"})


def plain(text: str) -> str:
    """One line that reads the same in Markdown, and can neither break a table nor become HTML, a link or a
    picture there.

    >>> plain("a | <b>")
    'a \\\\| &lt;b>'
    """
    return " ".join(text.split()).translate(_SPECIAL)

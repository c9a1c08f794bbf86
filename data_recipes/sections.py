"""Report texts: their sections, which of them is the target, sentences that a single image cannot support.

All of it works on columns, so that several 100,000 reports take seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

Section = Literal["findings", "impression", "last paragraph"]

# A header: words in capitals at the start of a line, and a colon.
_HEADER = re.compile(r"^[ \t]*([A-Z][A-Z /&,()-]{2,60}?)[ \t]*:", re.MULTILINE)
_KNOWN = {"findings": ("FINDING",), "impression": ("IMPRESSION", "CONCLUSION")}

# A sentence: up to a stop that white space follows, so that "2.5 cm" stays whole.
SENTENCE = r"(?:[^.!?]|[.!?][^\s.!?])+[.!?]*"
# Words that speak of an earlier image. "Increased" and "new" alone do not: "increased lung markings" may be
# all that is seen.
PRIOR = (
    r"(?i)\b(?:compar(?:ed|ison|ing|ative)|(?:prior|previous(?:ly)?|preceding|earlier) |unchanged|stable\b|"
    r"interval(?:ly)?\b|again (?:seen|noted|demonstrated|identified|is|are)|as before|no longer|newly|"
    r"no new\b|since (?:the )?(?:prior|previous|last|exam|study)|persist(?:s|ent|ing)?\b|re-?demonstrat\w+|"
    r"no (?:significant |appreciable |substantial )?change|(?:improv|worsen|resolv)(?:ed|ing)\b|follow-?up|"
    r"(?:has|have) (?:cleared|increased|decreased|developed|been (?:removed|placed)))"
)
REMOVED = r"XXXX|___"


class ReportOptions(BaseModel):
    """Policies on reports.

    Attributes:
        sections: the first of these that a report has is the target.
        priors: what happens to sentences that compare with an earlier image, which the model does not see.
        removed: what happens to sentences with text that was taken out for privacy (XXXX, ___).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sections: list[Section] = Field(default=["findings", "impression", "last paragraph"], min_length=1)
    priors: Literal["drop", "keep"] = "drop"
    removed: Literal["drop", "keep"] = "drop"


def split_sections(text: str) -> dict[str, str]:
    """`findings`, `impression` and `last paragraph` of a report in plain text, those that it has.

    >>> split_sections("FINDINGS: Clear lungs.\\n\\nIMPRESSION: Normal.")["findings"]
    'Clear lungs.'
    """
    headers = list(_HEADER.finditer(text))
    found: dict[str, str] = {}
    for header, following in zip_longest(headers, headers[1:]):
        body = text[header.end() : following.start() if following else len(text)].strip()
        for name, starts in _KNOWN.items():
            if body and header[1].startswith(starts):
                found.setdefault(name, body)
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    if paragraphs:
        found["last paragraph"] = _HEADER.sub("", paragraphs[-1]).strip()
    return {name: body for name, body in found.items() if body}


def chosen(sections: Sequence[Section]) -> pl.Expr:
    """The first of these sections that is not blank; each is a column of that name."""
    texts = (pl.col(name).str.strip_chars() for name in sections)
    return pl.coalesce(pl.when(text.str.len_chars() > 0).then(text) for text in texts)


def cleaned(text: pl.Expr, options: ReportOptions) -> pl.Expr:
    """The sentences of a report that the options keep, in one line; "" where none is left."""
    sentence = pl.element()
    keep = sentence.str.contains(r"\w")
    if options.priors == "drop":
        keep &= ~sentence.str.contains(PRIOR)
    if options.removed == "drop":
        keep &= ~sentence.str.contains(REMOVED)
    sentences = text.str.replace_all(r"\s+", " ").str.extract_all(SENTENCE)
    return sentences.list.eval(sentence.filter(keep).str.strip_chars()).list.join(" ")

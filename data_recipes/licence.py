"""Terms of a source: its licence, how people get at it, what may be passed on, and what to cite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# How people get at the files, from the freest to the strictest.
ACCESS = {
    "own": "your own files",
    "open": "open, no account",
    "registration": "after registration",
    "rules": "under the rules of a competition",
    "credentialed": "for credentialed users, after training",
    "unknown": "access not stated",
}


@dataclass(frozen=True, slots=True)
class Cite:
    """What to cite. `authors` as in BibTeX, in part: "Wang, Xiaosong and others"."""

    key: str
    authors: str
    title: str
    where: str
    year: int

    @property
    def text(self) -> str:
        """One line for people."""
        names = [name.partition(",")[0].strip() for name in self.authors.split(" and ")]
        names = [name.strip("{}") for name in names]
        who = f"{names[0]} et al." if len(names) > 2 or names[-1] == "others" else " and ".join(names)
        return f"{who}: {self.title}. {self.where}, {self.year}."

    @property
    def bibtex(self) -> str:
        parts = {"author": self.authors, "title": f"{{{self.title}}}", "howpublished": self.where}
        lines = [f"  {name} = {{{value}}}," for name, value in parts.items()]
        return "\n".join([f"@misc{{{self.key},", *lines, f"  year = {{{self.year}}}", "}"])


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms of a source.

    Attributes:
        name: of the licence, for people.
        access: one of ACCESS.
        share: what of the files, and of what is made from them, may be passed on.
        hub: identifier of the licence on dataset cards, "other" where it has none.
        page: the publisher's page, without scheme.

    Raises:
        ValueError: `access` is none of ACCESS.
    """

    name: str
    access: str = "unknown"
    share: str = "not stated: ask the publisher"
    hub: str = "other"
    page: str = ""
    cite: Cite | None = None

    def __post_init__(self) -> None:
        if self.access not in ACCESS:
            raise ValueError(f"access {self.access!r} is none of {', '.join(ACCESS)}")

    def __str__(self) -> str:
        return f"{self.name} ({ACCESS[self.access]})"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def licence(said: Any) -> Licence:
    """A licence as a source or `mixture.json` states it: a Licence, its JSON, or a line of text, of which
    only a word on access is understood.

    >>> str(licence("CC0 1.0 (open, no account)"))
    'CC0 1.0 (open, no account)'
    """
    if isinstance(said, Licence):
        return said
    if isinstance(said, Mapping):
        cite = said.get("cite")
        return Licence(**{**said, "cite": Cite(**cite) if cite else None})
    text = str(said)
    strictest_first = list(ACCESS)[-2:0:-1]
    access = next((word for word in strictest_first if word in text.lower()), "unknown")
    if access != "unknown" and text.endswith(")"):
        text = text.rpartition(" (")[0]
    return Licence(text, access)

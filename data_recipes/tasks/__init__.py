"""The seven tasks, one file each. A new task is one file and its name in TASKS.

A task module has a NAME, PROMPTS (kind of entry -> templates), and two functions that are inverse of each
other: `render` writes an answer as target text with `{box}` slots and the boxes that fill them, `parse` reads
it back. `parse` returns None for an output that cannot be read; it is scored as wrong, never dropped.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from data_recipes.errors import unknown
from data_recipes.records import BOX_SLOT, Box

TASKS = ("calculation", "report", "severity", "findings", "rec", "reg", "vqa")

# What may stand before a short answer without changing it.
_LEAD = re.compile(r"(?:(?:an?|the) |answer(?: is:?|:) |[ .*\"`])+")


class Written(NamedTuple):
    """Text with one `{box}` slot for each of `boxes`."""

    text: str
    boxes: tuple[Box, ...] = ()


class Task(Protocol):
    """What each module of this folder offers."""

    NAME: str
    PROMPTS: Mapping[str, tuple[str, ...]]

    def render(self, answer: Any) -> tuple[str, tuple[Box, ...]]:
        """The target of an answer.

        Raises:
            ValueError: the answer is not a legal value of the task.
        """
        ...

    def parse(self, text: str, boxes: Sequence[Box] = ()) -> Any | None:
        """The answer in a text whose boxes were replaced by slots, or None."""
        ...


def task(name: str) -> Task:
    """The task module of that name.

    Raises:
        UserError: no such task.
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return cast(Task, importlib.import_module(f"data_recipes.tasks.{name}"))


def short(text: str) -> str:
    """The canonical form of a phrase or short answer: lower case, single spaces, no box slots, no article
    before it, no stop or Markdown around it. Idempotent, and linear in the length of the text.

    >>> short("The answer is:  **A small left  pleural effusion.**")
    'small left pleural effusion'
    """
    folded = " ".join(text.lower().replace(BOX_SLOT, " ").split()).strip(' .*"`')
    lead = _LEAD.match(folded)
    return folded[lead.end() :] if lead else folded

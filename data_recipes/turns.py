"""Conversations as other tools keep them, as exchanges of a question and an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatbot", "bot"), "assistant"),
    "system": "system",
}
_IMAGE = re.compile(r"[ \t]*\n?[ \t]*<image>[ \t]*\n?[ \t]*", re.IGNORECASE)


class Talk(NamedTuple):
    """Exchanges (question, answer) in order.

    Attributes:
        marks: how many images the texts ask for.
        shown: images that stand in the content itself, as paths or structures.
        faults: why turns were left out.
        system: whether a system message was left out.
    """

    exchanges: list[tuple[str, str]]
    marks: int
    shown: list[Any]
    faults: list[str]
    system: bool


def talk(value: Any) -> Talk:
    """A conversation: turns of `role` and `content` (a text, or parts of type text and image), or of `from`
    and `value`.

    Raises:
        ValueError: it is none, or user and assistant do not take turns.
    """
    if not isinstance(value, list) or not value:
        raise ValueError("holds no conversation: a list of turns was expected")
    said: list[tuple[str, str]] = []
    marks, system = 0, False
    shown: list[Any] = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, Mapping):
            raise ValueError(f"turn {number} is no object with role and content")
        name = turn.get("role") or turn.get("from")
        role = _ROLES.get(str(name).lower())
        if role is None:
            raise ValueError(f"turn {number} has role {name!r}: user, assistant and system are known")
        content = turn.get("content") if turn.get("content") is not None else turn.get("value")
        text, count, images = _content(content, number)
        marks, shown = marks + count, shown + images
        if role == "system":
            system = True
            continue
        expected = "assistant" if len(said) % 2 else "user"
        if role != expected:
            raise ValueError(f"turn {number} is of the {role}, expected the {expected}")
        said.append((role, text))
    texts = [text for _, text in said]
    faults = ["the last question has no answer"] if len(texts) % 2 else []
    return Talk(list(zip(texts[::2], texts[1::2], strict=False)), marks, shown, faults, system)


def _content(content: Any, number: int) -> tuple[str, int, list[Any]]:
    """The text of a turn, without marks of images; how many there were; and images given in it."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    marks = 0
    texts: list[str] = []
    shown: list[Any] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part["text"], str):
            marks += len(_IMAGE.findall(part["text"]))
            texts.append(_IMAGE.sub("\n", part["text"]).strip())
        elif kind in ("image", "image_url"):
            marks += 1
            if (image := _given(part)) is not None:
                shown.append(image)
        else:
            raise ValueError(f"turn {number} holds {kind or 'content'} that is neither text nor an image")
    return "\n".join(filter(None, texts)), marks, shown


def _given(part: Mapping[str, Any]) -> Any:
    """The image that a part of the content names or holds, None for a mere mark."""
    for key in ("image", "path", "url", "image_url"):
        value = part.get(key)
        if isinstance(value, Mapping) and "url" in value:
            value = value["url"]
        if value is not None:
            return value
    return None

"""Referring phrases: how an abnormality is named in the `rec`, `reg`, `report` and `vqa` entries."""

from __future__ import annotations

from data_recipes.scene import Abnormality

# Named by side and size; everything else in the lung is named by where it lies.
PLEURAL = ("pleural effusion", "pneumothorax")
LUNG = ("consolidation", "atelectasis", "nodule", "mass")
UNCOUNTABLE = ("consolidation", "atelectasis", "edema")


def noun(abnormality: Abnormality) -> str:
    """What it is, without place and size: "nodule", "endotracheal tube"."""
    if abnormality.name == "support device":
        return abnormality.attributes.get("kind", abnormality.name)
    return "enlarged heart" if abnormality.name == "cardiomegaly" else abnormality.name


def place(abnormality: Abnormality) -> str:
    """What and where, without the size: "left pleural effusion", "nodule in the right upper zone"."""
    what = noun(abnormality)
    if abnormality.name not in LUNG:
        return f"{abnormality.side} {what}".strip()
    if abnormality.side and abnormality.zone:
        return f"{what} in the {abnormality.side} {abnormality.zone} zone"
    return f"{what} in the {abnormality.side} lung" if abnormality.side else what


def phrase(abnormality: Abnormality) -> str:
    """The referring phrase: "large left pleural effusion", "nodule in the right upper zone", ..."""
    if abnormality.name in PLEURAL:
        return f"{abnormality.size} {place(abnormality)}".strip()
    return place(abnormality)


def article(text: str) -> str:
    """`text` with "a" or "an" before it, or alone when it cannot be counted."""
    if text.startswith(UNCOUNTABLE):
        return text
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def plural(text: str) -> str:
    """ "nodules in the right upper zone" from "nodule in the right upper zone"."""
    head, preposition, rest = text.partition(" in the ")
    if head.startswith(UNCOUNTABLE):
        return text
    if head.endswith("pneumothorax"):
        head = head.removesuffix("x") + "ces"
    else:
        head += "es" if head.endswith("s") else "s"
    return head + preposition + rest

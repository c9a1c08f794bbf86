"""The findings section of a report, in sentences, from a scene. Every sentence is true of the scene, and what
is absent is said to be absent. Few wordings a statement, so that a small model can learn them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from data_recipes.phrases import LUNG, PLEURAL, UNCOUNTABLE, article, phrase, plural
from data_recipes.scene import EDEMA_GRADES, Abnormality, Scene

_NUMBERS = ("no", "a", "two", "three", "four", "five", "six")

# Sections in the orders that reports have; devices come first or last.
_ORDERS = (
    ("heart", "lungs", "edema", "pleura", "devices"),
    ("lungs", "edema", "pleura", "heart", "devices"),
    ("devices", "heart", "lungs", "edema", "pleura"),
)
_HEART_NORMAL = ("The heart is normal in size.", "The heart size is normal.", "The heart is not enlarged.")
_HEART_LARGE = ("The heart is enlarged.", "There is cardiomegaly.", "The heart size is enlarged.")
_LUNGS_CLEAR = (
    "The lungs are clear, with no consolidation, nodule or mass.",
    "Both lungs are clear.",
    "There is no consolidation, atelectasis, nodule or mass.",
)
_NO_OPACITY = (
    "There is no consolidation, atelectasis, nodule or mass.",
    "No consolidation, nodule or mass is seen.",
)
_REST_CLEAR = ("The lungs are otherwise clear.", "The rest of the lungs is clear.")
_NO_EDEMA = ("There is no pulmonary edema.", "No edema is seen.")
_NO_PLEURA = ("There is no pleural effusion or pneumothorax.", "No pleural effusion or pneumothorax is seen.")
_NO_DEVICE = ("There is no support device.", "No support device is seen.")


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def report(scene: Scene, rng: np.random.Generator) -> str:
    """The report: 5 to 7 sentences, about 20 to 60 words; wording and order come from `rng`."""
    by_name: dict[str, list[Abnormality]] = {}
    for abnormality in scene.abnormalities:
        by_name.setdefault(abnormality.name, []).append(abnormality)
    sections = {
        "heart": [pick(rng, _HEART_LARGE if "cardiomegaly" in by_name else _HEART_NORMAL)],
        "lungs": _lungs(by_name, scene.edema, rng),
        "edema": [_edema(scene.edema, rng)],
        "pleura": _pleura(by_name, rng),
        "devices": _devices(by_name.get("support device", []), rng),
    }
    order = _ORDERS[int(rng.random() * len(_ORDERS))]
    return " ".join(sentence for section in order for sentence in sections[section])


def _lungs(by_name: dict[str, list[Abnormality]], edema: int, rng: np.random.Generator) -> list[str]:
    named = [name for name in LUNG if name in by_name]
    if not named:
        return [pick(rng, _NO_OPACITY if edema else _LUNGS_CLEAR)]
    # A sentence for each of two kinds; more kinds share sentences, so that the report stays short.
    groups = (
        [named] if len(named) == 1 else [named[:1], named[1:]] if len(named) < 4 else [named[:2], named[2:]]
    )
    sentences = [_present([a for name in group for a in by_name[name]], rng) for group in groups]
    if len(named) == 1 and not edema:
        sentences.append(pick(rng, _REST_CLEAR))
    return sentences


def _edema(grade: int, rng: np.random.Generator) -> str:
    if not grade:
        return pick(rng, _NO_EDEMA)
    name = EDEMA_GRADES[grade]
    return pick(rng, (f"There is {name}.", f"{_capital(name)} is seen."))


def _pleura(by_name: dict[str, list[Abnormality]], rng: np.random.Generator) -> list[str]:
    if not any(name in by_name for name in PLEURAL):
        return [pick(rng, _NO_PLEURA)]
    return [
        _present(by_name[name], rng)
        if name in by_name
        else pick(rng, (f"There is no {name}.", f"No {name} is seen."))
        for name in PLEURAL
    ]


def _devices(devices: Sequence[Abnormality], rng: np.random.Generator) -> list[str]:
    if not devices:
        return [pick(rng, _NO_DEVICE)]
    return [_present(devices, rng, seen="in place")]


def _present(abnormalities: Iterable[Abnormality], rng: np.random.Generator, seen: str = "seen") -> str:
    """One sentence that names all of these: "There is a nodule in the right upper zone."."""
    counts = Counter(phrase(a) for a in abnormalities)
    items = [
        article(text) if n == 1 or text.startswith(UNCOUNTABLE) else f"{_number(n)} {plural(text)}"
        for text, n in sorted(counts.items())
    ]
    first_many = items[0].startswith(_NUMBERS[2:])
    many = len(items) > 1 or first_many
    listed = items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
    return pick(
        rng,
        (
            f"There {'are' if first_many else 'is'} {listed}.",
            f"{_capital(listed)} {'are' if many else 'is'} {seen}.",
        ),
    )


def _number(n: int) -> str:
    return _NUMBERS[n] if n < len(_NUMBERS) else str(n)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]

"""Texts that make a careless regular expression slow; for the tests and for `benchmarks/texts.py`."""

from __future__ import annotations


def hostile(size: int) -> list[str]:
    """Answers of about `size` characters each."""
    return [
        "a" * size,
        "0" * size,
        "0." * (size // 2),
        "0.4" + "9" * size + "e9",
        "0.4" + "9" * size,
        " " * size,
        "the " * (size // 4),
        "grade " * (size // 6),
        "no a" * (size // 4),
        "no " * (size // 3) + "edema",
        ", and " * (size // 6),
        "findings:" * (size // 9),
        "*" * size + "x" + '"' * size,
        "than " * (size // 5),
        "0 - 3" * (size // 5),
        "{box}" * (size // 5),
        "\u0130\u2028\ud7ff\U0010ffff" * (size // 4),
        "yes " + "*" * size,
    ]

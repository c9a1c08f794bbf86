"""At which steps of a run something is measured."""

from __future__ import annotations

import re
from typing import NamedTuple

from data_recipes.errors import UserError

_END = "end"


class When(NamedTuple):
    """A step, or a share of all steps."""

    step: int | None
    share: float | None

    def of(self, max_steps: int) -> int:
        """The step in a run of that many."""
        return self.step if self.step is not None else round((self.share or 0.0) * max_steps)


def parse_steps(text: str) -> list[When]:
    """Such as "0,10,25%,end". Step 0 is before the first.

    Raises:
        UserError: a part is neither a step, nor a percentage, nor "end".
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part == _END:
            found.append(When(None, 1.0))
        elif re.fullmatch(r"\d+", part):
            found.append(When(int(part), None))
        elif re.fullmatch(r"\d+(\.\d+)?%", part) and float(part[:-1]) <= 100:
            found.append(When(None, float(part[:-1]) / 100))
        else:
            raise UserError(
                f"--dynamics_steps {text}: {part!r} is no step; give steps, percentages of all steps, or "
                f"'end', such as 0,50,25%,end"
            )
    return found


def steps_of(text: str, max_steps: int) -> list[int]:
    """The steps of a run, in order; those beyond its end are left out.

    >>> steps_of("0,10,50%,end,900", 100)
    [0, 10, 50, 100]
    """
    return sorted({step for when in parse_steps(text) if (step := when.of(max_steps)) <= max_steps})

"""How far something has come and how long it will take: a bar, or where there is no terminal a line now and
then."""

from __future__ import annotations

import datetime
import sys
import time
from types import TracebackType
from typing import Self

from tqdm.auto import tqdm

EVERY = 15.0  # seconds between lines


class Progress:
    """Use as a context; `step(n)` when n more are done."""

    def __init__(self, name: str, total: int, unit: str, *, done: int = 0, quiet: bool = False) -> None:
        self._name, self._total, self._unit, self._quiet = name, total, unit, quiet
        self._done = self._first = done
        self._start = self._said = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not quiet:
            self._bar = tqdm(desc=name, total=total, initial=done, unit=unit, dynamic_ncols=True)

    def step(self, count: int = 1, text: str = "") -> None:
        """Counts; `text` stands beside the number."""
        self._done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(count)
        elif not self._quiet and (now - self._said >= EVERY or self._done == self._total):
            self._said = now
            left = (now - self._start) / (self._done - self._first) * (self._total - self._done)
            print(
                f"{self._name}: {self._done}/{self._total} {self._unit}s  {text}  "
                f"{datetime.timedelta(seconds=round(left))} left",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

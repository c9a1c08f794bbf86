"""The same function for many items, in several processes, with a bar: the results come in the order of the
items whatever the number of processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from data_recipes.errors import UserError

WORTH_A_WORKER = 32  # starting a process costs about as much as reading so many units

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    label: str,
    progress: bool,
    worth: int = WORTH_A_WORKER,
) -> Iterator[Result]:
    """`function(item)` for every item. `function` and items must be picklable.

    The number of processes is that of the cores, or the environment variable IMAX_WORKERS.

    Args:
        label: what the bar on stderr says, with `progress`.
        worth: items that take as long as starting a process.

    Raises:
        UserError: a process died, or IMAX_WORKERS is no number.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        shown = bar.add_task(label, total=len(items))
        for result in _results(function, items, worth):
            yield result
            bar.advance(shown)


def _results(function: Callable[[Item], Result], items: Sequence[Item], worth: int) -> Iterator[Result]:
    workers = min(_workers(), len(items) // worth)
    if workers <= 1:
        yield from map(function, items)
        return
    # Spawned, not forked: the caller may hold threads (torch), which do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            with _hidden_main():
                results = pool.map(function, items, chunksize=max(1, min(32, len(items) // (8 * workers))))
            yield from results
        except BrokenProcessPool:
            raise UserError(
                "a process that reads images died (out of memory?): try again with IMAX_WORKERS=1"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Processes that start meanwhile do not run the caller's script again: they need nothing of it, it may
    import torch, and it may lack the guard or even the file that running it again takes."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _workers() -> int:
    asked = os.environ.get("IMAX_WORKERS", "")
    if not asked:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not asked.isdigit() or int(asked) < 1:
        raise UserError(f"IMAX_WORKERS is {asked!r}: give a number of processes, 1 or more")
    return int(asked)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f}/s")

"""The same work for many jobs, in processes that share what this one holds by being forked from it."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from data_recipes.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


def each(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, *, chunk: int = 1
) -> Iterator[Result]:
    """`work(job)` for every job, in order. Processes have one thread each and end with this one, also where
    it is killed.

    Args:
        workers: processes; with 1, or where the jobs are no more than one chunk, all is done here.
        chunk: jobs that a process takes at a time.

    Raises:
        UserError: a process died.
    """
    if workers < 2 or len(jobs) <= chunk:
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
    ) as pool:
        try:
            yield from pool.map(work, jobs, chunksize=chunk)
        except BrokenProcessPool:
            raise UserError("a process died (out of memory?): try again; what was finished is kept") from None


def _begin(parent: int) -> None:
    """One thread, since a forked process must not enter its parent's thread pool; and no life without it."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

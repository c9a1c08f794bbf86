"""Tiny flavours, each written once for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser import browser, page  # noqa: F401  (fixtures)

# Models here are so small that a second thread costs more than it gives, on a busy machine many times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where several processes run tests, each keeps to cores of its own: what a test starts takes all cores that
# it may use, and threads of two tests that wait for each other on one core take many times as long.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    _worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    _cores = sorted(os.sched_getaffinity(0))[_worker :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
    if _cores:
        os.sched_setaffinity(0, _cores)


@pytest.fixture(scope="session")
def flavour_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint folder of a family's tiny flavour, by the family's name. Only to be read."""
    from model_adapters.registry import family
    from model_adapters.tiny.flavour import write

    home = tmp_path_factory.mktemp("flavours")

    def folder(name: str) -> Path:
        if not (home / name).exists():
            kind = family(name)
            write(kind.flavour, kind.model_class, home / name)
        return home / name

    return folder

"""Tiny flavours, each written once for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser import browser, page  # noqa: F401  (fixtures)

# Models here are so small that a second thread costs more than it gives, on a busy machine many times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")


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

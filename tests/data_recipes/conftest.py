"""Random scenes with their entries, and a small source for the tests of recipes: flat images, all seven
tasks, nothing to draw."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from data_recipes.records import Entry
from data_recipes.scene import Scene
from data_recipes.sources import SOURCES
from tests.data_recipes import factories

FAKE = """
import numpy as np
from data_recipes.records import Box, Entry, Image
from data_recipes.sources import Sample

NAME, VERSION = "fake", "1"
NOTES = ("Its images are flat.",)

def units(options, *, seed, images, first=0):
    return [(options.get("shade", 0), seed, patient) for patient in range(first, first + images)]

def read(unit):
    shade, seed, patient = unit
    rng = np.random.default_rng([seed, patient])
    image = Image(f"fake-{patient}", f"patient-{patient}", "", NAME, "", 8, 8, "PA")
    box = Box(0.25, 0.25, 0.5, 0.75)
    said = [("calculation", "ctr", "CTR?", "CTR 0.48", ()), ("calculation", "cpar", "CPAR?", "CPAR 0.35", ()),
            ("report", "findings", "Report.", "The lungs are clear.", ()),
            ("severity", "edema", "Edema?", "grade 0, no edema", ()),
            ("findings", "multi-label", "Findings?", "no finding", ())]
    for n in range(1 + int(rng.integers(4))):
        said.append(("rec", "phrase", f"Where is thing {n}?", "{box}", (box,)))
        said.append(("reg", "phrase", f"What is in {{box}} ({n})?", f"thing {n}", (box,)))
    for n in range(9):
        said.append(("vqa", ("presence", "count", "side")[n % 3], f"Question {n}?", "yes", ()))
    name = image.image_id
    entries = tuple(
        Entry(f"{name}/{task}/{n}", name, task, prompt, target, boxes, f"fake/{task}/{kind}")
        for n, (task, kind, prompt, target, boxes) in enumerate(said)
    )
    pixels = np.full((8, 8), (shade * 40 + patient) % 256, np.uint8)
    pixels[1, :4] = [shade, patient % 256, patient // 256 % 256, patient // 65536]  # no two images are equal
    return [Sample(image, pixels, entries)]
"""


@pytest.fixture(scope="session")
def population() -> list[tuple[Scene, tuple[Entry, ...]]]:
    return factories.population()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Registers source `fake`, in a module that fresh processes find too, and gives a cache of its own."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "fake_source_of_tests.py").write_text(textwrap.dedent(FAKE))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(SOURCES, "fake", "fake_source_of_tests")
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAX_WORKERS", "1")
    return tmp_path

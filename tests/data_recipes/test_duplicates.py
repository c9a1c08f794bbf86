"""Near-duplicates: the search finds every pair that it promises, copies are found, other images are not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from data_recipes import duplicates
from data_recipes.check import check
from data_recipes.duplicates import Known, Limits, near, pairs
from data_recipes.overlap import overlap
from data_recipes.recipe import mixture_folder
from data_recipes.store import read_mixture
from data_recipes.thumbnails import (
    FILE,
    SIDE,
    Mark,
    greys,
    hashes,
    marked,
    ranks,
    read_marks,
    stacked,
    thumbnail,
    whitened,
)
from tests.data_recipes.pictures import brighter, encoded, scaled, textured


def differing(a: int, b: int) -> int:
    return bin(a ^ b).count("1")


@st.composite
def hash_sets(draw):
    """A few hashes, most of which are others with up to 12 bits flipped: pairs at every small distance."""
    found = [draw(st.integers(0, 2**64 - 1))]
    for _ in range(draw(st.integers(0, 15))):
        flips = draw(st.lists(st.integers(0, 63), max_size=12, unique=True))
        found.append(draw(st.sampled_from(found)) ^ sum(1 << bit for bit in flips))
    return found


@settings(deadline=None, max_examples=60)
@given(a=hash_sets(), b=hash_sets(), distance=st.integers(0, 9), dear=st.sampled_from([0, 10**9]))
def test_the_search_finds_what_comparing_all_pairs_finds(a, b, distance, dear):
    first, second = (np.array(values, np.uint64) for values in (a, b + a[:3]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_DEAR", dear)  # by bands, and by all pairs
        patch.setattr(duplicates, "_FEW", -1 if dear == 0 else 10**9)
        patch.setattr(duplicates, "_PIECE", 7)  # several pieces
        found = list(zip(*(side.tolist() for side in near(first, second, distance)), strict=True))
        inner = list(zip(*(side.tolist() for side in near(first, first, distance)), strict=True))
    theirs = b + a[:3]
    expected = {(i, j) for i, x in enumerate(a) for j, y in enumerate(theirs) if differing(x, y) <= distance}
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert sorted(inner) == [
        (i, j) for i, x in enumerate(a) for j, y in enumerate(a) if i < j and differing(x, y) <= distance
    ]


def test_ranks_and_hashes_are_what_their_definition_says():
    small = np.random.default_rng(0).integers(0, 60, (3, SIDE * SIDE)).astype(np.uint8)
    expected = rankdata(small, axis=1)
    assert np.allclose(ranks(small), expected)
    assert greys(small).tolist() == [len(np.unique(row)) for row in small]
    # the discrete cosine transform by its formula
    k, n = np.mgrid[:SIDE, :SIDE]
    matrix = np.cos(np.pi * (n + 0.5) * k / SIDE)
    order = sorted(
        ((u, v) for u in range(SIDE) for v in range(SIDE) if u * u + v * v >= 36),
        key=lambda place: place[0] ** 2 + place[1] ** 2,
    )[:64]
    for row, found in zip(expected, hashes(small).tolist(), strict=True):
        values = matrix @ row.reshape(SIDE, SIDE) @ matrix.T
        signs = [bool(values[place] > 0) for place in order]
        assert [bool(found >> bit & 1) for bit in range(64)] == signs


def test_correlation_is_of_detail_and_not_of_brightness():
    base = stacked([thumbnail(textured(0))]).astype(float)
    for other in (0.5 * base, base + 40):
        assert whitened(base)[0] @ whitened(other)[0] == pytest.approx(1, abs=1e-3)
    assert whitened(base)[0] @ whitened(255 - base)[0] == pytest.approx(-1, abs=1e-3)
    assert not whitened(np.full((1, SIDE * SIDE), 9)).any()


COPIES = {
    "jpeg": encoded,
    "half the size": lambda image: scaled(image, 0.5),
    "larger": lambda image: scaled(image, 2.3),
    "brighter": brighter,
    "darker": lambda image: brighter(image, 1.6),
    "equalised": PIL.ImageOps.equalize,
    "stretched": lambda image: PIL.ImageOps.autocontrast(image, cutoff=5),
    "all of it": lambda image: encoded(brighter(scaled(image, 0.6), 0.8), 50),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_copy_is_found_and_another_image_is_not(change):
    originals = stacked(thumbnail(textured(n)) for n in range(30))
    copies = stacked(thumbnail(change(textured(n))) for n in range(20))
    assert pairs(copies, originals, Limits()) == [(n, n) for n in range(20)]
    assert pairs(originals, originals, Limits()) == []


def test_limits_matter():
    a, b = (stacked([thumbnail(image)]) for image in (textured(0), encoded(textured(0), 30)))
    assert pairs(a, b, Limits()) == [(0, 0)]
    assert pairs(a, b, Limits(correlation=1.0)) == []
    assert pairs(a, b, Limits(distance=0)) == [] or hashes(a) == hashes(b)


def test_plain_areas_are_copies_of_nothing():
    plain = [PIL.Image.fromarray(np.full((50, 50), grey, np.uint8)) for grey in (0, 0, 200)]
    small = stacked(map(thumbnail, plain))
    assert pairs(small, small, Limits()) == []
    assert pairs(small, stacked([]), Limits()) == []


def test_known_images_know_copies_and_equal_pixels():
    plain = marked(np.zeros((9, 9), np.uint8))
    known = Known([marked(np.asarray(textured(1))), plain, Mark()], Limits())
    assert len(known) == 2
    asked = [marked(np.asarray(image)) for image in (textured(0), encoded(textured(1)))]
    assert known.copies([*asked, Mark(), plain]) == {1, 3}
    assert Known([], Limits()).copies(asked) == set()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a folder with images by name, each with its split, and builds its mixture."""
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAX_WORKERS", "1")

    def write(name: str, images: dict[str, tuple[str, PIL.Image.Image]]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rows = []
        for file, (split, image) in images.items():
            image.save(folder / file)
            rows.append({"image": file, "patient_id": file[:2], "split": split, "task": "vqa"})
        lines = [json.dumps({**row, "prompt": "Is it?", "target": "no"}) for row in rows]
        (folder / "entries.jsonl").write_text("\n".join(lines))
        return mixture_folder(str(folder), progress=False)

    return write


def test_a_mixture_says_which_images_are_copies_of_others(files):
    folder = files(
        "a",
        {
            "p0.png": ("train", textured(0)),
            "p1.png": ("train", textured(1)),
            "p1b.jpg": ("train", scaled(textured(1), 0.7)),
            "p2.jpg": ("test", encoded(textured(0))),
            "p3.png": ("test", textured(3)),
        },
    )
    meta = read_mixture(folder).meta
    found = meta["near_duplicates"]
    assert (found["across"], found["within"], found["compared"]) == (1, 1, 5)
    assert found["first_across"] == [["p0.png", "p2.jpg"]]
    assert any("LEAKAGE" in note and "near-duplicates" in note for note in meta["notes"])
    assert meta["recipe"]["duplicates"] == {"distance": 7, "correlation": 0.95}
    report = check(folder)
    assert report.problems == ["p0.png and p2.jpg are near-duplicates, in two splits"]
    assert "1 pairs of near-duplicates within a split" in report.notes[0]
    assert "1 in two splits, 1 within a split" in (folder / "README.md").read_text()


def test_copies_within_a_split_are_no_problem(files):
    folder = files("a", {"p1.png": ("train", textured(1)), "p1b.jpg": ("train", encoded(textured(1)))})
    assert check(folder).sound


def test_thumbnails_lie_beside_the_tables_and_are_made_anew_where_they_are_missing(files):
    folder = files("a", {f"p{n}.png": ("train", textured(n)) for n in range(3)})
    images = read_mixture(folder).images
    stored = read_marks(folder, images)
    assert {name: marked(np.asarray(textured(int(name[1])))) for name in stored} == stored
    (folder / FILE).unlink()
    assert read_marks(folder, images) == stored


def test_overlap_of_two_mixtures_by_hand(files):
    a = files("a", {f"p{n}.png": (split, textured(n)) for n, split in enumerate(["train", "train", "test"])})
    b = files(
        "b",
        {
            "p0.png": ("test", textured(0)),  # the same patient, id and pixels as a's first training image
            "p9.jpg": ("train", brighter(textured(2))),  # a copy of a's test image
            "p2x.png": ("train", textured(7)),  # another image of the patient of a's test image
        },
    )
    found = overlap(a, b)
    shared = {
        kind: {(x, y): n for x, row in by.items() for y, n in row.items() if n}
        for kind, by in found["shared"].items()
    }
    assert shared == {
        "patients": {("train", "test"): 1, ("test", "train"): 1},
        "image ids": {("train", "test"): 1},
        "same pixels": {("train", "test"): 1},
        "near-duplicates": {("train", "test"): 1, ("test", "train"): 1},
    }
    assert found["compared"] == [3, 3]
    assert found["first"] == [["p0.png", "p0.png"], ["p2.png", "p9.jpg"]]

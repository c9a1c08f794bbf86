"""A mixture's folder: what is written is read back; every kind of bad row is rejected, good rows survive."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.pixels import decode, digest, inside, safe_name, size
from data_recipes.records import Box, Entry, Image, Mixture
from data_recipes.stats import counts, density
from data_recipes.store import content_hash, need_pixels, open_image, read_mixture, write_mixture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound mixture of four images: patients a (train, two images), b (validation), c (test)."""
    home = tmp_path / "mixture"
    (home / "images").mkdir(parents=True)
    images, entries, digests = [], [], {}
    for n, (patient, split) in enumerate(
        [("a", "train"), ("a", "train"), ("b", "validation"), ("c", "test")]
    ):
        pixels = np.full((6, 8), n * 20, np.uint8)
        PIL.Image.fromarray(pixels).save(home / f"images/{n}.png")
        images.append(Image(f"i{n}", patient, split, "s", f"images/{n}.png", 8, 6, "PA"))
        entries.append(
            Entry(f"e{n}", f"i{n}", "rec", "Where?", "{box}", (Box(0.1, 0.2, 0.3, 0.4),), "s/rec/phrase")
        )
        entries.append(Entry(f"q{n}", f"i{n}", "vqa", "Is it?", "no", (), "s/vqa/presence"))
        digests[f"i{n}"] = digest(pixels)
    meta = {
        "schema": 1, "name": "m", "recipe": {"description": "A test."}, "sources": {"s": "1"}, "rejected": 0,
        "mixture_hash": content_hash(images, entries, digests), "counts": counts(images, entries),
        "density": density(images, entries), "match": None, "notes": [],
    }  # fmt: skip
    write_mixture(Mixture(tuple(images), tuple(entries), meta), home)
    return home


def rewrite(folder: Path, table: str, change) -> None:
    """Applies `change` to the list of rows of a Parquet file and writes it with whatever schema results."""
    path = folder / f"{table}.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_round_trip_and_columns(folder):
    mixture = read_mixture(folder)
    assert len(mixture.images) == 4
    assert mixture.entries[0] == Entry(
        "e0", "i0", "rec", "Where?", "{box}", (Box(0.1, 0.2, 0.3, 0.4),), "s/rec/phrase"
    )
    assert pq.read_schema(folder / "images.parquet").names == [
        "image_id", "patient_id", "split", "source", "path", "width", "height", "view",
    ]  # fmt: skip
    assert pq.read_schema(folder / "entries.parquet").names == [
        "entry_id", "image_id", "task", "prompt", "target", "boxes", "provenance",
    ]  # fmt: skip
    assert check(folder).sound
    assert not (folder / "rejected.jsonl").exists()
    again = folder.parent / "again"
    write_mixture(mixture, again)
    assert (again / "mixture.json").read_bytes() == (folder / "mixture.json").read_bytes()


def test_open_image(folder):
    mixture = read_mixture(folder)
    picture = open_image(folder, mixture.images[1])
    assert picture.mode == "L"
    assert picture.getpixel((0, 0)) == 20
    (folder / "images/1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png is missing"):
        open_image(folder, mixture.images[1])
    with pytest.raises(UserError, match="outside the folder"):
        open_image(folder, Image("x", "p", "train", "s", "../other.png", 1, 1, ""))
    with pytest.raises(UserError, match="no pixels"):
        open_image(folder, Image("x", "p", "train", "s", "", 1, 1, ""))


def truncate(folder: Path) -> None:
    path = folder / "images/1.png"
    path.write_bytes(path.read_bytes()[:-20])


def escape(folder: Path) -> None:
    shutil.move(folder / "images/1.png", folder.parent / "1.png")
    (folder / "images/1.png").symlink_to(folder.parent / "1.png")


IMAGE_FAULTS = {
    "is missing": lambda f: (f / "images/1.png").unlink(),
    "truncated": truncate,
    "outside the folder": escape,
    "lies outside": lambda f: rewrite(f, "images", lambda rows: rows[1].update(path="../1.png")),
    "name it relative": lambda f: rewrite(
        f, "images", lambda rows: rows[1].update(path=str(f / "images/1.png"))
    ),
    "did you mean 'train'": lambda f: rewrite(f, "images", lambda rows: rows[1].update(split="trian")),
    "patient_id is empty": lambda f: rewrite(f, "images", lambda rows: rows[1].update(patient_id=" ")),
    "width is -8": lambda f: rewrite(f, "images", lambda rows: rows[1].update(width=-8)),
}


@pytest.mark.parametrize("reason", IMAGE_FAULTS)
def test_a_bad_image_row_takes_its_entries_with_it_and_the_rest_survives(folder, reason):
    IMAGE_FAULTS[reason](folder)
    with pytest.warns(UserWarning, match="left out"):
        mixture = read_mixture(folder)
    assert [image.image_id for image in mixture.images] == ["i0", "i2", "i3"]
    assert [entry.entry_id for entry in mixture.entries] == ["e0", "q0", "e2", "q2", "e3", "q3"]
    rows = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    assert [(row["file"], row["row"]) for row in rows] == [
        ("images.parquet", 2), ("entries.parquet", 3), ("entries.parquet", 4),
    ]  # fmt: skip
    assert reason in rows[0]["reason"]
    assert mixture.meta["rejected"] == 3
    assert "3 rows could not be used" in (folder / "README.md").read_text()
    assert mixture.meta["mixture_hash"].endswith("-without-3")


ENTRY_FAULTS = {
    "leaves the image": {"boxes": [[0.1, 0.2, 1.3, 0.4]]},
    "empty or reversed": {"boxes": [[0.5, 0.2, 0.3, 0.4]]},
    "not four numbers": {"boxes": [[0.5, 0.2, 0.3]]},
    "not finite": {"boxes": [[0.1, 0.2, float("nan"), 0.4]]},
    "1 {box} slots in prompt and target, but 2 boxes": {"boxes": [[0.1, 0.2, 0.3, 0.4]] * 2},
    "1 {box} slots in prompt and target, but 0 boxes": {"boxes": []},
    "prompt is empty": {"prompt": "  "},
    "target is empty": {"target": ""},
    "target is missing": {"target": None},
    "did you mean 'rec'": {"task": "recc"},
    "image 'nowhere' is unknown": {"image_id": "nowhere"},
    "taken by an earlier row": {"entry_id": "e0"},
    "cannot read the target": {"task": "calculation", "target": "rather large", "boxes": []},
}


@pytest.mark.parametrize("reason", ENTRY_FAULTS)
def test_a_bad_entry_row_is_rejected_and_the_rest_survives(folder, reason):
    rewrite(folder, "entries", lambda rows: rows[2].update(ENTRY_FAULTS[reason]))
    with pytest.warns(UserWarning, match="left out"):
        mixture = read_mixture(folder)
    assert [entry.entry_id for entry in mixture.entries] == ["e0", "q0", "q1", "e2", "q2", "e3", "q3"]
    (row,) = map(json.loads, (folder / "rejected.jsonl").read_text().splitlines())
    assert (row["file"], row["row"]) == ("entries.parquet", 3)
    assert reason in row["reason"]


def test_a_wrong_type_in_a_column(folder):
    def as_text(rows):
        for row in rows:
            row["width"] = str(row["width"])

    rewrite(folder, "images", as_text)
    report = check(folder)
    assert len(report.rejected) == 4 + 8
    assert "width is '8' (text), expected a whole number" in report.rejected[0].reason


def test_check_decodes_what_reading_only_looks_at(folder):
    path = folder / "images/2.png"
    whole = path.read_bytes()
    middle = whole.index(b"IDAT") + 6
    path.write_bytes(whole[:middle] + b"\xff\xff\xff" + whole[middle + 3 :])
    assert len(read_mixture(folder).images) == 4
    report = check(folder)
    assert [(r.file, r.row) for r in report.rejected] == [
        ("images.parquet", 3), ("entries.parquet", 5), ("entries.parquet", 6),
    ]  # fmt: skip
    assert "truncated or no image" in report.rejected[0].reason
    assert len(report.mixture.entries) == 6
    assert check(folder).rejected == report.rejected  # checking twice counts once
    assert json.loads((folder / "mixture.json").read_text())["rejected"] == 3


def test_check_sees_crossing_patients_sizes_and_changed_content(folder):
    rewrite(folder, "images", lambda rows: rows[3].update(patient_id="a"))
    problems = check(folder).problems
    assert "patient a has images in test and train" in problems
    assert any("hash differs" in problem for problem in problems)
    PIL.Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "images/0.png")
    assert "5 x 5" in check(folder).rejected[0].reason


def test_check_sees_a_wrong_density(folder):
    meta = json.loads((folder / "mixture.json").read_text())
    meta["recipe"]["density"] = {"tasks_per_image": 2.0, "entries_per_image": 3.0}
    (folder / "mixture.json").write_text(json.dumps(meta))
    assert [p for p in check(folder).problems if "train" in p] == [
        "train: entries_per_image is 2.00, the recipe asks for 3.00"
    ]


@pytest.mark.parametrize("name", ["images.parquet", "entries.parquet", "mixture.json"])
def test_a_missing_or_broken_file_is_one_clear_line(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=name) as caught:
        read_mixture(folder)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(UserError, match=name):
        read_mixture(folder)


def test_another_schema(folder):
    meta = json.loads((folder / "mixture.json").read_text())
    (folder / "mixture.json").write_text(json.dumps({**meta, "schema": 99}))
    with pytest.raises(UserError, match="schema 99"):
        read_mixture(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_can_be_read(folder):
    rewrite(folder, "entries", lambda rows: rows[2].update(target=""))
    folder.chmod(0o555)
    with pytest.warns(UserWarning, match="left out"):
        assert len(read_mixture(folder).entries) == 7
    folder.chmod(0o755)


def test_the_card_has_a_head_for_machines(folder):
    text = (folder / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["pretty_name"] == "m"
    assert head["configs"][0]["data_files"] == [{"split": "mixture", "path": "entries.parquet"}]
    assert "| train | 2 | 1 | 4 |" in text
    assert "2.00 tasks and 2.00 entries" in text


def test_a_mixture_without_pixels_is_not_trained_on(folder):
    mixture = read_mixture(folder)
    need_pixels(mixture, "m")
    bare = Mixture(tuple(replace(image, path="") for image in mixture.images[:3]) + mixture.images[3:], ())
    with pytest.raises(UserError, match="m: 3 of 4 images have no pixels: build the mixture with --root"):
        need_pixels(bare, "m")


def test_sixteen_bit_images_are_scaled_not_clipped(tmp_path):
    grey = np.array([[0, 32768], [65535, 256]], np.uint16)
    PIL.Image.fromarray(grey).save(tmp_path / "deep.png")
    assert np.asarray(decode(tmp_path / "deep.png")).tolist() == [[0, 127], [255, 0]]


def test_an_image_larger_than_any_radiograph_is_not_decoded(tmp_path):
    PIL.Image.fromarray(np.zeros((1, 1_000_000), np.uint8)).save(tmp_path / "wide.png")
    for read in (decode, size):
        with pytest.raises(ValueError, match=r"1000000 x 1 pixels, more than any radiograph has"):
            read(tmp_path / "wide.png")


def test_the_size_is_read_without_the_pixels(tmp_path):
    path = tmp_path / "cut.png"
    PIL.Image.fromarray(np.zeros((300, 200), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    assert size(path) == (200, 300)
    with pytest.raises(ValueError, match="truncated"):
        decode(path)


def test_names_are_safe_and_different(tmp_path):
    ids = ["a/b", "a-b", "a\\b", "../../etc", ".hidden", "x" * 300, "ordinary_1.2"]
    names = [safe_name(name) for name in ids]
    assert len(set(names)) == len(ids)
    assert names[-1] == "ordinary_1.2"
    for name in names:
        assert inside(tmp_path, f"images/{name}.png").parent == (tmp_path / "images").resolve()

"""Source `folder`: people's own rows. Bad ones go with file, row and reason; good ones all survive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.markdown import plain
from data_recipes.recipe import is_image_centric, mixture_folder
from data_recipes.records import Mixture
from data_recipes.splits import crossing
from data_recipes.store import open_image, read_mixture

ROW = {"image": "images/0.png", "patient_id": "p0", "task": "vqa", "prompt": "Is it?", "target": "no"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty images of twenty patients, with no rows yet."""
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAX_WORKERS", "1")
    folder = tmp_path / "my rows"
    (folder / "images").mkdir(parents=True)
    for n in range(40):
        PIL.Image.fromarray(np.full((4, 6), n, np.uint8)).save(folder / f"images/{n}.png")
    return folder


def good_rows() -> list[dict[str, Any]]:
    return [{**ROW, "image": f"images/{n}.png", "patient_id": f"p{n // 2}"} for n in range(40)]


def write(root: Path, rows: list[Any], name: str = "entries.jsonl") -> None:
    (root / name).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))


def built(root: Path, overrides: dict | None = None) -> tuple[Mixture, list[dict[str, Any]]]:
    folder = mixture_folder(str(root), overrides, progress=False)
    rejected = folder / "rejected.jsonl"
    rows = [json.loads(line) for line in rejected.read_text().splitlines()] if rejected.exists() else []
    return read_mixture(folder), rows


def test_good_rows_make_a_mixture(root):
    rec = {
        **ROW,
        "task": "rec",
        "prompt": "Where?",
        "target": "{box}",
        "boxes": [[0, 0, 0.5, 1]],
        "view": "AP",
    }
    write(root, [*good_rows(), rec])
    mixture, rejected = built(root)
    assert rejected == []
    assert len(mixture.entries) == 41
    assert len(mixture.images) == 40
    assert not crossing(mixture.images)
    assert {image.split for image in mixture.images} == {"train", "validation", "test"}
    assert (mixture.images[0].width, mixture.images[0].height) == (6, 4)
    folder = mixture_folder(str(root), progress=False)
    assert folder.name.startswith("my-rows-")
    for image in mixture.images:
        assert open_image(folder, image).getpixel((0, 0)) == int(image.image_id[7:-4])
    assert check(folder).sound
    assert str(root) not in (folder / "README.md").read_text()


BOX = {"task": "rec", "target": "{box}"}
BAD = {
    "box (0.0, 0.0, 1.5, 1.0) leaves the image": {**BOX, "boxes": [[0, 0, 1.5, 1]]},
    "needs x1 < x2": {**BOX, "boxes": [[0.5, 0, 0.2, 1]]},
    "box [0, 0, '1', 1] is not four numbers": {**BOX, "boxes": [[0, 0, "1", 1]]},
    "boxes is 'all' (text)": {"boxes": "all"},
    "a box leaves the image": {**BOX, "boxes": [[0, 0, 10**400, 1]]},
    "target holds half a character": {"target": "\ud800"},
    "cannot be followed": {"image": "images/circle.png"},
    "image holds a NUL byte": {"image": "a\0b"},
    "File name too long": {"image": "x" * 5000},
    "target is empty": {"target": ""},
    "prompt is empty": {"prompt": "\n"},
    "target is 3 (a whole number), expected text": {"target": 3},
    "patient_id is 12 (a whole number), expected text": {"patient_id": 12},
    "patient_id is missing": {"patient_id": None},
    "task is True (true or false)": {"task": True},
    "unknown task 'vqq': did you mean 'vqa'": {"task": "vqq"},
    "unknown split 'trainn': did you mean 'train'": {"split": "trainn"},
    "1 {box} slots in prompt and target, but 0 boxes": {"prompt": "What is at {box}?"},
    "cannot read the target": {"task": "severity", "target": "quite severe"},
    "image file absent.png is missing": {"image": "images/absent.png", "patient_id": "px"},
    "truncated or no image": {"image": "images/cut.png", "patient_id": "px"},
    "name it relative": {"image": "../secret.png"},
    "lies outside the folder": {"image": "images/link.png"},
    "is taken by an earlier row": {"entry_id": "images/1.png/vqa/2"},
    "belongs to patient 'p0' in an earlier row": {"patient_id": "p1"},
    "patient 'p0' is in split 'none' in an earlier row": {"split": "test"},
    "width 6, the row says 7": {"image": "images/39.png", "patient_id": "p99", "width": 7},
    "width is 'six'": {"width": "six"},
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_rejected_and_the_good_rows_survive(root, reason):
    whole = (root / "images/0.png").read_bytes()
    (root / "images/cut.png").write_bytes(whole[: len(whole) * 2 // 3])
    (root.parent / "secret.png").write_bytes(whole)
    (root / "images/link.png").symlink_to(root.parent / "secret.png")
    (root / "images/circle.png").symlink_to(root / "images/circle.png")
    write(root, [*good_rows()[:9], {**ROW, **BAD[reason]}])
    mixture, rejected = built(root)
    assert len(mixture.entries) == 9
    (row,) = rejected
    assert (row["file"], row["row"]) == ("entries.jsonl", 10)
    assert reason in row["reason"]
    assert mixture.meta["rejected"] == 1
    card = (mixture_folder(str(root), progress=False) / "README.md").read_text()
    assert "1 rows could not be used" in card
    assert plain(reason) in card


@pytest.mark.parametrize("line", ["{broken", "[1, 2]", "null", "7", '"text"'])
def test_a_line_that_is_no_row(root, line):
    write(root, [line, *good_rows()])
    mixture, rejected = built(root)
    assert len(mixture.entries) == 40
    assert rejected[0]["row"] == 1
    assert "not a row of named values" in rejected[0]["reason"]


def test_a_broken_image_takes_all_its_rows_and_no_other(root):
    (root / "images/5.png").write_bytes(b"not an image")
    write(root, [*good_rows(), {**ROW, "image": "images/5.png", "patient_id": "p2", "prompt": "And?"}])
    mixture, rejected = built(root)
    assert [row["row"] for row in rejected] == [6, 41]
    assert len(mixture.entries) == 39


def test_images_table_and_splits_of_ones_own(root):
    rows = [{k: v for k, v in row.items() if k != "patient_id"} for row in good_rows()]
    write(root, rows)
    splits = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    images = [
        {"image": f"images/{n}.png", "patient_id": f"q{n // 2}", "split": split, "view": "PA"}
        for n, split in enumerate(splits)
    ]
    write(root, [*images, {"image": "images/0.png"}, {"image": "images/1.png", "view": 3}], "images.jsonl")
    mixture, rejected = built(root)
    assert [image.split for image in sorted(mixture.images, key=lambda i: int(i.image_id[7:-4]))] == splits
    assert {image.view for image in mixture.images} == {"PA"}
    assert [(row["file"], row["row"]) for row in rejected] == [("images.jsonl", 41), ("images.jsonl", 42)]


def test_rows_an_image_say_whether_a_folder_is_image_centric(root):
    write(root, good_rows())
    assert not is_image_centric(str(root))
    write(root, [*good_rows(), *good_rows()[:19], "no row"])
    assert not is_image_centric(str(root))
    write(root, [*good_rows(), *good_rows()[:20], "no row"])
    assert is_image_centric(str(root))
    folder = mixture_folder(str(root), progress=False)
    assert is_image_centric(str(folder))


def test_parquet_rows(root):
    pq.write_table(pa.Table.from_pylist(good_rows()), root / "entries.parquet")
    assert len(built(root)[0].entries) == 40


def test_the_cache_notices_changed_files(root):
    write(root, good_rows())
    first = mixture_folder(str(root), progress=False)
    assert mixture_folder(str(root), progress=False) == first
    PIL.Image.fromarray(np.full((4, 6), 99, np.uint8)).save(root / "images/0.png", compress_level=0)
    assert mixture_folder(str(root), progress=False) != first


def test_pixels_link_and_skip(root):
    write(root, good_rows())
    linked, _ = built(root, {"options.pixels": "link"})
    folder = mixture_folder(str(root), {"options.pixels": "link"}, progress=False)
    assert (folder / linked.images[0].path).samefile(root / linked.images[0].image_id)
    skipped, _ = built(root, {"options.pixels": "skip"})
    assert {image.path for image in skipped.images} == {""}
    assert skipped.images[0].width == 6


def test_mistakes_in_options(root):
    with pytest.raises(UserError, match=r"no entries\.jsonl"):
        built(root)
    write(root, good_rows())
    with pytest.raises(UserError, match="unknown option of source folder 'rot': did you mean 'root'"):
        built(root, {"options.rot": "x"})
    with pytest.raises(UserError, match="did you mean 'copy'"):
        built(root, {"options.pixels": "copyy"})
    with pytest.raises(UserError, match="files lack"):
        built(root, {"images": {"train": 500}})
    write(root, ["{"])
    with pytest.raises(UserError, match=r"no usable entry; first rejected row: entries\.jsonl, row 1"):
        built(root)


def test_density_and_image_numbers_apply_to_files_too(root):
    rows = good_rows() + [{**row, "prompt": "How many?", "target": "two"} for row in good_rows()]
    write(root, rows)
    mixture, _ = built(
        root,
        {
            "images": {"train": 10, "test": 2},
            "density": {"tasks_per_image": 1, "entries_per_image": 1.5},
            "split_fractions": {"train": 0.5, "validation": 0.0, "test": 0.5},
        },
    )
    assert mixture.meta["counts"]["train"]["images"] == 10
    assert mixture.meta["counts"]["train"]["entries"] == 15
    assert mixture.meta["counts"]["test"]["entries"] == 3

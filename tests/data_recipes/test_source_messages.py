"""Source `messages`: conversations of all the forms that tools keep them in."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.export import export
from data_recipes.packed import is_packed, packed_name
from data_recipes.recipe import build, mixture_folder
from data_recipes.recipe_file import ImageCentric
from data_recipes.records import fill_slots
from data_recipes.splits import crossing
from data_recipes.store import open_image, read_mixture
from data_recipes.turns import talk
from tests.data_recipes.datasets import boxes_of, dropped, harvest, picture, reasons, said, write


def turns(*texts: str) -> list[dict]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def rows_of(tmp_path: Path, *rows, name: str = "train.jsonl") -> Path:
    for letter in "abc":
        picture(tmp_path, f"images/{letter}.png", 20, 10)
    return write(tmp_path, {name: "".join(json.dumps(row) + "\n" for row in rows)})


GOOD = {"messages": turns("<image>Is it?", "yes"), "images": ["images/a.png"]}


def png(shade: int, side: int = 6) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((side, side + 1), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        {"messages": turns("Is it?\n<image>", "yes"), "images": ["images/a.png"]},
        {"messages": turns("Is it?", "yes"), "image": "images/a.png"},
        {"messages": turns("Is it?", "yes"), "images": [{"bytes": None, "path": "images/a.png"}]},
        {"conversations": [{"from": "human", "value": "<image>\nIs it?"}, {"from": "gpt", "value": "yes"}],
         "id": "1", "image": "images/a.png"},
        {"messages": [{"role": "system", "content": "Be brief."}, *turns("<image>Is it?", "yes")],
         "images": ["images/a.png"]},
        {"messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is it?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}], "images": ["images/a.png"]},
        {"messages": [
            {"role": "user", "content": [{"type": "image", "image": "images/a.png", "text": None},
                                         {"type": "text", "text": "Is it?", "image": None}]},
            {"role": "assistant", "content": "yes"}]},
        {"messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "images/a.png"}},
                                         {"type": "text", "text": "Is it?"}]},
            {"role": "assistant", "content": "yes"}]},
    ],
)  # fmt: skip
def test_every_form_is_the_same_entry(tmp_path, row):
    found = harvest("messages", rows_of(tmp_path, row), pixels="copy")
    assert said(found, "vqa") == [("images/a.png", "yes")]
    assert found.entries["prompt"].to_list() == ["Is it?"]
    assert found.images.select("file", "split").rows() == [("images/a.png", "train")]
    assert reasons(found) == {}


def test_several_turns_are_several_entries_and_noted(tmp_path):
    row = {
        "messages": turns("<image>One?", "yes", "Two?", "no", "Three?", "maybe"),
        "images": ["images/a.png"],
    }
    found = harvest("messages", rows_of(tmp_path, row, GOOD))
    assert [target for _, target in said(found, "vqa")] == ["yes", "no", "maybe", "yes"]
    assert found.images.height == 1
    assert found.entries["entry_id"].to_list() == [f"images/a.png/vqa/{n}" for n in range(4)]
    assert any(note.startswith("2 questions come after the first") for note in found.notes)


BAD = {
    "shows 2 images: one is supported": {"images": ["images/a.png", "images/b.png"]},
    "shows 3 images": {"messages": turns("<image><image><image>Is it?", "yes")},
    "shows no image": {"images": []},
    "turn 2 is of the user, expected the assistant": {"messages": turns("<image>a", "b")[:1] * 2},
    "turn 1 is of the assistant": {"messages": turns("a", "b")[1:]},
    "turn 1 has role 'tool'": {"messages": [{"role": "tool", "content": "x"}]},
    "turn 1 is no object": {"messages": ["text"]},
    "holds no conversation": {"messages": "text"},
    "neither text nor an image": {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
    "is an address (https://x.org/a.png)": {"images": ["https://x.org/a.png"]},
    "is an address (data:image/png": {"images": ["data:image/png;base64,AAAA"]},
    "neither a path nor bytes": {"images": [7]},
    "unknown task 'vqaa': did you mean 'vqa'": {"task": "vqaa"},
    "2 tasks for 1 questions": {"tasks": ["vqa", "vqa"]},
    "lies outside the folder": {"images": ["../secret.png"]},
    "lies outside": {"images": ["/etc/passwd"]},
    "a question or its answer is empty": {"messages": turns("<image>", "yes")},
    "the last question has no answer": {"messages": turns("<image>Is it?", "yes", "And?")},
    "a text holds {box}": {"messages": turns("<image>What is {box}?", "mass")},
    "cannot read the target": {"task": "severity", "messages": turns("<image>Grade?", "quite bad")},
    "set option boxes": {"task": "rec", "messages": turns("<image>Where?", "[0, 0, 1, 1]")},
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_rejected_with_its_reason_and_the_others_survive(tmp_path, reason):
    first = {**GOOD, "images": ["images/b.png"]}
    found = harvest("messages", rows_of(tmp_path, first, {**GOOD, **BAD[reason]}, GOOD))
    (rejected,) = reasons(found)
    assert rejected[:2] == ("train.jsonl", 2)
    assert reason in rejected[2]
    kept = [image for image, _ in said(found, "vqa")]
    assert kept[0] == "images/b.png"
    assert kept[-1] == "images/a.png"
    assert len(kept) == 2 + (reason == "the last question has no answer")


@pytest.mark.parametrize("line", ["{broken", "[1, 2]", "null", '"text"'])
def test_a_line_that_is_no_row(tmp_path, line):
    root = rows_of(tmp_path, GOOD)
    with (root / "train.jsonl").open("a") as file:
        file.write(line + "\n")
    found = harvest("messages", root)
    assert list(reasons(found)) == [("train.jsonl", 2, "is no object")]
    assert len(said(found, "vqa")) == 1


def test_boxes_are_read_where_their_notation_is_declared(tmp_path):
    box = "[0.25, 0.1, 0.5, 0.6]"
    row = {
        "messages": turns(f"<image>What is at {box}?", "mass", "Where is it?", box.replace(" ", "")),
        "images": ["images/a.png"],
        "tasks": ["reg", "rec"],
    }  # fmt: skip
    found = harvest("messages", rows_of(tmp_path, row), boxes="fractions")
    assert boxes_of(found) == {"images/a.png": [[0.25, 0.1, 0.5, 0.6]]}
    assert found.entries["prompt"].to_list() == ["What is at {box}?", "Where is it?"]
    for unit, text in (("thousandths", "[250, 100, 500, 600]"), ("pixels", "[5, 1, 10, 6]")):
        row["messages"] = turns(f"<image>What is at {text}?", "mass", "Where is it?", text)
        found = harvest("messages", rows_of(tmp_path, row), boxes=unit)
        assert boxes_of(found) == {"images/a.png": [[0.25, 0.1, 0.5, 0.6]]}, unit
    with pytest.raises(UserError, match="did you mean 'pixels'"):
        harvest("messages", tmp_path, boxes="pixel")


def test_columns_and_tasks_may_be_said(tmp_path):
    row = {"dialogue": GOOD["messages"], "picture": "images/a.png", "messages": None}
    found = harvest(
        "messages",
        rows_of(tmp_path, row),
        columns={"messages": "dialogue", "images": "picture"},
        task="report",
    )
    assert said(found, "report") == [("images/a.png", "yes")]
    with pytest.raises(UserError, match="unknown meaning of a column 'message': did you mean 'messages'"):
        harvest("messages", tmp_path, columns={"message": "dialogue"})
    with pytest.raises(UserError, match=r"no table with a column dialog \(it has train\.jsonl"):
        harvest("messages", tmp_path, columns={"messages": "dialog"})


def test_patients_and_splits_of_columns_and_files(tmp_path):
    rows = [
        {**GOOD, "images": [f"images/{letter}.png"], "patient_id": patient, "split": split}
        for letter, patient, split in (("a", 1, "train"), ("b", 1, "val"), ("c", 2, "train"))
    ]
    found = harvest("messages", rows_of(tmp_path, *rows))
    assert dict(found.images.select("image_id", "split").rows()) == {
        "images/a.png": "validation", "images/b.png": "validation", "images/c.png": "train",
    }  # fmt: skip
    assert any("1 patients stood in two splits" in note for note in found.notes)
    assert set(harvest("messages", tmp_path, splits="drawn").images["split"]) == {""}


def table(shades: list[int], **more) -> pa.Table:
    """A row an image of each shade, with its bytes."""
    return pa.table(
        {
            "messages": [turns(f"Shade {shade}?", "yes") for shade in shades],
            "images": [[{"bytes": png(shade), "path": "same name.png"}] for shade in shades],
            **more,
        }
    )


def built(root: Path, out: Path, **options):
    recipe = ImageCentric(name="own", source="messages", options={"root": str(root), **options})
    folder = build(recipe, out, progress=False)
    return folder, read_mixture(folder)


@pytest.mark.parametrize("pixels", ["copy", "link"])
def test_bytes_in_parquet_are_written_out_each_image_once(tmp_path, monkeypatch, pixels):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    (tmp_path / "root").mkdir()
    pq.write_table(table([1, 2, 3, 2, 1]), tmp_path / "root/train-00000-of-00001.parquet", row_group_size=2)
    pq.write_table(table([9]), tmp_path / "root/test-00000-of-00001.parquet")
    folder, mixture = built(tmp_path / "root", tmp_path / "out", pixels=pixels)
    assert len(mixture.images) == 4
    assert len(mixture.entries) == 6
    images = mixture.image_by_id()
    for entry in mixture.entries:  # each question names the shade of its own image
        shade = int(entry.prompt.split()[1][:-1])
        shown = open_image(folder, images[entry.image_id])
        assert (shown.getpixel((0, 0)), shown.size) == (shade, (7, 6))
        assert images[entry.image_id].split == ("test" if shade == 9 else "train")
    assert check(folder).sound
    assert sorted(path.name for path in (folder / "images").iterdir()) == sorted(
        Path(image.path).name for image in mixture.images
    )


def test_a_shuffled_part_of_a_parquet_file_has_the_right_pixels(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    (tmp_path / "root").mkdir()
    pq.write_table(table(list(range(40))), tmp_path / "root/all.parquet", row_group_size=3)
    recipe = ImageCentric.model_validate(
        {"name": "own", "source": "messages", "options": {"root": str(tmp_path / "root")},
         "images": {"train": 9, "test": 1}}
    )  # fmt: skip
    folder = build(recipe, tmp_path / "out", progress=False)
    mixture = read_mixture(folder)
    images = mixture.image_by_id()
    assert len(images) == 10
    for entry in mixture.entries:
        shade = int(entry.prompt.split()[1][:-1])
        assert open_image(folder, images[entry.image_id]).getpixel((0, 0)) == shade


def test_broken_bytes_cost_their_image_only(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    (tmp_path / "root").mkdir()
    rows = table([1, 2]).to_pylist()
    rows[0]["images"][0]["bytes"] = png(1)[:-30]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "root/all.parquet")
    folder, mixture = built(tmp_path / "root", tmp_path / "out")
    assert len(mixture.entries) == 1
    (line,) = (folder / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["row"] == 1
    assert "image-of-row-1.png is truncated or no image" in line


def test_one_id_for_two_images_is_rejected(tmp_path):
    pq.write_table(table([1, 1, 2], image_id=["x", "x", "x"]), tmp_path / "all.parquet")
    found = harvest("messages", tmp_path)
    assert [image for image, _ in said(found, "vqa")] == ["x", "x"]
    assert reasons(found) == {
        ("all.parquet", 3, "image_id 'x' stands for another image in an earlier row"): 1
    }


def test_a_folder_that_datasets_saved_without_what_it_cached(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("IMAX_WORKERS", "1")
    rows = datasets.Dataset.from_list(
        [{"messages": turns(f"Shade {n}?", "yes"), "images": [PIL.Image.open(io.BytesIO(png(n)))]}
         for n in (3, 4)],
        features=datasets.Features(
            {"messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
             "images": datasets.List(datasets.Image())}
        ),
    )  # fmt: skip
    datasets.DatasetDict({"train": rows, "validation": rows.select([0])}).save_to_disk(tmp_path / "root")
    saved = next((tmp_path / "root/train").glob("*.arrow"))
    (saved.parent / "cache-0123.arrow").write_bytes(saved.read_bytes())
    folder, mixture = built(tmp_path / "root", tmp_path / "out")
    assert {(image.split, open_image(folder, image).getpixel((0, 0))) for image in mixture.images} == {
        ("validation", 3), ("train", 4),
    }  # fmt: skip
    assert len(mixture.entries) == 3  # of which two are about the image that is in both


def test_hostile_names_of_packed_images_stay_inside(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    pq.write_table(table([1]), tmp_path / "secret.parquet")
    name = packed_name("../secret.parquet", "images", 0)
    assert is_packed(name)
    root = rows_of(tmp_path / "root", GOOD, {**GOOD, "images": [name]})
    (root / "images/link.png").symlink_to(tmp_path / "secret.parquet")
    folder, mixture = built(root, tmp_path / "out")
    assert len(mixture.entries) == 1
    assert "lies outside the folder" in (folder / "rejected.jsonl").read_text()


def test_ids_cannot_lead_out_of_the_mixture(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    (tmp_path / "root").mkdir()
    pq.write_table(table([1], image_id=["../../escaped"]), tmp_path / "root/all.parquet")
    folder, mixture = built(tmp_path / "root", tmp_path / "out")
    (image,) = mixture.images
    assert (folder / image.path).resolve().is_relative_to((folder / "images").resolve())
    assert not list(tmp_path.rglob("escaped*"))


@pytest.mark.parametrize("turns_", ["entry", "image"])
def test_an_export_read_back_has_the_same_prompts_targets_boxes_and_pixels(fake, tmp_path, turns_):
    images = {"train": 5, "validation": 1, "test": 2}
    changes = {"source": "fake", "options": {}, "images": images, "density": None}
    original = mixture_folder("imax", changes, progress=False)
    export("hf", str(original), tmp_path / "hf", turns=turns_, progress=False)
    folder, back = built(tmp_path / "hf", tmp_path / "back", boxes="fractions")
    first = read_mixture(original)

    def content(mixture, at):
        images = mixture.image_by_id()
        return sorted(
            (e.image_id, images[e.image_id].patient_id, images[e.image_id].split, e.task,
             e.prompt, e.target, fill_slots(e.prompt + e.target, [str(box) for box in e.boxes]),
             open_image(at, images[e.image_id]).tobytes())
            for e in mixture.entries
        )  # fmt: skip

    assert content(first, original) == content(back, folder)
    assert not crossing(back.images)


def test_system_messages_are_counted(tmp_path):
    row = {**GOOD, "messages": [{"role": "system", "content": "Be brief."}, *GOOD["messages"]]}
    found = harvest("messages", rows_of(tmp_path, row))
    assert "System messages of 1 rows were left out." in found.notes
    assert dropped(found, "questions with an answer") == {}


def test_a_conversation_without_text_is_no_error_of_ours():
    for value in (None, {}, [], [None], [{"role": None}], [{"role": "user", "content": [{"text": "x"}]}]):
        with pytest.raises(ValueError, match=r"turn 1|no conversation"):
            talk(value)

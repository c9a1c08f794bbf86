"""Exports: what is in the files of each format, read as their tools document it."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import yaml

from data_recipes.errors import UserError
from data_recipes.export import FORMATS, export
from data_recipes.recipe import build, mixture_folder
from data_recipes.recipe_file import ImageCentric
from data_recipes.records import BOX_SLOT, fill_slots
from data_recipes.store import open_image, read_mixture
from tests.data_recipes.datasets import picture, write

CHANGES = {
    "source": "fake", "options": {}, "density": None, "images": {"train": 4, "validation": 1, "test": 2},
}  # fmt: skip


@pytest.fixture
def mixture(fake) -> Path:
    return mixture_folder("imax", CHANGES, progress=False)


def written(entry) -> tuple[str, str]:
    """Prompt and target in canonical fractions."""
    boxes = ["[" + ", ".join(f"{v:.3f}" for v in box.xyxy) + "]" for box in entry.boxes]
    number = entry.prompt.count(BOX_SLOT)
    return fill_slots(entry.prompt, boxes[:number]), fill_slots(entry.target, boxes[number:])


def expected(mixture: Path, split: str) -> list[tuple[bytes, str, str]]:
    """(pixels, prompt, target) of the split."""
    return sorted(
        (open_image(mixture, image).tobytes(), *written(entry))
        for image, entry in read_mixture(mixture).of_split(split)
    )


def pixels(path_or_bytes) -> bytes:
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else path_or_bytes
    return PIL.Image.open(source).convert("L").tobytes()


def rows(folder: Path, to: str, split: str) -> list[tuple[bytes, list[tuple[str, str]]]]:
    """(pixels, turns) of each conversation, each format read in its own way."""
    if to in ("hf", "trl"):
        parts = sorted((folder / "data").glob(f"{split}-*.parquet"))
        found = [row for part in parts for row in pq.read_table(part).to_pylist()]
        return [
            (pixels(row["images"][0]["bytes"]), [(m["role"], m["content"]) for m in row["messages"]])
            for row in found
        ]
    if to == "ms-swift":
        found = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
    elif to == "llamafactory":
        info = json.loads((folder / "dataset_info.json").read_text())[f"imax_{split}"]
        assert info["formatting"] == "sharegpt"
        found = json.loads((folder / info["file_name"]).read_text())
    else:
        found = json.loads((folder / f"{split}.json").read_text())
        who = {"human": "user", "gpt": "assistant"}
        found = [
            {"images": [row["image"]],
             "messages": [{"role": who[t["from"]], "content": t["value"]} for t in row["conversations"]]}
            for row in found
        ]  # fmt: skip
    result = []
    for row in found:
        (path,) = row["images"]
        texts = [m["content"] for m in row["messages"]]
        assert texts[0].startswith("<image>")
        assert sum(text.count("<image>") for text in texts) == 1
        texts[0] = texts[0].removeprefix("<image>").removeprefix("\n")
        roles = [m["role"] for m in row["messages"]]
        result.append((pixels(folder / path), list(zip(roles, texts, strict=True))))
    return result


@pytest.mark.parametrize("turns", ["entry", "image"])
@pytest.mark.parametrize("to", FORMATS)
def test_every_entry_stands_there_once_with_its_image(mixture, tmp_path, to, turns):
    out = tmp_path / "out"
    done = export(to, str(mixture), out, turns=turns, progress=False)
    for split in ("train", "validation", "test"):
        found = rows(out, to, split)
        pairs = []
        for shown, said in found:
            assert [role for role, _ in said] == ["user", "assistant"] * (len(said) // 2)
            texts = [text for _, text in said]
            pairs += [(shown, *pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
        assert sorted(pairs) == expected(mixture, split)
        counts = done.facts["splits"][split]
        assert len(found) == counts["conversations"] == counts["images" if turns == "image" else "entries"]


@pytest.mark.parametrize("to", FORMATS)
def test_card_manifest_and_sums_are_there_and_true(mixture, tmp_path, to):
    out = tmp_path / "out"
    export(to, str(mixture), out, progress=False)
    meta = read_mixture(mixture).meta
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["format"], manifest["mixture_hash"]) == (to, meta["mixture_hash"])
    text = (out / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == meta["license"]
    assert meta["mixture_hash"] in text
    assert "{" + "folder}" not in text
    assert str(tmp_path) not in text
    lines = (out / "SHA256SUMS").read_text().splitlines()
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} - {"SHA256SUMS"}
    assert {line.split("  ")[1] for line in lines} == files
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest


def test_the_bytes_of_an_image_stand_once_in_parquet_however_many_entries_it_has(mixture, tmp_path):
    sizes = {}
    noise = np.random.default_rng(0).integers(0, 255, (120, 120), np.uint8)
    for image in read_mixture(mixture).images:
        PIL.Image.fromarray(noise + image.width).save(mixture / image.path)
    for turns in ("entry", "image"):
        export("trl", str(mixture), tmp_path / turns, turns=turns, progress=False)
        sizes[turns] = sum(path.stat().st_size for path in (tmp_path / turns / "data").iterdir())
    assert sizes["entry"] < 1.2 * sizes["image"]


def test_large_splits_are_cut_into_files_between_images(mixture, tmp_path, monkeypatch):
    monkeypatch.setattr("data_recipes.export.parquet._SHARD", 1)
    export("hf", str(mixture), tmp_path / "out", progress=False)
    parts = sorted(path.name for path in (tmp_path / "out/data").glob("train-*"))
    assert parts == [f"train-{n:05d}-of-00004.parquet" for n in range(4)]
    ids = [set(pq.read_table(tmp_path / "out/data" / part)["image_id"].to_pylist()) for part in parts]
    assert [len(found) for found in ids] == [1] * 4
    assert len(set.union(*ids)) == 4


def test_the_writer_of_boxes_gets_the_size_of_the_image(mixture, tmp_path):
    def writer(box, width, height):
        return f"<{box.x1 * width:.0f} {box.y2 * height:.0f}>"

    export("llava", str(mixture), tmp_path / "out", notation="mine", writer=writer, progress=False)
    assert '"<2 6>"' in (tmp_path / "out/train.json").read_text()
    assert "in the notation of `mine`" in (tmp_path / "out/README.md").read_text()


def test_boxes_left_to_ms_swift_are_objects_in_the_order_of_the_slots(mixture, tmp_path):
    export("ms-swift", str(mixture), tmp_path / "out", turns="image", notation="native", progress=False)
    rows_ = [json.loads(line) for line in (tmp_path / "out/train.jsonl").read_text().splitlines()]
    for row in rows_:
        text = "".join(m["content"] for m in row["messages"])
        assert text.count("<bbox>") == len(row["objects"]["bbox"]) > 0
        assert row["objects"]["bbox_type"] == "norm1"
        assert row["objects"]["bbox"][0] == [0.25, 0.25, 0.5, 0.75]
    with pytest.raises(UserError, match="trl has no notation of boxes of its own"):
        export("trl", str(mixture), tmp_path / "no", notation="native")


def test_images_are_linked_where_they_need_no_change(mixture, tmp_path):
    out = tmp_path / "out"
    export("llava", str(mixture), out, images="link", progress=False)
    for image in read_mixture(mixture).images:
        assert (out / "images" / Path(image.path).name).samefile(mixture / image.path)


def own(tmp_path: Path, **rows_) -> Path:
    """A mixture of a CSV file, one image a row."""
    lines = "".join(f'{name},"{report}"\n' for name, report in rows_.items())
    write(tmp_path / "root", {"table.csv": "image,report\n" + lines})
    recipe = ImageCentric.model_validate(
        {"name": "own", "source": "csv", "options": {"root": str(tmp_path / "root")},
         "split_fractions": {"train": 1, "validation": 0, "test": 0}}
    )  # fmt: skip
    return build(recipe, tmp_path / "mixture", progress=False)


def test_images_of_16_bits_and_odd_kinds_become_what_every_tool_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    root = tmp_path / "root"
    root.mkdir()
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    PIL.Image.fromarray(deep).save(root / "deep.png")
    PIL.Image.fromarray(np.full((8, 8), 7, np.uint8)).save(root / "plain.bmp")
    picture(root, "flat.png")
    folder = own(tmp_path, **{"deep": "A.", "plain": "B.", "flat": "C."})
    export("llava", str(folder), tmp_path / "out", progress=False)
    found = {
        row["id"].split("/")[0]: row["image"] for row in json.loads((tmp_path / "out/train.json").read_text())
    }
    assert found == {"deep": "images/deep.png", "plain": "images/plain.png", "flat": "images/flat.png"}
    shown = np.asarray(PIL.Image.open(tmp_path / "out/images/deep.png").convert("RGB"))[..., 0]
    assert np.abs(shown - deep / 257).max() <= 1  # scaled, where a plain conversion clips
    assert not (tmp_path / "out/validation.json").exists()


def test_a_text_that_names_a_slot_of_a_tool_asks_for_no_image(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    picture(tmp_path / "root", "a.png")
    folder = own(tmp_path, a="See <image> and <bbox>.")
    export("llamafactory", str(folder), tmp_path / "out", progress=False)
    (row,) = json.loads((tmp_path / "out/train.json").read_text())
    assert row["messages"][1]["content"] == "See (image) and (bbox)."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "llama-factory"}, "unknown format 'llama-factory': did you mean 'llamafactory'"),
        ({"turns": "images"}, "unknown turns 'images': did you mean 'image'"),
        ({"images": "move"}, "unknown images 'move'"),
    ],
)
def test_mistakes_are_one_clear_line(mixture, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        export(options.pop("to", "hf"), str(mixture), tmp_path / "out", **options)
    assert list(tmp_path.glob("*out*")) == []


def test_a_folder_with_content_and_a_mixture_without_pixels_are_refused(mixture, tmp_path):
    write(tmp_path / "out", {"mine.txt": "x"})
    with pytest.raises(UserError, match="is there already: remove it, or name another folder with --out"):
        export("hf", str(mixture), tmp_path / "out", progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    write(tmp_path / "root", {"table.csv": "image,report\na,Clear.\n"})
    recipe = ImageCentric(
        name="own", source="csv", options={"root": str(tmp_path / "root"), "pixels": "skip"}
    )
    bare = build(recipe, tmp_path / "bare", progress=False)
    with pytest.raises(UserError, match="1 of 1 images have no pixels"):
        export("hf", str(bare), tmp_path / "new", progress=False)


def test_an_export_that_fails_leaves_nothing(mixture, tmp_path):
    image = read_mixture(mixture).images[0]
    (mixture / image.path).write_bytes(b"no image, but IEND\xaeB`\x82")
    with pytest.raises(UserError, match="cannot be read"):
        export("llava", str(mixture), tmp_path / "out", progress=False)
    assert list(tmp_path.glob("*out*")) == []

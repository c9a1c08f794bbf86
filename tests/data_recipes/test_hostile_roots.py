"""What people, and worse, put into a root, for every source of files: nothing outside the root is read, what
cannot be used is named, and no good row is lost."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import polars as pl
import pytest
import yaml

from data_recipes import contents
from data_recipes.errors import UserError
from data_recipes.recipe import build, load_recipe
from data_recipes.sources import SOURCES, reads_files
from data_recipes.sources.openi import _LARGEST
from data_recipes.store import read_mixture
from tests.data_recipes.datasets import harvest, picture, write
from tests.data_recipes.roots import ROOTS, Watch

GOOD = 10
EVERY = [(name, table) for name, made in sorted(ROOTS.items()) for table in made.tables]
PACKED = [(name, table) for name, table in EVERY if ROOTS[name].packs]  # of text, and may be packed
TABLES = [(name, table) for name, table in PACKED if ROOTS[name].any_name]
OWN = ("csv", "coco", "messages")  # which know their tables by what is in them
each_source = pytest.mark.parametrize("name", sorted(ROOTS))
each_table = pytest.mark.parametrize(("name", "table"), TABLES)
each_packed_table = pytest.mark.parametrize(("name", "table"), PACKED)


def good_ids(name: str) -> list[str]:
    return [ROOTS[name].image_id(n) for n in range(GOOD)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with an empty root, and one outside of it with what nobody may read, watched."""
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAX_WORKERS", "1")
    (tmp_path / "root").mkdir()
    picture(tmp_path, "outside/secret.png")
    watch = Watch(tmp_path / "outside")
    yield tmp_path, watch
    watch.close()


def built(place: Path, name: str):
    """The mixture of the root, and rejected rows as (row, reason)."""
    recipe = {"name": "t", "source": name, "options": {"root": "root", **ROOTS[name].options}}
    (place / "t.yaml").write_text(yaml.safe_dump(recipe))
    folder = build(load_recipe(str(place / "t.yaml")), progress=False)
    path = folder / "rejected.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return read_mixture(folder), rows


@pytest.mark.parametrize("name", [name for name in SOURCES if reads_files(name)])
def test_every_source_of_files_is_tried(name):
    if name not in ROOTS:
        pytest.skip(f"write a root for {name} in tests/data_recipes/roots.py")
    files = __import__(SOURCES[name], fromlist=["FILES"]).FILES
    known = {
        name + suffix for needed in files for name in needed.names for suffix in ("", ".gz", ".zip")
    }  # fmt: skip
    assert set(ROOTS[name].tables) <= known or (name in OWN and not known)


def test_the_watch_sees_what_python_and_what_polars_opens(place):
    folder, watch = place
    (folder / "outside/t.csv").write_text("a\n1\n")
    watch.opened()
    (folder / "outside/secret.png").read_bytes()
    assert "secret.png" in watch.opened()
    pl.scan_csv(folder / "outside/t.csv").collect()
    assert "t.csv" in watch.opened()
    list((folder / "outside").iterdir())
    assert watch.opened()
    assert watch.opened() == []


@each_source
def test_nothing_outside_the_root_is_read_and_no_good_image_is_lost(place, name):
    folder, watch = place
    root, made = folder / "root", ROOTS[name]
    good = good_ids(name)
    leak = made.image_id(GOOD)  # an ordinary name, whose file is a link
    bad = [leak]
    if made.any_name:
        bad += ["../outside/secret.png", str(folder / "outside/secret.png"), "linked/secret.png"]
        bad += [f"{place}/patient00001/study1/secret.png" for place in ("linked", "../outside")]
    made.pictures(root, good)
    link = root / made.file.format(leak)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder / "outside/secret.png")
    (root / "linked").symlink_to(folder / "outside")
    made.write(root, good + bad)
    watch.opened()
    mixture, rejected = built(folder, name)
    assert watch.opened() == []
    assert {image.image_id for image in mixture.images} == set(good)
    rows = {(row["file"], row["row"]) for row in rejected}
    assert rows >= {made.place(n, image_id) for n, image_id in enumerate(bad, start=GOOD + 1)}
    reasons = " ".join(row["reason"] for row in rejected)
    assert "lies outside the folder" in reasons


@pytest.mark.parametrize(("name", "table"), EVERY)
def test_a_table_that_is_a_link_out_of_the_root_is_refused_unread(place, name, table):
    folder, watch = place
    made = ROOTS[name]
    made.write(folder / "root", good_ids(name))
    made.pictures(folder / "root", good_ids(name))
    (folder / "root" / table).rename(folder / "outside" / table)
    (folder / "root" / table).symlink_to(folder / "outside" / table)
    watch.opened()
    with pytest.raises(UserError, match=r"is a link out of .*: put the file itself there"):
        built(folder, name)
    assert watch.opened() == []


@each_source
def test_a_pipe_in_place_of_a_table_is_not_waited_for(place, name):
    folder, _ = place
    os.mkfifo(folder / "root" / ROOTS[name].table)
    with pytest.raises(UserError, match="holds no"):
        built(folder, name)


@each_table
def test_a_renamed_column_is_named_with_its_file(tmp_path, name, table):
    made = ROOTS[name]
    content = made.tables[table](good_ids(name))
    assert isinstance(content, str)
    if table == "grounded_reports_20240819.json":
        pytest.skip("its objects are nested: what one lacks is said by row")
    key = content.split(",")[0].strip('[{"').split('"')[0]
    made.write(tmp_path, good_ids(name), **{table: content.replace(key, f"{key}_old")})
    with pytest.raises(UserError, match=r"has no column|with the lists images") as caught:
        harvest(name, tmp_path)
    assert table in str(caught.value)
    assert name in OWN or repr(key) in str(caught.value)
    assert name in OWN or f"did you mean '{key}_old'" in str(caught.value)


@pytest.mark.parametrize(("name", "table"), [*PACKED, ("openi", ROOTS["openi"].table)])
def test_a_truncated_archive_is_one_line_that_names_it(tmp_path, name, table):
    made = ROOTS[name]
    content = made.tables[table](good_ids(name))
    packed = content if isinstance(content, bytes) else gzip.compress(os.urandom(999) + content.encode())
    packed_table = table if isinstance(content, bytes) else f"{table}.gz"
    if table in (
        "annotations_train.csv",
        "train.csv",
        "train.json",
        "master_table.csv",
        "CheXpert.csv",
    ):  # known by header
        packed = gzip.compress(content.encode() * 500)
    made.write(tmp_path, good_ids(name), **{packed_table: packed[: len(packed) * 2 // 3]})
    if packed_table != table:
        (tmp_path / table).unlink()
    with pytest.raises(UserError, match="is truncated") as caught:
        harvest(name, tmp_path)
    assert packed_table in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "table"), [case for case in EVERY if case[1].endswith(".json")])
def test_a_json_file_that_ends_in_the_middle_is_one_line_that_names_it(tmp_path, name, table):
    made = ROOTS[name]
    content = str(made.tables[table](good_ids(name)))
    if "\n" in content:
        pytest.skip("JSON lines: only the last one is broken")
    made.write(tmp_path, good_ids(name), **{table: content[: len(content) * 2 // 3]})
    with pytest.raises(UserError, match=r"is truncated|is no JSON") as caught:
        harvest(name, tmp_path)
    assert table in str(caught.value)
    assert "\n" not in str(caught.value)


@each_packed_table
@pytest.mark.parametrize("suffix", [".gz", ".zip"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, name, table, suffix, monkeypatch):
    monkeypatch.setattr(contents, "_HARMLESS", 2**20)
    made = ROOTS[name]
    if table == "CheXpert.csv":
        pytest.skip("is read in pieces, and never in memory as a whole")
    text = str(made.tables[table](good_ids(name))) + "\n" * 2**24
    made.write(tmp_path, good_ids(name), **{f"{table}{suffix}": packed(table, text, suffix)})
    (tmp_path / table).unlink()
    with pytest.raises(UserError, match=r"grows beyond \d+ MiB, as no table does"):
        harvest(name, tmp_path)


def packed(name: str, text: str, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(text.encode())
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return content.getvalue()


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path):
    made = ROOTS["nih"]
    text = str(made.rows(good_ids("nih")))
    data = bytearray(packed(made.table, text + "\n" * 2**24, ".zip"))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.rindex(mark) + offset
        data[place : place + 4] = len(text).to_bytes(4, "little")
    write(tmp_path, {f"{made.table}.zip": bytes(data)})
    with pytest.raises(UserError, match="is truncated, empty, or not what its name says"):
        harvest("nih", tmp_path)


def test_a_report_as_large_as_a_bomb_costs_itself_only(tmp_path):
    good = {f"r/{n}.xml": f'<a><uId id="{n}"/><AbstractText Label="FINDINGS">Clear.</AbstractText>'
            f'<parentImage id="i{n}"/></a>' for n in range(3)}  # fmt: skip
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in {"r/bomb.xml": "<a>" + " " * (_LARGEST + 1), **good}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    write(tmp_path, {"NLMCXR_reports.tgz": content.getvalue()})
    found = harvest("openi", tmp_path, **ROOTS["openi"].options)
    assert found.images["image_id"].to_list() == ["i0", "i1", "i2"]
    (only,) = found.funnel.rejected
    assert only.file == "r/bomb.xml"
    assert "larger than any report" in only.reason


@each_packed_table
def test_a_zip_whose_member_climbs_out_is_read_in_memory_and_writes_nothing(tmp_path, name, table):
    made = ROOTS[name]
    root = made.write(tmp_path / "a/b/root", good_ids(name))
    plain = read(name, root)
    content = packed(f"../../{table}", (root / table).read_text(), ".zip")
    (root / table).unlink()
    write(root, {f"{table}.zip": content})
    before = sorted(tmp_path.rglob("*"))
    found = read(name, root)
    assert sorted(tmp_path.rglob("*")) == before
    assert told(found) == told(plain) != []


def read(name: str, root: Path):
    return harvest(name, root, **ROOTS[name].options)


def told(found) -> list[tuple[str, ...]]:
    """What is said of images."""
    rows = found.entries.select("image_id", "task", "prompt", "target", "boxes").rows()
    return sorted((*texts, str(boxes)) for *texts, boxes in rows)


@each_table
def test_a_row_with_a_nul_byte_is_rejected_by_number_and_the_others_survive(tmp_path, name, table):
    made, good = ROOTS[name], good_ids(name)
    plain = read(name, made.write(tmp_path / "plain", good))
    ids = [*good[:4], "bad\0id", *good[4:]]
    rows = made.tables[table](ids)
    if table.endswith(".json"):
        rows = str(rows).replace("bad\0", "bad\\u0000")
    found = read(name, made.write(tmp_path / "bad", good, **{table: rows}))
    assert 5 in {
        r.row for r in found.funnel.rejected if "NUL byte" in r.reason or "not a file name" in r.reason
    }
    assert set(found.images["image_id"]) == set(good)
    assert told(found) == told(plain) != []


@each_table
def test_two_encodings_in_one_table_lose_no_row(tmp_path, name, table):
    made = ROOTS[name]
    stem, dot, suffix = good_ids(name)[0].partition(".")
    strange = f"{stem}ü{dot}{suffix}"
    if table.endswith(".json"):
        pytest.skip("a JSON list is one line: it has one encoding")
    ids = [*good_ids(name), strange]
    plain = read(name, made.write(tmp_path / "plain", ids))
    content = str(made.tables[table](ids)).splitlines(keepends=True)
    data = "".join(content[:-1]).encode() + content[-1].encode("cp1252") + content[1].encode()
    found = read(name, made.write(tmp_path / "both", ids, **{table: data}))
    assert set(ids) == set(found.images["image_id"])
    assert told(found) == told(plain) != []


@each_packed_table
def test_every_row_given_twice_makes_no_image_and_no_entry_twice(tmp_path, name, table):
    made = ROOTS[name]
    plain = read(name, made.write(tmp_path / "once", good_ids(name)))
    content = made.tables[table](good_ids(name) * 2)
    found = read(name, made.write(tmp_path / "twice", good_ids(name), **{table: content}))
    assert set(found.images["image_id"]) == set(good_ids(name))
    assert told(found) == told(plain) != []


@pytest.mark.parametrize("line", ["NUL", "long", "latin"])
def test_odd_lines_of_ones_own_rows(place, line):
    folder, _ = place
    root, made = folder / "root", ROOTS["folder"]
    made.pictures(root, good_ids("folder"))
    row = {"image": "images/0.png", "patient_id": "p0", "task": "vqa", "prompt": "Is it?", "target": "no"}
    odd = {
        "NUL": json.dumps(row | {"target": "n\0"}).encode(),
        "long": json.dumps(row | {"target": "x" * 2**25}).encode(),
        "latin": json.dumps(row | {"target": "señal"}, ensure_ascii=False).encode("cp1252"),
    }[line]
    content = lines = made.rows(good_ids("folder"))
    assert isinstance(content, str)
    (root / made.table).write_bytes(lines.encode() + odd + b"\n")
    mixture, rejected = built(folder, "folder")
    assert len(mixture.entries) == GOOD + (line == "latin")
    if line == "latin":
        assert "señal" in {entry.target for entry in mixture.entries}
        assert rejected == []
    else:
        (only,) = rejected
        assert (only["file"], only["row"]) == ("entries.jsonl", GOOD + 1)
        assert len(only["reason"]) < 200

"""Large tables in pieces."""

from __future__ import annotations

import gzip

import polars as pl
import pytest

from data_recipes import scan, stream
from data_recipes.errors import UserError
from data_recipes.funnel import Funnel

TABLE = 'id, mask ,marks\n1,a,"[[1 2]\n [3 4]]"\n2,b\n3,,x\n4,d,x,x\n5,e,"x, y"\n'


def read(path, monkeypatch, block: int = 2**20) -> tuple[pl.DataFrame, Funnel]:
    monkeypatch.setattr(stream, "_BLOCK", block)
    funnel = Funnel("test")
    parts = stream.read(path, {"key": "id", "mask": "mask"}, funnel, optional={"more": "more"})
    return pl.concat(list(parts)), funnel


@pytest.mark.parametrize("block", [32, 2**20])
def test_rows_are_those_of_the_file_whatever_the_size_of_a_piece(tmp_path, monkeypatch, block):
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    rows, funnel = read(path, monkeypatch, block)
    assert rows.rows() == [
        ("1", "a", None, "t.csv", 1), ("3", None, None, "t.csv", 3), ("5", "e", None, "t.csv", 5)
    ]  # fmt: skip
    assert [tuple(rejected) for rejected in funnel.rejected] == [
        ("t.csv", 2, "has 2 fields, the header has 3"), ("t.csv", 4, "has 4 fields, the header has 3"),
    ]  # fmt: skip
    (step,) = funnel.steps
    assert (step.came, step.kept, step.dropped) == (5, 3, {"broken": 2})


def test_many_rows_in_many_pieces_keep_their_numbers(tmp_path, monkeypatch):
    path = tmp_path / "t.csv.gz"
    lines = [f"{n},m{n}" + ",x" * (n % 7 == 0) for n in range(1, 500)]
    path.write_bytes(gzip.compress(("id,mask\n" + "\n".join(lines)).encode()))
    rows, funnel = read(path, monkeypatch, 64)
    assert rows["row"].to_list() == [n for n in range(1, 500) if n % 7]
    assert rows["key"].to_list() == [str(n) for n in range(1, 500) if n % 7]
    assert [rejected.row for rejected in funnel.rejected] == list(range(7, 500, 7))


def test_a_whole_table_is_as_scan_reads_it(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("\ufeffid,mask\n1,a\n2,\n")
    rows, _ = read(path, monkeypatch)
    columns = {"key": "id", "mask": "mask"}
    assert rows.equals(scan.read(path, columns, Funnel("test"), optional={"more": "more"}))


def test_broken_files_are_one_clear_line(tmp_path, monkeypatch):
    packed = gzip.compress("".join(f"{n},{n * 7919}\n" for n in range(20_000)).encode())
    bad = {"cut.csv.gz": gzip.compress(b"id,mask\n") + packed[:20_000], "no.csv.gz": b"id,mask\n1,2\n"}
    bad |= {"header.csv": b"id,mask\n", "empty.csv": b""}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} .*(get it again|no column)"):
            read(tmp_path / name, monkeypatch)
    (tmp_path / "other.csv").write_text("id,masks\n1,2\n")
    with pytest.raises(UserError, match="no column 'mask': did you mean 'masks'"):
        read(tmp_path / "other.csv", monkeypatch)
    with pytest.raises(UserError, match="is missing"):
        read(tmp_path / "none.csv", monkeypatch)

"""Reading tables as columns: odd files are survived or refused in one line, and no good row is lost."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes import contents
from data_recipes.contents import lines
from data_recipes.errors import UserError
from data_recipes.funnel import Funnel
from data_recipes.scan import numbers, read, read_json

AB = {"a": "a", "b": "b"}


def table(tmp_path: Path, content: bytes, name: str = "t.csv", **more) -> tuple[list[tuple], Funnel]:
    (tmp_path / name).write_bytes(content)
    funnel = Funnel("test")
    frame = read(tmp_path / name, AB, funnel, **more)
    return frame.select("a", "b", "row").rows(), funnel


def test_values_are_text_and_rows_are_numbered_after_the_header(tmp_path):
    rows, funnel = table(tmp_path, b"a,c,b\n1,x,007\n,y,2\n")
    assert rows == [("1", "007", 1), (None, "2", 2)]
    assert funnel.rejected == []


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zip"])
def test_packed_tables(tmp_path, name):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__MACOSX/._t.csv", "junk")
        archive.writestr("deep/t.csv", "a,b\n1,2\n")
    content = gzip.compress(b"a,b\n1,2\n") if name.endswith("gz") else packed.getvalue()
    assert table(tmp_path, content, name)[0] == [("1", "2", 1)]


def test_blanks_around_column_names_and_a_byte_order_mark_do_no_harm(tmp_path):
    assert table(tmp_path, b"\xef\xbb\xbfa , b\r\n1,2\r\n")[0] == [("1", "2", 1)]
    assert table(tmp_path, "a,b\n1,ü\n".encode("utf-16"))[0] == [("1", "ü", 1)]


def test_lines_in_two_encodings_in_one_file_are_both_read(tmp_path):
    content = "a,b\n1,é\n".encode() + "2,ñ\n".encode("cp1252")
    assert table(tmp_path, content)[0] == [("1", "é", 1), ("2", "ñ", 2)]


def test_a_row_with_too_many_fields_is_rejected_and_the_others_survive(tmp_path):
    rows, funnel = table(tmp_path, b"a,b\n1,2\n1,2,3\n4,5\n")
    assert rows == [("1", "2", 1), ("4", "5", 3)]
    assert [(r.file, r.row, r.reason) for r in funnel.rejected] == [
        ("t.csv", 2, "has more fields than the header")
    ]


def test_an_unclosed_quote_costs_its_own_line_only(tmp_path):
    rows, funnel = table(tmp_path, b'a,b\n1,"2\n3,"x\ny"\n4,5\n6,7\n')
    # the first quote is closed by the second: what stands between is one value
    assert rows[-2:] == [("4", "5", rows[-2][2]), ("6", "7", rows[-1][2])]
    rows, funnel = table(tmp_path, b'a,b\n1,"2\n3,4\n5,6\n')
    assert rows == [("3", "4", 2), ("5", "6", 3)]
    assert funnel.rejected[0].reason == "has a quote that is never closed, or a value of absurd length"


def test_short_and_blank_rows(tmp_path):
    rows, funnel = table(tmp_path, b"a,b\n1\n\n2,3\n")
    assert rows == [("1", None, 1), ("2", "3", 3)]
    assert funnel.steps[-1].dropped == {"blank": 1}


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        # mtime: a name of a test must be the same in every process that runs tests
        (gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:30], "t.csv.gz", "truncated"),
        (b"a,b\n1,2\n", "t.csv.gz", "Not a gzipped file"),
        (b"PK\x03\x04 cut", "t.csv.zip", "not a zip file"),
        (b"", "t.csv", "empty"),
        (b"A,b\n1,2\n", "t.csv", "has no column 'a': did you mean 'A'? It has: A, b"),
        (b"image_idx,b\n1,2\n", "t.csv", "has no column 'a'"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_clear_line(tmp_path, content, name, message):
    with pytest.raises(UserError) as caught:
        table(tmp_path, content, name)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(UserError, match=r"no\.csv is missing"):
        read(tmp_path / "no.csv", AB, Funnel("test"))


def test_alternative_and_optional_columns(tmp_path):
    (tmp_path / "t.csv").write_text("rad_ID,a\nR1,2\n")
    frame = read(
        tmp_path / "t.csv", {"reader": ("rad_id", "rad_ID")}, Funnel("t"), optional={"z": "z", "a": "a"}
    )
    assert frame.select("reader", "z", "a").rows() == [("R1", None, "2")]


def test_numbers_are_cast_and_what_is_none_is_rejected_by_name():
    frame = pl.DataFrame(
        {"x": ["1", " 2.5 ", None, "two", "nan", "1e3"], "file": ["f"] * 6, "row": list(range(1, 7))}
    )
    funnel = Funnel("test")
    assert numbers(frame, ["x"], funnel, "step")["x"].to_list() == [1, 2.5, None, 1000]
    assert [(r.row, r.reason) for r in funnel.rejected] == [(4, "x is no number"), (5, "x is no number")]


def test_lines_of_a_list(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"a.png\r\n\n b.png \n")
    assert lines(tmp_path / "l.txt") == ["a.png", "b.png"]


FIELD = st.text(st.characters(exclude_characters="\r\x00", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6))
def test_what_csv_writes_is_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("a", "b"), *rows])
    found, funnel = table(folder, text.getvalue().encode())
    assert not funnel.rejected
    said = [(a or None, b or None) for a, b in rows]
    assert [(a or None, b or None) for a, b, _ in found] == [row for row in said if row != (None, None)]


def test_a_folder_with_brackets_in_its_name_is_no_pattern(tmp_path):
    folder = tmp_path / "[new] *files"
    folder.mkdir()
    assert table(folder, b"a,b\n1,2\n")[0] == [("1", "2", 1)]


VALUE = (
    st.none()
    | st.text(max_size=6)
    | st.integers(-99, 99)
    | st.lists(st.text('ab,]}"\\', max_size=3), max_size=3)
)
ITEM = st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUE) | st.integers() | st.text("[],", max_size=4)


@settings(deadline=None)
@given(st.lists(ITEM, max_size=6), st.integers(1, 9), st.sampled_from([None, 1]))
def test_a_json_list_read_in_pieces_is_the_list(tmp_path_factory, items, piece, indent):
    path = tmp_path_factory.mktemp("json") / "t.json"
    path.write_text(json.dumps(items, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(contents, "_PIECE", piece)
        assert list(contents.items(path)) == items


@pytest.mark.parametrize(
    "content", ['[{"a": 1}', '[{"a": 1} {"a": 2}]', '[{"a": 1}] 2', '[{"a":', "", '[{"a": 1},]']
)
def test_a_broken_json_list_is_one_clear_line(tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(UserError, match=r"t\.json is truncated, empty, or not what its name says"):
        read_json(tmp_path / "t.json", AB, Funnel("test"))


def test_lists_in_json_are_joined_and_empty_ones_are_told_apart_from_nothing(tmp_path):
    (tmp_path / "t.json").write_text('[{"a": ["x", 2], "b": []}, {"a": null, "b": ""}, 7]')
    funnel = Funnel("test")
    frame = read_json(tmp_path / "t.json", AB, funnel, empty_list="none")
    assert frame.select("a", "b").rows() == [("x, 2", "none"), (None, None)]
    assert [(one.row, one.reason) for one in funnel.rejected] == [(3, "is no object")]

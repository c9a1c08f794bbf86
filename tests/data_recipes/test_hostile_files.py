"""What people put into a root beside its tables: links out of it, and broken files among good ones."""

from __future__ import annotations

import io
import json
import zipfile

import pyarrow as pa
import pytest

from data_recipes.errors import UserError
from data_recipes.sources import fingerprint
from data_recipes.sources.mimic import scene_graphs
from tests.data_recipes.datasets import boxes_of, harvest, reasons, said, write
from tests.data_recipes.mimic import IMAGES, graph, put, region
from tests.data_recipes.roots import ROOTS, Watch

OUTSIDE = "lies outside the folder: name it relative to the folder, without '..'"


@pytest.fixture
def outside(tmp_path):
    """A folder beside the root, with a file, watched."""
    folder = tmp_path / "outside"
    write(folder, {"secret": "Patient's Sex: F\nThe secret.\n"})
    watch = Watch(folder)
    yield folder / "secret", watch
    watch.close()


def link(place, target):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("montgomery", "ClinicalReadings/MCUCXR_0002_0.txt"),
        ("montgomery", "ManualMask/leftMask/MCUCXR_0001_0.png"),
        ("jsrt", "masks/heart/JPCLN001.gif"),
    ],
)
def test_a_file_beside_tables_that_is_a_link_out_is_rejected_unread(tmp_path, outside, name, file):
    made, (secret, watch) = ROOTS[name], outside
    root = made.write(tmp_path / "root", [made.image_id(n) for n in range(3)])
    plain = harvest(name, root)
    link(root / file, secret)
    watch.opened()
    found = harvest(name, root)
    fingerprint(name, {"root": str(root)})
    assert watch.opened() == []
    assert reasons(found)[(file, 1, f"image {file!r} {OUTSIDE}")] == 1
    assert set(said(plain, "report")) <= set(said(found, "report"))
    assert plain.entries.height <= found.entries.height


def test_reports_and_graphs_of_mimic_behind_links_are_not_read(tmp_path, outside):
    secret, watch = outside
    root = put(tmp_path / "root")
    (root / "mimic-cxr/mimic-cxr-reports.zip").unlink()
    (root / "imagenome/silver_dataset/scene_graph.zip").unlink()
    write(root, {"files/p10/p10000002/s52.txt": "FINDINGS: Clear.\n",
                 "scene_graph/b1_SceneGraph.json": graph(region("left lung", 1, 2, 50, 90))})  # fmt: skip
    link(root / "files/p10/p10000001/s51.txt", secret)
    link(root / "files/p11/p11000003", secret.parent)
    link(root / "scene_graph/a1_SceneGraph.json", secret)
    watch.opened()
    options = {"imagenome": ["regions"]}
    found = harvest("mimic", root, **options)
    fingerprint("mimic", {"root": str(root), **options})
    assert watch.opened() == []
    assert {image for image, _ in said(found, "report")} == {"b1", "b2"}
    assert said(found, "reg", "b1") == [("b1", "left lung")]


def test_what_a_link_out_says_of_a_saved_dataset_is_refused_unread(tmp_path, outside):
    secret, watch = outside
    root = write(tmp_path / "root", {"x": ""})
    rows = pa.table({"messages": [["text"]]})
    with pa.ipc.new_stream(str(root / "data.arrow"), rows.schema) as stream:
        stream.write_table(rows)
    link(root / "state.json", secret)
    watch.opened()
    with pytest.raises(UserError, match=r"state\.json is a link out of"):
        harvest("messages", root)
    assert watch.opened() == []


def test_a_reading_that_is_none_costs_its_text_only(tmp_path):
    made = ROOTS["montgomery"]
    root = made.write(tmp_path, [])
    write(root, {"MCUCXR_0002_0.txt": "normal\0", "MCUCXR_0003_1.txt": "x" * (2**20 + 1),
                 "MCUCXR_0004_1.txt": "Cavity, 2 cm\u00b2."})  # fmt: skip
    found = harvest("montgomery", root)
    assert reasons(found) == {
        ("MCUCXR_0002_0.txt", 1, "holds a NUL byte"): 1,
        ("MCUCXR_0003_1.txt", 1, "is no reading: too large"): 1,
    }
    assert dict(said(found, "report"))["MCUCXR_0004_1"] == "Cavity, 2 cm\u00b2."
    assert len(said(found, "findings")) == 4


def test_lines_of_jsrt_that_name_no_image_are_rejected_by_number(tmp_path):
    made = ROOTS["jsrt"]
    first, second = (str(made.rows([made.image_id(n)])) for n in (1, 2))
    odd = ["image size age\r", "JPCLN1x.IMG 5 15\r", "\0\0\r", "x/"]
    text = "".join([odd[0], first, "\r \r", *odd[1:], second])
    found = harvest("jsrt", write(tmp_path, {made.table: text}))
    assert found.images["image_id"].to_list() == ["JPCLN001", "JPCLN002"]
    assert {row for _, row, why in reasons(found) if why.startswith("starts with no name")} == {1, 3, 4, 5}


def test_one_broken_graph_costs_itself_only(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for image in ("a1", "b1", "c1", "d1"):
            archive.writestr(f"{image}_SceneGraph.json", graph(region("left lung", 1, 2, 50, 90)))
    data = bytearray(content.getvalue())
    data[data.index(b"left lung")] ^= 1  # of a1: its checksum does not fit
    huge = graph(region("left lung", 1, 2, 50, 10**400)).encode()
    half = graph(region("left \ud800lung", 1, 2, 50, 90)).encode()
    content = io.BytesIO(data)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("f1_SceneGraph.json", half)
        archive.writestr("e1_SceneGraph.json", huge)
    root = put(tmp_path, **{"imagenome/silver_dataset/scene_graph.zip": content.getvalue()})
    found = harvest("mimic", root, base="all", imagenome=["regions"])
    why = {file: text for file, _, text in reasons(found) if file.endswith("_SceneGraph.json")}
    assert "is broken in the archive" in why.pop("a1_SceneGraph.json")
    assert "is no scene graph" in why.pop("e1_SceneGraph.json")
    assert why == {}
    named = {image for image, target in said(found, "reg") if target == "left lung"}
    assert named >= {"b1", "c1", "d1"}
    assert said(found, "reg", "f1") == [("f1", "left \ufffdlung")]


def test_a_graph_as_large_as_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(scene_graphs, "_LARGEST", 10)
    found = harvest("mimic", put(tmp_path), imagenome=["regions"])
    why = {file[12:14]: text for file, _, text in reasons(found) if file.endswith("_SceneGraph.json")}
    assert why["a1"] == why["b1"] == "is no scene graph: too large"
    assert not any(target == "left lung" for _, target in said(found, "reg"))


@pytest.mark.parametrize(
    "odd", [None, "text", 7, [], {}, {"image_id": {}}, {"image_id": 7, "bbox": "x"},
            {"image_id": 7, "bbox": [1, 2, 10**400, 4], "label_text": "x"}, {"image_id": "\ud800"}],
)  # fmt: skip
def test_one_odd_annotation_of_ms_cxr_costs_itself_only(tmp_path, odd):
    name = "ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json"
    plain = harvest("mimic", put(tmp_path / "plain"))
    assert boxes_of(plain)["a1"]
    root = put(tmp_path / "odd")
    coco = json.loads((root / name).read_text())
    coco["annotations"].insert(1, odd)
    coco["images"].insert(0, odd)
    (root / name).write_text(json.dumps(coco))
    found = harvest("mimic", root)
    assert boxes_of(found) == boxes_of(plain)
    assert 2 in {row for file, row, _ in reasons(found) if file == name.rpartition("/")[2]}
    assert set(IMAGES) >= set(found.images["image_id"])


@pytest.mark.parametrize(("name", "table"), [("coco", "instances.json"), ("messages", "train.jsonl")])
def test_a_broken_file_beside_a_good_one_is_named(tmp_path, name, table):
    made = ROOTS[name]
    root = made.write(tmp_path, [made.image_id(n) for n in range(3)])
    write(root, {"valid.json": '{"images": [{"id": 1'})
    found = harvest(name, root)
    assert found.images.height == 3
    named = [file for file, _, _ in reasons(found)] + list(found.notes)
    assert any("valid.json" in text for text in named)
    assert not any(str(tmp_path) in text for text in named)
    (root / table).unlink()
    with pytest.raises(UserError, match=r"holds no .*valid\.json is .*no JSON"):
        harvest(name, root)

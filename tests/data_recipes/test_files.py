"""Finding people's files: by name, never outside the root."""

from __future__ import annotations

import pytest

from data_recipes.errors import UserError
from data_recipes.files import Files, Needed, locate

LABELS = Needed("labels", ("labels.csv", "old_labels.csv"), "labels")


def test_a_table_is_found_by_any_of_its_names_and_packings_some_folders_down(tmp_path):
    files = Files(tmp_path)
    assert files.find(LABELS) is None
    with pytest.raises(UserError, match=r"holds no labels\.csv or old_labels\.csv"):
        files.path(LABELS)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/old_labels.csv.gz").write_bytes(b"")
    assert Files(tmp_path).find(LABELS) == tmp_path / "a/b/old_labels.csv.gz"
    (tmp_path / "labels.csv").write_bytes(b"")
    assert Files(tmp_path).find(LABELS) == tmp_path / "labels.csv"


def test_a_common_name_is_told_apart_by_its_header(tmp_path):
    for folder, header in (("chexpert", "Path,Sex"), ("vinbig", "image_id,class_name")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.csv").write_text(header + "\n1,2\n")
    found = Files(tmp_path).find(Needed("train", ("train.csv",), "boxes", header="class_name"))
    assert found == tmp_path / "vinbig/train.csv"


def test_a_link_out_of_the_root_is_refused_and_folders_behind_links_are_not_walked(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "labels.csv").write_text("secret")
    (outside / "secret.png").write_bytes(b"png")
    (root / "linked").symlink_to(outside)
    assert Files(root).find(LABELS) is None
    assert Files(root).image_files == []
    (root / "labels.csv").symlink_to(outside / "labels.csv")
    with pytest.raises(UserError, match="is a link out of"):
        Files(root).find(LABELS)


def test_images_are_known_by_name_with_and_without_suffix(tmp_path):
    (tmp_path / "images_001/images").mkdir(parents=True)
    (tmp_path / "images_001/images/7.1.png").write_bytes(b"")
    names = ["7.1.png", "7.1", "images/7.1.png", "7", "absent.png"]
    assert Files(tmp_path).find_images(names) == dict.fromkeys(names[:3], "images_001/images/7.1.png")


def test_the_fingerprint_sees_tables_and_names_of_images(tmp_path):
    (tmp_path / "labels.csv").write_text("a")
    prints = [Files(tmp_path).fingerprint([LABELS], images=True)]
    (tmp_path / "labels.csv").write_text("b")
    prints.append(Files(tmp_path).fingerprint([LABELS], images=True))
    (tmp_path / "x.png").write_bytes(b"")
    prints.append(Files(tmp_path).fingerprint([LABELS], images=True))
    assert len(set(prints)) == 3
    alone = Files(tmp_path).fingerprint([LABELS], images=False)
    (tmp_path / "y.png").write_bytes(b"")
    assert Files(tmp_path).fingerprint([LABELS], images=False) == alone


def test_without_root_and_package_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--root FOLDER, the folder with labels\.csv; or, .* pip install"):
        locate(None, "some", [LABELS])
    with pytest.raises(UserError, match="is no folder"):
        locate(str(tmp_path / "nowhere"), "some", [LABELS])

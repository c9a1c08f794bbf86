"""Source `csv`: any table and a folder of images, column by column and quirk by quirk."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.label_lists import parted
from data_recipes.recipe import build
from data_recipes.recipe_file import ImageCentric
from data_recipes.store import open_image, read_mixture
from tests.data_recipes.datasets import boxes_of, dropped, harvest, picture, reasons, said, write

LABELLED = """Image,Patient ID,View Position,Split,Labels
a.png,p1,PA,train,Cardiomegaly|Effusion
b.png,p1,AP,train,No Finding
c.png,p2,LL,valid,Mass
d.png,p3,weird,test,
"""


def folder(tmp_path, table: str, *images: str, name: str = "table.csv"):
    for image in images:
        picture(tmp_path, image, 20, 10)
    return write(tmp_path, {name: table})


def test_guessed_columns_make_entries_and_are_noted(tmp_path):
    found = harvest("csv", folder(tmp_path, LABELLED))
    assert said(found, "findings") == [
        ("a.png", "cardiomegaly, pleural effusion"), ("b.png", "no finding"), ("c.png", "mass"),
    ]  # fmt: skip
    assert dict(found.images.select("image_id", "split").rows()) == {
        "a.png": "train", "b.png": "train", "c.png": "validation", "d.png": "test",
    }  # fmt: skip
    assert found.images["view"].to_list() == ["PA", "AP", "lateral", "unknown"]
    assert found.images["patient_id"].to_list() == ["p1", "p1", "p2", "p3"]
    (note,) = [note for note in found.notes if note.startswith("Columns of table.csv")]
    assert "labels = 'Labels'" in note
    assert "Guessed from their names: image, patient_id, split, view, labels" in note
    assert dropped(found, "labels: said") == {"says no labels": 1}  # blank says nothing, not "no finding"


def test_splits_by_the_table_are_a_policy(tmp_path):
    found = harvest("csv", folder(tmp_path, LABELLED), splits="drawn")
    assert set(found.images["split"]) == {""}


def test_a_patient_in_two_splits_goes_to_the_one_held_out_more(tmp_path):
    table = "image,patient,split,labels\na,1,train,mass\nb,1,test,mass\nc,2,train,mass\n"
    found = harvest("csv", folder(tmp_path, table))
    assert found.images["split"].to_list() == ["test", "test", "train"]
    assert any("1 patients stood in two splits" in note for note in found.notes)


def test_columns_that_the_user_names_win_over_guesses(tmp_path):
    table = "image,path,diagnosis,labels\nx,a.png,Mass,wrong\n"
    columns = {"image": "path", "labels": "diagnosis"}
    found = harvest("csv", folder(tmp_path, table), columns=columns)
    assert said(found, "findings") == [("a.png", "mass")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"imag": "Image"}}, "unknown meaning of a column 'imag': did you mean 'image'"),
        (
            {"columns": {"image": "Imag"}},
            "unknown column of table.csv for image 'Imag': did you mean 'Image'",
        ),
        ({"findings": ["Label"]}, "in findings 'Label': did you mean 'Labels'"),
        ({"columns": {"x": "Split"}}, "boxes need all of x1, y1, x2, y2, or all of x, y, w, h"),
        ({"table": "tabel.csv"}, "unknown table 'tabel.csv': did you mean 'table.csv'"),
        ({"patient_from": "("}, "regular expression"),
        ({"patient_from": "p1"}, "one group in brackets"),
        ({"column": {}}, "did you mean 'columns'"),
        ({"columns": {"labels": ""}}, "no row says anything of an image"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path, options, message):
    with pytest.raises(UserError) as error:
        harvest("csv", folder(tmp_path, LABELLED), **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_tables_that_cannot_be_chosen_or_name_no_image(tmp_path):
    with pytest.raises(UserError, match="no table"):
        harvest("csv", tmp_path)
    write(tmp_path, {"a.csv": "x,y\n1,2\n"})
    with pytest.raises(UserError, match=r"no column that names the image: set option columns\.image"):
        harvest("csv", tmp_path)
    write(tmp_path, {"b.csv": LABELLED})
    with pytest.raises(UserError, match=r"several tables \(a\.csv, b\.csv\): choose with option table"):
        harvest("csv", tmp_path)
    assert said(harvest("csv", tmp_path, table="b.csv"), "findings")


def test_zero_one_columns_are_findings_with_a_policy_for_uncertain_ones(tmp_path):
    table = (
        "image,Sex,Mass,Pleural Effusion,No Finding,Age\n"
        "a,1,1,0,0,40\nb,0,0,1.0,0,50\nc,1,0,0,1,60\nd,0,-1,0,,70\ne,1,,1,,30\n"
    )
    root = folder(tmp_path, table)
    found = harvest("csv", root)
    assert said(found, "findings") == [
        ("a", "mass"), ("b", "pleural effusion"), ("c", "no finding"), ("e", "pleural effusion"),
    ]  # fmt: skip
    assert any("findings: Mass, Pleural Effusion, No Finding" in note for note in found.notes)  # Sex is none
    found = harvest("csv", root, uncertain="positive", findings=["Mass"])
    assert said(found, "findings") == [("a", "mass"), ("d", "mass")]


def test_a_cell_that_is_no_number_costs_its_row_only(tmp_path):
    table = "image,Mass\na,1\nb,maybe\nc,0\nd,1\n"
    found = harvest("csv", folder(tmp_path, table), findings=["Mass"])
    assert reasons(found) == {("table.csv", 2, "Mass is no number"): 1}
    assert [image for image, _ in said(found, "findings")] == ["a", "d"]


def test_corner_boxes_in_pixels_of_the_file_or_of_the_size_that_the_table_says(tmp_path):
    table = "image,xmin,ymin,xmax,ymax,class\na.png,5,1,10,6,Mass\na.png,5,1,10,6,Mass\nb.png,,,,,\n"
    found = harvest("csv", folder(tmp_path, table, "a.png", "b.png"))
    assert boxes_of(found) == {"a.png": [[0.25, 0.1, 0.5, 0.6]]}
    assert said(found, "findings") == [("a.png", "mass"), ("b.png", "no finding")]
    sized = table.replace("class", "class,image width,image height").replace("Mass", "Mass,100,100")
    found = harvest("csv", folder(tmp_path, sized.replace(",,,,,", ",,,,,,,")))
    assert boxes_of(found) == {"a.png": [[0.05, 0.01, 0.1, 0.06]]}


def test_width_and_height_belong_to_the_box_beside_x_and_y_and_to_the_image_beside_corners(tmp_path):
    root = folder(tmp_path, "image,x,y,width,height,label\na.png,5,1,5,5,Mass\n", "a.png")
    assert boxes_of(harvest("csv", root)) == {"a.png": [[0.25, 0.1, 0.5, 0.6]]}
    root = folder(tmp_path, "image,x1,y1,x2,y2,width,height,label\nq,5,1,10,6,20,10,Mass\n")
    assert boxes_of(harvest("csv", root)) == {"q": [[0.25, 0.1, 0.5, 0.6]]}


def test_boxes_at_most_one_are_fractions_unless_said_otherwise(tmp_path):
    root = folder(tmp_path, "image,x1,y1,x2,y2,label\na.png,0.25,0,1,0.5,Mass\n", "a.png")
    found = harvest("csv", root)
    assert boxes_of(found) == {"a.png": [[0.25, 0, 1, 0.5]]}
    assert "Boxes were taken for fractions of the image." in found.notes
    assert boxes_of(harvest("csv", root, boxes="pixels")) == {"a.png": [[0.0125, 0, 0.05, 0.05]]}


def test_bad_boxes_are_rejected_by_row_and_the_good_ones_survive(tmp_path):
    table = (
        "image,x1,y1,x2,y2,label\na.png,1,1,5,5,Mass\na.png,5,1,1,5,Mass\na.png,1,1,500,5,Mass\n"
        "a.png,1,,5,5,Mass\na.png,one,1,5,5,Mass\na.png,1,1,5,5,\na.png,0,0,9,9,No finding\n"
    )
    found = harvest("csv", folder(tmp_path, table, "a.png"))
    assert boxes_of(found) == {"a.png": [[0.05, 0.1, 0.25, 0.5]]}
    assert reasons(found) == {
        ("table.csv", 2, "box is empty or reversed: it needs x1 < x2 and y1 < y2"): 1,
        ("table.csv", 3, "box leaves the image: is it in the scale of another?"): 1,
        ("table.csv", 4, "box lacks a coordinate"): 1,
        ("table.csv", 5, "x1 is no number"): 1,
        ("table.csv", 6, "box has no label"): 1,
    }
    assert dropped(found, "boxes of findings") == {"a box of no finding": 1}


def test_questions_reports_ratios_and_grades(tmp_path):
    table = (
        "image,question,answer,question_type,report,CTR,severity\n"
        'a,Is it?,Yes.,Closed/Ended,"Clear lungs.\n  No mass.",0.48,2\n'
        "a,How many?,3,open,,0.51,2\n"
        "b,,,,,1.0,alveolar edema\n"
        "c,Why?,,,,much,7\n"
        "d,,none,,,2.5,mild\n"
    )
    found = harvest("csv", folder(tmp_path, table))
    assert said(found, "vqa") == [("a", "yes"), ("a", "3")]
    assert said(found, "report") == [("a", "Clear lungs. No mass.")]
    assert said(found, "calculation") == [("a", "CTR 0.48"), ("b", "CTR 1.00")]
    assert said(found, "severity") == [
        ("a", "grade 2, interstitial edema"), ("b", "grade 3, alveolar edema"),
    ]  # fmt: skip
    assert {(row, why.partition(" ")[0]) for _, row, why in reasons(found)} == {
        (4, "answer"), (4, "ctr"), (4, "severity"),
        (5, "question"), (5, "Ratio(name='CTR',"), (5, "severity"),
    }  # fmt: skip
    assert set(found.entries.filter(found.entries["task"] == "vqa")["provenance"]) == {
        "csv/vqa/closed or ended", "csv/vqa/open",
    }  # fmt: skip


def test_patients_from_a_pattern_or_every_image_its_own_which_is_noted(tmp_path):
    table = "image,labels\npat7_1.png,mass\npat7_2.png,mass\nodd.png,mass\n"
    found = harvest("csv", folder(tmp_path, table))
    assert found.images["patient_id"].to_list() == ["pat7_1.png", "pat7_2.png", "odd.png"]
    assert any("every image counts as a patient of its own" in note for note in found.notes)
    found = harvest("csv", tmp_path, patient_from=r"(pat\d+)_")
    assert found.images["patient_id"].to_list() == ["pat7", "pat7"]
    assert reasons(found) == {("table.csv", 3, "patient_from finds no patient in the name"): 1}


def test_rows_that_disagree_about_the_patient_are_rejected(tmp_path):
    found = harvest("csv", folder(tmp_path, "image,patient,labels\na,1,mass\na,2,nodule\nb,,mass\n"))
    assert said(found, "findings") == [("a", "mass")]
    assert reasons(found) == {
        ("table.csv", 2, "its image belongs to another patient in an earlier row"): 1,
        ("table.csv", 3, "patient id is missing"): 1,
    }


def test_images_are_found_by_path_name_stem_and_with_backslashes_and_foreign_folders(tmp_path):
    names = ["sub/a.png", "b", "sub\\c.png", "Export-2020/sub/d.png", "e.png", "gone.png", ""]
    table = "image,labels\n" + "".join(f'"{name}",mass\n' for name in names)
    root = folder(tmp_path, table, *(f"sub/{n}.png" for n in "abcd"), "one/e.png", "two/e.png")
    found = harvest("csv", root, pixels="copy")
    assert dict(found.images.select("image_id", "file").rows()) == {
        "sub/a.png": "sub/a.png", "b": "sub/b.png", "sub\\c.png": "sub/c.png",
        "Export-2020/sub/d.png": "sub/d.png", "gone.png": "gone.png",
    }  # fmt: skip
    assert reasons(found) == {
        ("table.csv", 5, "image 'e.png' means several files: one/e.png and two/e.png"): 1,
        ("table.csv", 7, "no image is named"): 1,
    }


def test_two_names_of_one_file_are_one_image(tmp_path):
    found = harvest("csv", folder(tmp_path, "image,labels\nsub/a.png,mass\na,nodule\n", "sub/a.png"))
    assert said(found, "findings") == [("sub/a.png", "mass, nodule")]


def test_hostile_paths_are_rejected(tmp_path):
    picture(tmp_path, "secret.png")
    root = tmp_path / "root"
    table = "image,labels\n../secret.png,mass\n/etc/passwd,mass\nC:\\x.png,mass\nlink.png,mass\na.png,mass\n"
    folder(root, table, "a.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    recipe = ImageCentric(name="own", source="csv", options={"root": str(root)})
    out = build(recipe, tmp_path / "out", progress=False)
    mixture = read_mixture(out)
    assert [image.image_id for image in mixture.images] == ["a.png"]
    lines = (out / "rejected.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert all("lies outside the folder" in line for line in lines)


def test_a_link_out_of_the_folder_is_no_table(tmp_path):
    write(tmp_path, {"secret.csv": LABELLED})
    root = tmp_path / "root"
    root.mkdir()
    (root / "table.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(UserError, match="is a link out of"):
        harvest("csv", root)


@pytest.mark.parametrize(("name", "sign"), [("t.csv", ";"), ("t.tsv", "\t"), ("t.csv", "|")])
def test_other_separators_are_found_and_decimal_commas_understood(tmp_path, name, sign):
    table = "image,CTR\na,0.48\nb,0.5\n".replace(",", sign)
    if sign == ";":
        table = table.replace(".", ",")
    found = harvest("csv", folder(tmp_path, table, name=name))
    assert said(found, "calculation") == [("a", "CTR 0.48"), ("b", "CTR 0.50")]


def test_a_row_with_too_many_fields_and_old_encodings_do_not_cost_the_others(tmp_path):
    table = "image;labels\na;Kardiomegalie grö\nb;mass;more\nc;mass\n".encode("cp1252")
    found = harvest("csv", write(tmp_path, {"table.csv": table}), separator="|")
    assert reasons(found)[("table.csv", 2, "has more fields than the header")] == 1
    assert said(found, "findings") == [("c", "mass")]  # a finding is written in plain letters
    assert any(row == 1 and "is not a finding label" in why for _, row, why in reasons(found))


def test_a_built_mixture_is_sound_and_shows_dicom_files(tmp_path, monkeypatch):
    pytest.importorskip("pydicom")
    monkeypatch.setenv("IMAX_WORKERS", "1")
    from tests.data_recipes.test_dicom import make

    root = folder(tmp_path / "root", "file,patient,labels\na.png,1,mass\nscan.dcm,2,mass\n", "a.png")
    make(root / "scan.dcm", np.arange(96, dtype=np.uint16).reshape(8, 12))
    recipe = ImageCentric(name="own", source="csv", options={"root": str(root)})
    out = build(recipe, tmp_path / "out", progress=False)
    mixture = read_mixture(out)
    assert len(mixture.images) == 2
    assert check(out).sound
    assert all(open_image(out, image).size == (image.width, image.height) for image in mixture.images)
    assert str(tmp_path) not in (out / "README.md").read_text()


LABEL = st.from_regex(r"[a-z][a-z ]{0,8}[a-z]", fullmatch=True)


@given(st.lists(LABEL, max_size=5), st.sampled_from([" | ", ";", ", ", "list", "bare"]))
def test_lists_of_labels_are_read_back_however_they_are_written(labels, form):
    text = {"list": str(labels), "bare": f"[{', '.join(labels)}]"}.get(form, form.join(labels))
    (found,) = parted(pl.Series([text], dtype=pl.String), None)
    assert list(found) == [
        label for label in labels if label not in ("nan", "none", "null") or form == "list"
    ]

"""Source `mimic`: which images, of which patients, in which split."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest

from data_recipes.errors import UserError
from data_recipes.recipe import build, load_recipe
from data_recipes.sources import file_options, file_source
from data_recipes.store import read_mixture
from harness.commands.doctor import data_lines
from tests.data_recipes.datasets import dropped, harvest, picture, reasons, said, write
from tests.data_recipes.mimic import IMAGES, JPG, archive, core, put, table

CTRS = "cxr-cardiomegaly/CTRs.csv"


def splits(found) -> dict[str, str]:
    return dict(found.images.select("image_id", "split").rows())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return put(tmp_path_factory.mktemp("mimic"))


def test_metadata_and_splits_and_ratios_are_enough(tmp_path):
    found = harvest("mimic", write(tmp_path, core()))
    assert said(found, "calculation") == [
        ("a1", "CTR 0.50"), ("b1", "CTR 0.40"), ("b2", "CTR 0.41"), ("c1", "CTR 0.60"), ("d1", "CTR 0.55"),
    ]  # fmt: skip
    assert set(found.entries["task"]) == {"calculation"}


def test_the_base_is_the_images_with_a_ratio_or_all_of_the_views(root):
    assert harvest("mimic", root).images["image_id"].to_list() == ["a1", "b1", "b2", "c1", "d1"]
    every = harvest("mimic", root, base="all")
    assert every.images["image_id"].to_list() == [image for image in IMAGES if image != "a2"]
    assert dropped(every, "views") == {"view lateral": 1}
    assert "f1" in dict(said(every, "severity"))  # its ratio is NaN; its grade is not


def test_a_row_without_a_ratio_and_the_codes_of_its_authors_are_no_ratios(root):
    found = harvest("mimic", root)
    assert dropped(found, "CTRs said") == {"no ratio": 1}
    assert dropped(found, "CPARs measured") == {"heart or lungs were not found (code 2, 3 or 4)": 1}
    assert [target for _, target in said(found, "calculation") if "CPAR" in target] == ["CPAR 0.31"]


def test_an_id_may_end_on_dcm_and_stand_twice(tmp_path):
    ratios = table(["dicom_file", "CTR"], [["a1.dcm", 0.5], ["files/a1", 0.6], ["zz", 0.5], ["c1", "wide"]])
    found = harvest("mimic", write(tmp_path, core(**{CTRS: ratios})))
    assert said(found, "calculation") == [("a1", "CTR 0.50")]
    assert reasons(found) == {
        ("CTRs.csv", 2, "image is taken by an earlier row"): 1,
        ("CTRs.csv", 3, "its image is in no table of images"): 1,
        ("CTRs.csv", 4, "value is no number"): 1,
    }


def test_official_splits_hold_but_for_patients_with_gold_standards(root):
    found = harvest("mimic", root)
    # b: graded by consensus; a: graded by experts; c: asked about in the test set of questions
    assert splits(found) == dict.fromkeys(["a1", "b1", "b2", "c1", "d1"], "test")
    assert any("consensus 1, expert 1, radiologist 1, questions 1" in note for note in found.notes)
    free = harvest("mimic", root, hold_out=["consensus"])
    assert splits(free) == {"a1": "train", "b1": "test", "b2": "test", "c1": "validation", "d1": "test"}
    drawn = harvest("mimic", root, hold_out=["consensus"], splits="drawn")
    assert splits(drawn) == {"a1": "", "b1": "test", "b2": "test", "c1": "", "d1": ""}


def test_gold_patients_of_other_sets_are_held_out_too(tmp_path):
    root = write(tmp_path, core(**{"splits/images_to_avoid.csv": table(["", "dicom_id"], [[0, "a2"]])}))
    assert splits(harvest("mimic", root))["a1"] == "test"  # the patient of a2
    assert splits(harvest("mimic", root, hold_out=[]))["a1"] == "train"


def test_an_image_that_no_split_lists_is_left_out_and_a_wrong_split_is_rejected(tmp_path):
    split = table(["dicom_id", "split"], [["a1", "train"], ["b1", "training"], ["a1", "test"]])
    found = harvest("mimic", write(tmp_path, core(**{f"{JPG}split.csv.gz": gzip.compress(split.encode())})))
    assert splits(found) == {"a1": "train"}
    assert dropped(found, "images with a split") == {"no list of splits has it": 7}
    assert {(row, why) for _, row, why in reasons(found)} >= {
        (2, "split is not train, validate or test"),
        (3, "image id is taken by an earlier row"),
    }


def test_a_dicom_id_that_stands_twice_keeps_its_first_row(tmp_path):
    rows = [["a1", "10000001", "51", "PA"], ["a1", "10000002", "52", "PA"]]
    metadata = table(["dicom_id", "subject_id", "study_id", "ViewPosition"], rows)
    found = harvest(
        "mimic", write(tmp_path, core(**{f"{JPG}metadata.csv.gz": gzip.compress(metadata.encode())}))
    )
    assert found.images.select("image_id", "patient_id").rows() == [("a1", "mimic-10000001")]
    assert reasons(found)[("mimic-cxr-2.0.0-metadata.csv.gz", 2, "image id is taken by an earlier row")] == 1


def test_an_image_that_lacks_a_required_task_is_left_out_with_its_entries(root):
    found = harvest("mimic", root, require=["calculation", "report", "vqa"], presence="none")
    # a1, b1, c1 have questions and a report; b2 has no question, d1 neither
    assert found.images["image_id"].to_list() == ["a1", "b1", "c1"]
    assert dropped(found, "images with the tasks required") == {"lacks report": 1, "lacks vqa": 1}


def test_a_task_of_which_no_file_speaks_is_not_required(tmp_path):
    found = harvest("mimic", write(tmp_path, core()), require=["calculation", "vqa"])
    assert found.images.height == 5
    assert "No file says anything of vqa: not required of the images." in found.notes


def test_what_one_step_of_the_funnel_keeps_comes_to_the_next(root):
    found = harvest("mimic", root, imagenome=["regions", "questions"], require=["findings"])
    steps = found.funnel.steps
    assert all(step.came == step.kept + sum(step.dropped.values()) for step in steps)
    first = {step.step: step.came for step in steps if step.step.startswith("read ")}
    assert first["read mimic-cxr-2.0.0-metadata.csv.gz"] == len(IMAGES)
    assert (first["read CTRs.csv"], first["read train.json"], first["read valid.json"]) == (6, 4, 2)
    names = ("images with a split", "one row an image", "views", "base: ratios")
    chains = [[step for step in steps if step.step in names]]
    for rows in ("CTRs", "CPARs", "questions", "study questions"):
        chains.append([step for step in steps if step.rows == rows])
    for chain in chains:
        assert len(chain) > 1
        assert all(before.kept == after.came for before, after in itertools.pairwise(chain))
    written = sum(step.kept for step in steps if step.step.startswith("written as"))
    (last,) = [step for step in steps if step.step == "entries of images kept"]
    assert (last.came, last.kept) == (written, found.entries.height)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (f"{JPG}metadata.csv.gz", gzip.compress(b"dicom,subject_id,study_id\n"), "did you mean 'dicom'"),
        (f"{JPG}metadata.csv.gz", gzip.compress(b"dicom_id,subject_id,study_id\n" * 99)[:30], "truncated"),
        (CTRS, b"dicom_file,CTRs\na1,0.5\n", "has no column 'CTR': did you mean 'CTRs'"),
        ("mimic-cxr/mimic-cxr-reports.zip", b"PK\x03\x04 cut", "truncated or no archive"),
        ("ms-cxr/MS_CXR_Local_Alignment_v1.1.0.json", b'{"images": [', "truncated"),
        ("vqa/train.json", b'[{"semantic_type": "verify", "image": "a1"}]', "has no column 'image_id'"),
        ("vqa/train.json", b'[{"semantic_type": "verify"}, {', "truncated"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(tmp_path, name, content, message):
    with pytest.raises(UserError) as caught:
        harvest("mimic", put(tmp_path, **{name: content}))
    assert message in str(caught.value)
    assert name.rpartition("/")[2] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_ratios_the_base_is_asked_for(tmp_path):
    tables = {name: content for name, content in core().items() if name != CTRS}
    with pytest.raises(UserError, match=r"holds no CTRs\.csv.*options\.base to all"):
        harvest("mimic", write(tmp_path, tables))


def test_doctor_says_what_the_missing_files_would_add(tmp_path):
    text = "\n".join(data_lines(write(tmp_path, core())))
    assert "mimic: can be built" in text
    assert "missing   regex_report_edema_severity.csv: would add grades of edema by rules: severity" in text


def test_paths_are_made_from_ids_and_only_chosen_images_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAX_WORKERS", "1")
    root = put(tmp_path / "files")
    for image in ("a1", "b1"):
        subject, study, *_ = IMAGES[image]
        picture(root, f"mimic-cxr-jpg/files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg", 10, 20)

    def walk(*_):
        raise AssertionError("image files are walked through")

    monkeypatch.setattr("data_recipes.files.Files.image_files", property(walk))
    recipe = load_recipe("imax_mimic", {"options.root": str(root)})
    mixture = read_mixture(build(recipe, tmp_path / "out", progress=False))
    assert {(image.image_id, image.width, image.height) for image in mixture.images} == {
        ("a1", 10, 20),
        ("b1", 10, 20),
    }
    rejected = (tmp_path / "out/rejected.jsonl").read_text()
    assert "c1.jpg" not in rejected or "missing" in rejected


def test_images_in_one_flat_folder_are_found_by_their_ids(tmp_path):
    root = put(tmp_path)
    for image in ("a1", "b1"):
        picture(root, f"all/{image}.png")
    found = harvest("mimic", root, pixels="copy")
    assert dict(found.images.select("image_id", "file").rows())["a1"] == "all/a1.png"


def test_a_path_that_leaves_the_root_is_never_read(tmp_path):
    rows = [["../../secret", "10000001", "51", "PA"]]
    metadata = table(["dicom_id", "subject_id", "study_id", "ViewPosition"], rows)
    split = table(["dicom_id", "split"], [["../../secret", "train"]])
    tables = core(
        **{
            f"{JPG}metadata.csv.gz": gzip.compress(metadata.encode()),
            f"{JPG}split.csv.gz": gzip.compress(split.encode()),
            CTRS: table(["dicom_file", "CTR"], [["secret", 0.5]]),
        }
    )
    root = write(tmp_path / "root", tables)
    (root / "mimic-cxr-jpg/files/p10/p10000001/s51").mkdir(parents=True)
    picture(tmp_path, "secret.jpg")
    from data_recipes.placing import Wish, place_all

    found = harvest("mimic", root, base="all", pixels="copy")
    wishes = [Wish(*row) for row in found.images.select("image_id", "file", "width", "height").rows()]
    placed = place_all(wishes, root, tmp_path / "out", "copy", label="", progress=False)
    assert all("outside" in str(result) or "missing" in str(result) for result in placed)
    assert not list((tmp_path / "out/images").iterdir())


def test_the_recipe_builds_and_records_every_policy(tmp_path, root):
    recipe = load_recipe("imax_mimic", {"options.root": str(root), "options.pixels": "skip"})
    folder = build(recipe, tmp_path / "out", progress=False)
    meta = json.loads((folder / "mixture.json").read_text())
    options = meta["recipe"]["options"]
    assert options["hold_out"] == ["consensus", "expert", "radiologist", "questions", "imagenome", "ms_cxr"]
    assert options["empty_answer"] == "none"
    assert options["base"] == "ratios"
    assert options["graph_sample"] == 2
    mixture = read_mixture(folder)
    assert {image.image_id for image in mixture.images} == {"a1", "b1"}


def test_the_fingerprint_changes_with_tables_and_with_studies_that_come(tmp_path):
    def mark(**options) -> str:
        return file_source("mimic").fingerprint(file_options("mimic", {"root": str(tmp_path), **options}))

    write(tmp_path, core())
    first = mark()
    assert mark() == first
    picture(tmp_path, "files/p10/p10000001/s51/a1.jpg")
    second = mark()
    assert second != first
    write(tmp_path, {"mimic-cxr-reports.zip": archive({})})
    skipped = mark(pixels="skip")
    picture(tmp_path, "files/p10/p10000002/s52/b1.jpg")
    assert mark(pixels="skip") == skipped
    assert mark() != second
    write(tmp_path, {CTRS: table(["dicom_file", "CTR"], [["a1", 0.7]])})
    assert mark(pixels="skip") != skipped

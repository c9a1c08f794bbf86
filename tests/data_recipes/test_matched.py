"""Decentralised mixtures of published datasets: volumes, disjointness, what a source lacks, several datasets
below one root."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.overlap import overlap
from data_recipes.recipe import build, load_recipe, mixture_folder
from data_recipes.roots import file_changes
from data_recipes.sources.chexpert import LABELS
from data_recipes.store import read_meta, read_mixture
from tests.data_recipes.datasets import needs_data, write
from tests.data_recipes.pictures import encoded, textured
from tests.data_recipes.test_chexmask import HEAD, row

NIH, OTHERS = 24, 60  # images
COPIES = 8  # of VinDr's images are those of NIH, encoded anew
PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
FINDINGS = ("Cardiomegaly", "Effusion", "Mass")


def labels(n: int) -> str:
    return FINDINGS[n % 3] if n % 2 else "No Finding"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets below one folder, each in a folder of its source's name; two call their table train.csv."""
    root = tmp_path_factory.mktemp("data")
    nih = [f"nih{n}.png,{labels(n)},{n},PA" for n in range(NIH)]
    box = [f"nih{n}.png,{FINDINGS[n % 3]},100,100,300,300" for n in range(1, NIH, 2)]
    chexpert = [
        f"CheXpert-v1.0-small/train/patient{n:05}/study1/view1_frontal.jpg,Frontal,PA,"
        + ",".join("1.0" if k == (n % 4 if n % 2 else 0) else "" for k in range(len(LABELS)))
        for n in range(OTHERS)
    ]
    padchest = [
        f"pad{n}.png,p{n},PA,No,x .,Physician,['{'mass' if n % 2 else 'normal'}']" for n in range(OTHERS)
    ]
    vindr = [f"vindr{n},{FINDINGS[n % 3]},R1,10,10,{40 + n},{50 + n}" for n in range(OTHERS)]
    tables = {
        "nih/Data_Entry_2017_v2020.csv": ["Image Index,Finding Labels,Patient ID,View Position", *nih],
        "nih/BBox_List_2017.csv": ["Image Index,Finding Label,Bbox [x,y,w,h],,,", *box],
        "chexpert/train.csv": ["Path,Frontal/Lateral,AP/PA," + ",".join(LABELS), *chexpert],
        "vindr/train.csv": ["image_id,class_name,rad_id,x_min,y_min,x_max,y_max", *vindr],
        f"padchest/{PADCHEST}": [
            "ImageID,PatientID,Projection,Pediatric,Report,MethodLabel,Labels", *padchest
        ],
    }  # fmt: skip
    write(root, {name: "\n".join(rows) for name, rows in tables.items()})
    for n in range(NIH):
        textured(n).save(root / f"nih/nih{n}.png")
    for n in range(OTHERS):
        for name, seed in (
            (f"chexpert/train/patient{n:05}/study1/view1_frontal.jpg", 1000 + n),
            (f"padchest/pad{n}.png", 2000 + n),
            (f"vindr/vindr{n}.png", n if n < COPIES else 3000 + n),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            picture = textured(seed)
            (encoded(picture) if seed < COPIES else picture).save(root / name)
    return root


@pytest.fixture
def root(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAX_WORKERS", "1")
    return Path(shutil.copytree(data, tmp_path / "data"))


def dmax(root: Path, pixels: str, **changes):
    recipe = load_recipe("dmax_open", changes)
    return load_recipe("dmax_open", {**changes, **file_changes(recipe, root, pixels)})


@pytest.mark.parametrize("pixels", ["copy", "skip"])
def test_volumes_are_equal_and_nothing_is_shared(root, tmp_path, pixels):
    recipe = dmax(root, pixels)
    folder = build(recipe, tmp_path / "dmax", progress=False)
    matched = mixture_folder(recipe.match.to, recipe.match.changes, progress=False)
    ours, theirs = read_mixture(folder), read_mixture(matched)
    volumes = [Counter(entry.task for _, entry in mixture.of_split("train")) for mixture in (ours, theirs)]
    assert volumes[0] == volumes[1]
    assert set(volumes[0]) == {"findings", "vqa", "rec", "reg"}
    for split in ("validation", "test"):
        assert list(ours.of_split(split)) == list(theirs.of_split(split))
    tasks = defaultdict(set)
    for image, entry in ours.of_split("train"):
        tasks[image.patient_id].add(entry.task)
    assert all(len(found) == 1 for found in tasks.values())
    shared = overlap(folder, matched)["shared"]
    for kind, by_split in shared.items():
        assert not any(by_split["train"].values()), kind
    assert check(folder).sound

    match = ours.meta["match"]
    assert match["this"]["per_task"] == match["matched"]["per_task"] == dict(volumes[0])
    assert match["disjoint"] == {
        "patients": 0,
        "images": 0,
        "copies": 0,
        "compared": 0 if pixels == "skip" else ours.meta["counts"]["train"]["images"],
    }
    text = (folder / "README.md").read_text()
    assert "Training images in common with imax_nih, all splits: 0 by id, 0 copies" in text
    assert str(root) not in (folder / "mixture.json").read_text()


def test_copies_of_matched_images_are_left_out_and_counted(root, tmp_path):
    folder = build(dmax(root, "copy"), tmp_path / "dmax", progress=False)
    (step,) = [
        step
        for step in read_meta(folder)["funnel"]
        if step["source"] == "vindr" and step["step"] == "images of its own"
    ]
    asked = [s for s in read_meta(folder)["funnel"] if s["source"] == "vindr" and s["step"] == "image files"]
    assert step["came"] == asked[0]["kept"]
    assert 0 < step["dropped"]["near-duplicate of an image of the matched mixture"] <= COPIES
    names = {image.image_id for image in read_mixture(folder).images}
    assert not names & {f"vindr{n}" for n in range(COPIES)}


def test_the_same_recipe_gives_the_same_mixture(root, tmp_path):
    found = [build(dmax(root, "copy"), tmp_path / name, progress=False) for name in ("a", "b")]
    found.append(build(dmax(root, "copy", seed=1), tmp_path / "c", progress=False))
    hashes = [read_meta(folder)["mixture_hash"] for folder in found]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_task_that_the_matched_mixture_lacks_needs_no_files(root, tmp_path):
    # the recipe names Open-i for reports, and the root has no Open-i: NIH has no reports
    assert "report" in load_recipe("dmax_open").sources
    meta = read_meta(build(dmax(root, "skip"), tmp_path / "dmax", progress=False))
    assert "openi" not in meta["sources"]
    assert set(meta["recipe"]["sources"]) == {"findings", "vqa", "rec", "reg"}


def test_a_needed_task_without_its_files_is_one_line(root, tmp_path):
    (root / "padchest" / PADCHEST).unlink()
    with pytest.raises(
        UserError, match=r"^dmax_open, task vqa: .*padchest holds no PADCHEST.*doctor"
    ) as caught:
        build(dmax(root, "skip"), tmp_path / "dmax", progress=False)
    assert "\n" not in str(caught.value)


def test_ratios_come_from_the_masks_of_another_dataset_or_the_missing_table_is_named(root, tmp_path):
    rows = [row(f"nih{n}.png") for n in range(NIH)]
    write(root, {"nih/ChestX-Ray8.csv": "Image Index," + HEAD + "".join(rows)})
    with pytest.raises(
        UserError, match=r"chexpert has nothing for task calculation \(CheXpert\.csv was not found: .*masks"
    ):
        build(dmax(root, "skip"), tmp_path / "fail", progress=False)
    paths = [f"train/patient{n:05}/study1/view1_frontal.jpg" for n in range(OTHERS)]
    write(root, {"chexpert/CheXpert.csv": "Path," + HEAD + "".join(map(row, paths))})
    match = read_meta(build(dmax(root, "skip"), tmp_path / "dmax", progress=False))["match"]
    assert match["this"]["per_task"]["calculation"] == match["matched"]["per_task"]["calculation"] > 0


def few_boxes(root: Path) -> None:
    table = root / "vindr/train.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:6]))


def test_a_source_that_has_too_little_fails_or_gives_what_it_has(root, tmp_path):
    few_boxes(root)
    with pytest.raises(
        UserError,
        match=r"source vindr has \d+ images with \d+ of the \d+ entries on \d+ images that task re[cg] "
        r"needs: .*match\.short=take",
    ):
        build(dmax(root, "skip"), tmp_path / "fail", progress=False)
    folder = build(dmax(root, "skip", **{"match.short": "take"}), tmp_path / "take", progress=False)
    meta = read_meta(folder)
    short = meta["match"]["short"]
    assert short
    for task, found in short.items():
        assert meta["counts"]["train"]["per_task"][task] == found["entries"] < found["wanted"]
        assert any(f"SHORT: task {task} has {found['entries']} of" in note for note in meta["notes"])
    for task in {"findings", "vqa"}:
        assert meta["match"]["this"]["per_task"][task] == meta["match"]["matched"]["per_task"][task]


def test_a_root_of_the_recipe_stays_and_the_matched_mixture_reads_the_root_too(root, tmp_path):
    own = str(root / "vindr")
    recipe = load_recipe("dmax_open", {"sources.rec.options.root": own})
    changes = file_changes(recipe, root, None)
    assert "sources.rec.options.root" not in changes
    assert changes["sources.findings.options.root"] == str(root / "chexpert")
    assert changes["sources.report.options.root"] == str(root)  # no folder of that name
    assert changes["match.changes.options.root"] == str(root / "nih")
    built = mixture_folder(
        "imax_nih", {"options": {"root": str(root / "nih"), "pixels": "skip"}}, progress=False
    )
    found = file_changes(load_recipe("dmax_open", {"match.to": str(built)}), root, "skip")
    assert not any(key.startswith("match") for key in found)


def test_sources_made_of_the_same_images_are_named(root, tmp_path):
    rows = [f"r{n},100,100,200,200,1" for n in range(OTHERS)]
    write(root, {"rsna/stage_2_train_labels.csv": "patientId,x,y,width,height,Target\n" + "\n".join(rows)})
    to_rsna = {"sources.rec": {"source": "rsna", "options": {}}}
    meta = read_meta(build(dmax(root, "skip", **to_rsna), tmp_path / "dmax", progress=False))
    assert any("sources nih and rsna are made of the same images" in note for note in meta["notes"])


@needs_data
@pytest.mark.slow
def test_the_shipped_recipe_builds_from_the_files_that_packages_carry(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    meta = read_meta(build(load_recipe("dmax_open"), tmp_path / "dmax", progress=False))
    assert meta["match"]["this"]["per_task"] == meta["match"]["matched"]["per_task"]
    assert meta["match"]["disjoint"] == {"patients": 0, "images": 0, "copies": 0, "compared": 0}
    assert not any("LEAKAGE" in note for note in meta["notes"])

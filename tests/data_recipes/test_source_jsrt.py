"""Source `jsrt`, quirk by quirk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_recipes.check import check
from data_recipes.recipe import build, load_recipe
from data_recipes.sources import fingerprint
from data_recipes.store import open_image, read_mixture
from tests.data_recipes.datasets import dropped, harvest, reasons, said, write
from tests.data_recipes.test_chexmask import ellipse, measured, ratios
from tests.data_recipes.test_img import make

CLN = (
    "JPCLN001.IMG\t5\t35\t53\tmale\t1024\t512\tmalignant\tl.upper lobe\tlung cancer\t\r"
    "JPCLN002.IMG\t5\t30\t78\tfemale\t2000\t1090\tbenign\tl.upper lobe(S5)\tpulmonary hematoma\r"
    "JPCLN003.IMG\t1\t?\t?\tfemale\t1303\t447\tmalignant\tl.upper lobe(S1+2)\tlung cancer\r"
)
CNN = "".join(f"JPCNN00{n}.IMG {age}   female non-nodule\n" for n, age in ((1, "45"), (2, "?"), (3, "1")))
TABLES = {"Clinical_Information/CLNDAT_EN.txt": CLN, "Clinical_Information/CNNDAT_EN.TXT": CNN}
CHEST = {
    "heart": ellipse(27, 28, 8, 7), "left lung": ellipse(37, 20, 9, 16), "right lung": ellipse(12, 20, 10, 17)
}  # fmt: skip


def mask(root: Path, organ: str, image: str, pixels: np.ndarray, fold: int = 1) -> None:
    path = root / f"scratch/fold{fold}/masks/{organ}/{image}.gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.where(pixels, 255, 0).astype(np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    for organ, pixels in CHEST.items():
        mask(tmp_path, organ, "JPCLN001", pixels)
        mask(tmp_path, organ.replace(" ", "_"), "JPCNN001", pixels, fold=2)
    return write(tmp_path, TABLES)


def phrases(found, image: str) -> dict[str, list[list[float]]]:
    rows = found.entries.filter((found.entries["task"] == "reg") & (found.entries["image_id"] == image))
    return dict(rows.select("target", "boxes").rows())


def test_records_are_read_whatever_ends_the_lines(root, tmp_path):
    found = harvest("jsrt", root)
    assert found.images.select("image_id", "view", "width").rows() == [
        *((f"JPCLN00{n}", "PA", 2048) for n in (1, 2, 3)), *((f"JPCNN00{n}", "PA", 2048) for n in (1, 2, 3))
    ]  # fmt: skip
    for end in ("\n", "\r\n", ""):
        other = write(tmp_path / f"{len(end)}", {**TABLES, "CLNDAT_EN.txt": CLN.replace("\r", end)})
        assert harvest("jsrt", other).images.equals(found.images)


def test_a_nodule_is_a_square_around_its_centre_of_its_diameter(root):
    found = harvest("jsrt", root)
    half = 35 / 0.175 / 2 / 2048
    assert phrases(found, "JPCLN001")["nodule"] == [
        [pytest.approx(side, abs=1e-6) for side in (0.5 - half, 0.25 - half, 0.5 + half, 0.25 + half)]
    ]
    ((_, _, right, _),) = phrases(found, "JPCLN002")["nodule"]
    assert right == 1  # cut at the border


def test_a_nodule_of_unknown_size_has_no_box_but_is_one(root):
    found = harvest("jsrt", root)
    assert reasons(found) == {("CLNDAT_EN.txt", 3, "size is no number"): 1}
    asked = dict(said(found, "vqa"))
    assert asked == {f"JPCLN00{n}": "yes" for n in (1, 2, 3)} | {f"JPCNN00{n}": "no" for n in (1, 2, 3)}
    assert said(found, "findings") == []  # nobody says what else there is


def test_masks_give_ratios_and_boxes_in_their_own_scale(root):
    found = harvest("jsrt", root)
    names = {"Heart": "heart", "Left Lung": "left lung", "Right Lung": "right lung"}
    targets = measured({name: CHEST[organ] for name, organ in names.items()})
    assert ratios(found) == {"JPCLN001": targets, "JPCNN001": targets}
    height, width = CHEST["heart"].shape
    xs, ys = np.flatnonzero(CHEST["heart"].any(0)), np.flatnonzero(CHEST["heart"].any(1))
    expected = [xs[0] / width, ys[0] / height, (xs[-1] + 1) / width, (ys[-1] + 1) / height]
    assert phrases(found, "JPCNN001")["heart"] == [[pytest.approx(side, abs=1e-6) for side in expected]]
    assert "heart" not in phrases(harvest("jsrt", root, organs=False), "JPCNN001")


def test_the_left_lung_is_the_one_on_the_right_of_the_image_whatever_its_folder_is_called(root):
    before = phrases(harvest("jsrt", root), "JPCLN001")
    mask(root, "left lung", "JPCLN001", CHEST["right lung"])
    mask(root, "right lung", "JPCLN001", CHEST["left lung"])
    after = phrases(harvest("jsrt", root), "JPCLN001")
    assert after == before
    assert after["left lung"][0][0] > after["right lung"][0][0]


def test_masks_that_are_none_are_rejected_by_file(root):
    mask(root, "heart", "JPCLN001", np.zeros((4, 4), bool))
    (root / "scratch/fold2/masks/left_lung/JPCNN001.gif").write_bytes(b"GIF89a")
    found = harvest("jsrt", root)
    rejected = {file: why for file, _, why in reasons(found) if file.endswith(".gif")}
    assert rejected["scratch/fold1/masks/heart/JPCLN001.gif"] == "mask is empty"
    assert "truncated or no image" in rejected["scratch/fold2/masks/left_lung/JPCNN001.gif"]
    assert ratios(found) == {}
    assert "mask of the heart is missing, empty or not of the size said" in dropped(found, "chests")
    assert "mask of the left lung is missing, empty or not of the size said" in dropped(found, "chests")


def test_without_masks_or_the_second_table_there_is_a_note(tmp_path):
    found = harvest("jsrt", write(tmp_path, {"CLNDAT_EN.txt": CLN}))
    assert any("lacks calculation" in note for note in found.notes)
    assert any("CNNDAT_EN.TXT" in note for note in found.notes)
    assert set(found.entries["task"]) == {"rec", "reg"}


def test_a_changed_mask_changes_the_fingerprint(root):
    options = {"root": str(root), "pixels": "skip"}
    before = fingerprint("jsrt", options)
    assert fingerprint("jsrt", options) == before
    mask(root, "heart", "JPCLN001", CHEST["left lung"])
    assert fingerprint("jsrt", options) != before


def test_the_recipe_builds_pngs_from_img_files(root, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "1")
    (root / "All247images").mkdir()
    for number, image in enumerate(("JPCLN001", "JPCNN001", "JPCNN002")):
        make(root / f"All247images/{image}.IMG", {(0, number): 0, (5, 5): 4000})
    (root / "All247images/JPCNN003.IMG").write_bytes(b"short")
    folder = build(load_recipe("imax_jsrt", {"options.root": str(root)}), tmp_path / "out", progress=False)
    mixture = read_mixture(folder)
    assert {image.image_id for image in mixture.images} == {"JPCLN001", "JPCNN001", "JPCNN002"}
    assert {(image.width, image.height, image.path[-4:]) for image in mixture.images} == {
        (2048, 2048, ".png")
    }
    pixels = np.asarray(open_image(folder, mixture.images[0]))
    assert pixels[5, 5] == 0  # a high value is dark
    assert "no image of the JSRT database: 5 bytes" in (folder / "rejected.jsonl").read_text()
    assert check(folder).sound

"""Handing out images of files: each once, with pixels for the chosen ones only; DMAX mixtures of files."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.recipe import build, load_recipe, mixture_folder
from data_recipes.recipe_file import Decentralised
from data_recipes.stock import open_stock
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS

PEOPLE = 60  # with two images each


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of 60 people; each has a vqa entry, every second one a rec entry as well."""
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAX_WORKERS", "1")
    folder = tmp_path / "files"
    folder.mkdir()
    rows = []
    for n in range(2 * PEOPLE):
        PIL.Image.fromarray(np.full((4, 6), n, np.uint8)).save(folder / f"{n}.png")
        row = {"image": f"{n}.png", "patient_id": f"p{n // 2}"}
        rows.append({**row, "task": "vqa", "prompt": "Is it?", "target": "no"})
        if n % 2:
            rows.append(
                {**row, "task": "rec", "prompt": "Where?", "target": "{box}", "boxes": [[0, 0, 1, 1]]}
            )
    (folder / "entries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def stock(root: Path, folder: Path, *, pixels: str = "copy", shuffle: bool = True, seed: int = 0):
    splits = lambda images: images["split"].replace({"": "train"})  # noqa: E731
    options = {"root": str(root), "pixels": pixels}
    return open_stock("folder", options, folder, splits, TASKS, seed=seed, shuffle=shuffle)


def take(opened, number: int, task: str = "") -> list[str]:
    found = opened.take({"train": number}, label="", progress=False, task=task)
    return [item.image.image_id for item in found]


def test_each_image_is_handed_out_once_and_only_its_pixels_are_placed(root, tmp_path):
    opened = stock(root, tmp_path / "out")
    first, second = take(opened, 10), take(opened, 1000)
    assert len(first) == 10
    assert len(set(first) | set(second)) == len(first) + len(second) == 2 * PEOPLE
    assert take(opened, 5) == []
    few = stock(root, tmp_path / "few")
    take(few, 3)
    assert len(list((tmp_path / "few/images").iterdir())) == 3


def test_patients_come_in_an_order_drawn_by_their_ids(root, tmp_path):
    orders = [take(stock(root, tmp_path / f"{n}", pixels="skip", seed=n), 30) for n in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    patients = [int(name[:-4]) // 2 for name in orders[0]]
    assert patients[::2] == patients[1::2]  # both images of one patient, then the next patient
    assert patients != sorted(patients)
    filed = take(stock(root, tmp_path / "x", pixels="skip", shuffle=False), 4)
    assert filed == ["0.png", "1.png", "2.png", "3.png"]


def test_a_patient_who_went_to_one_task_is_not_asked_for_another(root, tmp_path):
    opened = stock(root, tmp_path / "out", pixels="skip")
    rec, vqa = take(opened, 20, "rec"), take(opened, 1000, "vqa")
    assert len(rec) == 20
    assert not {int(name[:-4]) // 2 for name in rec} & {int(name[:-4]) // 2 for name in vqa}
    assert len(vqa) == 2 * (PEOPLE - 20)


def test_a_broken_image_is_replaced_where_a_number_was_asked_for(root, tmp_path):
    for n in range(0, 40):
        (root / f"{n}.png").write_bytes(b"broken")
    folder = mixture_folder(str(root), {"images": {"train": 30}}, progress=False)
    mixture = read_mixture(folder)
    assert mixture.meta["counts"]["train"]["images"] == 30
    assert all(int(image.image_id[:-4]) >= 40 for image in mixture.images)
    steps = {step["step"]: step for step in mixture.meta["funnel"]}
    assert steps["image files"]["kept"] == 30
    assert steps["images asked for"]["came"] == 2 * PEOPLE
    lines = (folder / "rejected.jsonl").read_text().splitlines()
    assert (
        len(lines) == mixture.meta["rejected"] >= steps["image files"]["dropped"]["file missing or unusable"]
    )
    assert all("truncated or no image" in line for line in lines)
    assert check(folder).sound


def test_several_processes_place_the_same(root, tmp_path, monkeypatch):
    one = stock(root, tmp_path / "one").take(None, label="", progress=False)
    monkeypatch.setenv("IMAX_WORKERS", "2")
    monkeypatch.setattr("data_recipes.placing._WORTH_A_WORKER", 10)
    two = stock(root, tmp_path / "two").take(None, label="", progress=False)
    assert one == two


def decentralised(root: Path, matched: Path, file: Path) -> Decentralised:
    given = {"source": "folder", "options": {"root": str(root)}}
    sources = {"rec": given, "vqa": given}
    file.write_text(json.dumps({"style": "decentralised", "match": {"to": str(matched)}, "sources": sources}))
    recipe = load_recipe(str(file))
    assert isinstance(recipe, Decentralised)
    return recipe


def test_a_decentralised_mixture_of_files_matches_volumes_and_shares_no_patient(root, tmp_path):
    matched = mixture_folder(str(root), {"images": {"train": 20, "test": 4}}, progress=False)
    imax = read_mixture(matched)
    recipe = decentralised(root, matched, tmp_path / "files.yaml")
    mixture = read_mixture(build(recipe, tmp_path / "dmax", progress=False))
    volumes = [Counter(e.task for _, e in m.of_split("train")) for m in (imax, mixture)]
    assert volumes[0] == volumes[1]
    tasks = defaultdict(set)
    for image, entry in mixture.of_split("train"):
        tasks[image.patient_id].add(entry.task)
    assert all(len(found) == 1 for found in tasks.values())
    assert not set(tasks) & {image.patient_id for image in imax.images}
    assert list(mixture.of_split("test")) == list(imax.of_split("test"))
    assert mixture.meta["funnel"][0]["source"] == "folder"
    assert len(list((tmp_path / "dmax/images").iterdir())) == len(mixture.images)


def test_a_source_of_files_that_runs_dry_says_so(root, tmp_path):
    matched = mixture_folder(str(root), {"images": {"train": 80}}, progress=False)
    recipe = decentralised(root, matched, tmp_path / "files.yaml")
    with pytest.raises(
        UserError, match=r"source folder has \d+ images with \d+ of the \d+ entries on \d+ images that task"
    ):
        build(recipe, tmp_path / "dmax", progress=False)

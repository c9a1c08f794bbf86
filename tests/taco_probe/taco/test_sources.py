"""Which datasets are trained on and held out, how people's own are opened, and what a pool is named by."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_recipes.errors import UserError
from taco_probe.taco import sources
from taco_probe.taco.sources import Place
from tests.taco_probe.taco.factories import tiny


def test_unknown_datasets_and_places_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "offline", lambda: ("one", "two", "three"))
    with pytest.raises(UserError, match="did you mean 'three'"):
        sources.check_names(("one", "thre"), {})
    with pytest.raises(UserError, match="write NAME=PATH"):
        sources.read_places(["kvasir"])
    with pytest.raises(UserError, match="is not there"):
        sources.read_places([f"kvasir={tmp_path}/none"])
    with pytest.raises(UserError, match="there already"):
        sources.read_places([f"retina={tmp_path}"])


def test_what_shares_images_or_patients_is_not_trained_on_and_held_out(tmp_path: Path):
    places = {n: Place(tmp_path / f"organ{n}mnist_64.npz") for n in "ac"}
    for trained, held_out in ((("chest_ct", "mni_brain"), "ct_radiographs"), (("a",), "c")):
        asked = tiny(datasets=trained, held_out=(held_out,))
        with pytest.raises(UserError, match=f"{trained[0]} is trained on and {held_out} held out"):
            sources.check_origins(asked, places)
    sources.check_origins(tiny(datasets=("a", "c"), held_out=("chest_ct",)), places)


def test_a_dataset_of_the_users_says_what_its_labels_mean_and_what_it_shows(tmp_path: Path):
    for kind in ("images", "masks"):
        (tmp_path / "a, b" / kind).mkdir(parents=True)
        numbers = np.arange(16)[:, None] // 6 + np.zeros((1, 16), int)
        PIL.Image.fromarray(numbers.astype(np.uint8)).save(tmp_path / "a, b" / kind / "1.png")
    place = f"mine={tmp_path}/a, b"
    plain = sources.open_source("mine", sources.read_places([place])["mine"])
    told = sources.read_places([f"{place},labels=instances,modality=X-ray, panoramic"])["mine"]
    found = sources.open_source("mine", told)
    assert (plain.labels, plain.modality) == ("classes", "unknown")
    assert (found.labels, found.modality) == ("instances", "X-ray, panoramic")
    assert sources.fingerprint("mine", told) != sources.fingerprint("mine", sources.Place(told.path))
    for text, message in (
        (f"{place},labels=instance", "did you mean 'instances'"),
        (f"{place},label=instances", "did you mean 'labels'"),
        (f"{place},category=C1", "a folder has no categories"),
    ):
        with pytest.raises(UserError, match=message):
            sources.open_source("mine", sources.read_places([text])["mine"])


def test_files_are_read_by_what_they_hold(tmp_path: Path):
    images, masks = np.zeros((3, 16, 16), np.uint8), np.zeros((3, 16, 16), np.uint8)
    masks[:, 4:9, 4:9] = 1
    files: dict[str, dict[str, np.ndarray]] = {
        "kvasir": {"train_label": masks},
        "idrib": {"train_label_C1": masks, "train_label_C2": masks},
        "pathmnist": {"train_labels": np.zeros((3, 1))},
        "neither": {},
    }
    at = {name: tmp_path / f"{name}_64.npz" for name in files}
    for name, arrays in files.items():
        np.savez(at[name], train_images=images, **arrays)
    assert sources.open_source("a", Place(at["kvasir"])).labels == "instances"
    assert sources.open_source("a", Place(at["kvasir"], labels="classes")).labels == "classes"
    assert sources.open_source("a", Place(at["pathmnist"])).labels == "none"
    category = sources.open_source("a", Place(at["idrib"], category="C2"))
    assert (category.name, category.labels, category.comes_from) == ("a", "instances", "idrib")
    for place, message in (
        (Place(at["idrib"]), r"idrib_64.npz: has masks by category: name one of C1, C2, .*category=C1"),
        (Place(at["idrib"], category="C3"), "did you mean 'C"),
        (Place(at["neither"]), "neither_64.npz: has no array train_label .*or train_labels"),
        (Place(at["pathmnist"], labels="classes"), "no masks"),
    ):
        with pytest.raises(UserError, match=message):
            sources.open_source("a", place)


def test_datasets_that_are_not_named_share_nothing_with_those_that_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "offline", lambda: (*sources.TRAINED_ON, *sources.HELD_OUT))
    found = sources.with_datasets(tiny(datasets=("chest_ct", "mni_brain"), held_out=()))
    assert set(found.held_out) == set(sources.HELD_OUT) - {"chest_ct", "ct_radiographs"}
    cells = {"cells": Place(Path("cellnuclei_256.npz"))}  # of the same competition as dsb_nuclei
    found = sources.with_datasets(tiny(datasets=(), held_out=("cells",)), cells)
    assert set(found.datasets) == set(sources.TRAINED_ON) - {"dsb_nuclei"}
    default = sources.with_datasets(tiny(datasets=(), held_out=()))
    assert (default.datasets, default.held_out) == (sources.TRAINED_ON, sources.HELD_OUT)
    sources.check_origins(default, {})


def test_a_dataset_of_the_users_that_is_not_named_is_trained_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "offline", lambda: ("one", "two", "three"))
    places = {"mine": Place(Path("/mine")), "yours": Place(Path("/yours"))}
    found = sources.with_datasets(tiny(datasets=("one",), held_out=("yours",)), places)
    assert (found.datasets, found.held_out) == (("one", "mine"), ("yours",))


def test_pools_are_named_by_all_code_that_draws_and_by_the_versions_of_its_libraries():
    """What making an instance imports is either in the name of a pool or does not touch pixels."""
    harmless = {
        *("data_recipes", "data_recipes.errors", "data_recipes.recipe", "data_recipes.schema"),  # settings
        *("data_recipes.tables", "data_recipes.staging", "data_recipes.licence", "data_recipes.sources"),
        *("data_recipes.files", "data_recipes.dicom", "data_recipes.img", "data_recipes.pixels"),
        *("data_recipes.tasks", "data_recipes.reject", "data_recipes.funnel", "data_recipes.harvest"),
        *("taco_probe", "taco_probe.taco", "taco_probe.taco.settings", "taco_probe.taco.progress"),
        "taco_probe.taco.forked",
    }
    program = (
        "import sys, taco_probe.taco.making, taco_probe.taco.data as data\ndata.by_name('phantom')[0]\n"
        "print(*(m for m in sys.modules if m.split('.')[0] in ('data_recipes', 'taco_probe')))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    named = tuple(part.removesuffix(".py").replace("/", ".") for part in sources._CODE)
    loose = {m for m in told.stdout.split() if not any(m == n or m.startswith(f"{n}.") for n in named)}
    assert loose <= harmless
    assert all((sources._ROOT / part).exists() for part in sources._CODE)
    assert all(sources._version(name) for name in sources._LIBRARIES)


def test_another_version_of_a_library_is_another_pool(monkeypatch: pytest.MonkeyPatch):
    before = sources.code.__wrapped__()
    assert before == sources.code.__wrapped__()
    monkeypatch.setattr(sources, "_version", lambda name: f"{name} 0")
    assert sources.code.__wrapped__() != before


def test_a_users_folder_changes_its_fingerprint_with_its_files(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"1")
    before = sources.fingerprint("mine", Place(tmp_path))
    assert before == sources.fingerprint("mine", Place(tmp_path))
    (tmp_path / "a.png").write_bytes(b"12")
    assert sources.fingerprint("mine", Place(tmp_path)) != before

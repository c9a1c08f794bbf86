"""From recipe to mixture: densities, matching, determinism, the cache, and clear errors for mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from data_recipes import recipe as recipe_module
from data_recipes.check import check
from data_recipes.errors import UserError
from data_recipes.recipe import build, load_recipe, mixture_folder, recipe_names
from data_recipes.recipe_file import Decentralised
from data_recipes.records import SPLITS, Mixture
from data_recipes.splits import crossing
from data_recipes.staged import is_staged, load_staged
from data_recipes.stats import counts, statistics
from data_recipes.store import open_image, read_mixture
from data_recipes.tasks import TASKS

SMALL = {"source": "fake", "images": {"train": 50, "validation": 10, "test": 20}}
DMAX = {
    "match": {"changes": SMALL},
    "sources": {task: {"source": "fake", "options": {"shade": n}} for n, task in enumerate(TASKS)},
}


def built(name: str, overrides: dict) -> Mixture:
    return read_mixture(mixture_folder(name, overrides, progress=False))


def dmax(by: str) -> Mixture:
    return built("dmax", {**DMAX, "match.by": by})


def test_every_shipped_recipe_loads():
    assert {"imax", "dmax"} <= set(recipe_names())
    for name in recipe_names():
        assert (load_staged if is_staged(name) else load_recipe)(name).name == name


def test_the_shipped_recipes_say_what_the_papers_say():
    imax, dmax = load_recipe("imax"), load_recipe("dmax")
    assert (imax.density.tasks_per_image, imax.density.entries_per_image) == (4.10, 7.46)
    assert isinstance(dmax, Decentralised)
    looks = [given.options["looks"] for given in dmax.sources.values()]
    assert len(looks) == 7
    assert all(len(look) == 1 for look in looks)
    assert len({look[0] for look in looks}) == 7


def test_image_centric(fake):
    mixture = built("imax", SMALL)
    for split, n in SMALL["images"].items():
        held = list(mixture.of_split(split))
        assert len({image.image_id for image, _ in held}) == n
        assert len(held) == round(7.46 * n)
        assert len({(image.image_id, entry.task) for image, entry in held}) == round(4.10 * n)
    assert not crossing(mixture.images)
    assert len(list((fake / "home/mixtures").glob("imax-*/images/*.png"))) == 80
    folder = mixture_folder("imax", SMALL, progress=False)
    assert open_image(folder, mixture.images[3]).getpixel((0, 0)) == 3
    assert mixture.meta["sources"] == {"fake": "1"}
    assert mixture.meta["notes"] == ["Its images are flat."]  # what the source has to say goes on the card
    assert "- Its images are flat." in (folder / "README.md").read_text()
    assert mixture.meta["counts"] == counts(mixture.images, mixture.entries)
    assert check(folder).sound


def test_decentralised_by_entries(fake):
    imax, other = built("imax", SMALL), dmax("entries")
    # volumes equal exactly, counted from the records, not read from meta
    volume = [Counter(entry.task for _, entry in mixture.of_split("train")) for mixture in (imax, other)]
    assert volume[0] == volume[1]
    assert set(volume[0]) == set(TASKS)

    tasks = defaultdict(set)
    shades = defaultdict(set)
    folder = mixture_folder("dmax", {**DMAX, "match.by": "entries"}, progress=False)
    for image, entry in other.of_split("train"):
        tasks[image.image_id].add(entry.task)
        patient = int(image.patient_id.split("-")[1])
        shades[entry.task].add((open_image(folder, image).getpixel((0, 0)) - patient) % 256)
    assert all(len(found) == 1 for found in tasks.values())
    assert sorted(shades.values(), key=min) == [{40 * n} for n in range(7)]  # each task its own look

    # held-out splits are those of imax, record by record and pixel by pixel
    for split in ("validation", "test"):
        assert list(other.of_split(split)) == list(imax.of_split(split))
    home = mixture_folder("imax", SMALL, progress=False)
    held = [image for image in imax.images if image.split == "test"]
    assert all((home / i.path).read_bytes() == (folder / i.path).read_bytes() for i in held)

    # patients of their own, for each task too
    patients = {task: {i.patient_id for i, e in other.of_split("train") if e.task == task} for task in TASKS}
    assert sum(map(len, patients.values())) == len(set().union(*patients.values()))
    assert not set().union(*patients.values()) & {image.patient_id for image in imax.images}
    assert check(folder).sound
    match = other.meta["match"]
    assert match["by"] == "entries"
    assert match["this"]["entries"] == match["matched"]["entries"] == round(7.46 * 50)
    assert match["mixture_hash"] == imax.meta["mixture_hash"]


def test_a_sparser_mixture_with_the_shares_of_another_has_its_tasks_in_the_same_proportions(fake):
    dense = mixture_folder("imax", SMALL, progress=False)
    images = {"train": 120, "validation": 5, "test": 5}
    for entries, tasks in ((1, 1), (3, 2)):
        density = {"entries_per_image": entries, "tasks_per_image": tasks}
        sparse = built("imax", SMALL | {"images": images, "density": density, "shares_of": str(dense)})
        numbers = sparse.meta["counts"]["train"]["per_task"]
        wanted = Counter(entry.task for _, entry in read_mixture(dense).of_split("train"))
        assert sum(numbers.values()) == 120 * entries
        for task, number in wanted.items():
            assert numbers[task] == pytest.approx(number * 120 * entries / sum(wanted.values()), abs=1)
        assert sparse.meta["density"]["tasks_per_image"] == pytest.approx(tasks, abs=0.01)
        assert str(dense) not in json.dumps(sparse.meta)
    same = {"task_shares": dict(wanted)}
    again = built("imax", SMALL | {"images": images, "density": density} | same)
    assert again.meta["mixture_hash"] == sparse.meta["mixture_hash"]


@pytest.mark.parametrize("by", ["images", "steps"])
def test_decentralised_by_images_or_steps(fake, by):
    other = dmax(by)
    match = other.meta["match"]
    assert match["this"]["images"] == match["matched"]["images"] == 50
    assert other.meta["counts"]["train"]["images"] == 50
    share = match["this"]["entries"] / match["matched"]["entries"]
    assert share < 1
    for task, volume in match["matched"]["per_task"].items():  # fewer entries, in the same proportions
        assert match["this"]["per_task"][task] == pytest.approx(share * volume, abs=3)
    if by == "steps":
        assert other.meta["budget"] == {"train_entries": round(7.46 * 50)}
        assert match["this"]["steps"] == match["matched"]["steps"]
    else:
        assert "budget" not in other.meta


def test_decentralised_by_tokens(fake):
    match = dmax("tokens").meta["match"]
    # to within one entry (64 image tokens and a few words) for each of seven tasks
    assert abs(match["this"]["tokens"] - match["matched"]["tokens"]) <= 7 * 80
    assert match["matched"]["tokens"] > 64 * match["matched"]["entries"]


def test_same_content_in_one_process_and_in_two(fake, monkeypatch):
    big = {**SMALL, "images": {"train": 70, "validation": 10, "test": 10}}
    one = build(load_recipe("imax", big), fake / "one", progress=False)
    monkeypatch.setenv("IMAX_WORKERS", "2")
    two = build(load_recipe("imax", big), fake / "two", progress=False)
    for name in ("images.parquet", "entries.parquet", "mixture.json", "README.md"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert read_mixture(one).meta["mixture_hash"] != built("imax", {**big, "seed": 1}).meta["mixture_hash"]


def test_the_cache_is_used_and_knows_what_matters(fake, monkeypatch):
    folder = mixture_folder("imax", SMALL, progress=False)
    monkeypatch.setattr(recipe_module, "_assemble", lambda *args: pytest.fail("built again"))
    assert (
        mixture_folder(
            "imax", {"source": "fake", "images.train": 50, "images.validation": 10, "images.test": 20}
        )
        == folder
    )
    assert mixture_folder(str(folder)) == folder
    with pytest.raises(UserError, match="built already"):
        mixture_folder(str(folder), {"seed": 3})
    key = recipe_module._key(load_recipe("imax", SMALL), False)
    assert key != recipe_module._key(load_recipe("imax", {**SMALL, "seed": 3}), False)
    import fake_source_of_tests as module

    monkeypatch.setattr(module, "VERSION", "2")
    assert key != recipe_module._key(load_recipe("imax", SMALL), False)


def test_out_never_overwrites(fake):
    taken = fake / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="no mixture"):
        build(load_recipe("imax", SMALL), taken, progress=False)
    first = build(load_recipe("imax", SMALL), fake / "mixture", progress=False)
    assert build(load_recipe("imax", SMALL), first, progress=False) == first
    with pytest.raises(UserError, match="another mixture"):
        build(load_recipe("imax", {**SMALL, "seed": 2}), first, progress=False)
    assert (taken / "thesis.txt").read_text() == "mine"


def test_a_failing_build_leaves_nothing(fake):
    with pytest.raises(UserError, match="at most"):
        mixture_folder("imax", {**SMALL, "density.entries_per_image": 90}, progress=False)
    assert list((fake / "home/mixtures").iterdir()) == []


def test_a_killed_build_leaves_no_half_mixture(fake):
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "import fake_source_of_tests as f; from data_recipes.sources import SOURCES\n"
        "SOURCES['fake'] = 'fake_source_of_tests'; read = f.read\n"
        "f.read = lambda unit: (time.sleep(0.05), read(unit))[1]\n"
        "from data_recipes.recipe import mixture_folder\n"
        "mixture_folder('imax', {'source': 'fake'}, progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(fake / "modules")], env=dict(os.environ))
    mixtures = fake / "home/mixtures"
    deadline = time.monotonic() + 30
    while not list(mixtures.glob(".*/images/*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(mixtures.glob(".*.building"))  # it was in the middle
    assert not list(mixtures.glob("imax-*"))
    assert len(built("imax", SMALL).images) == 80


def test_statistics(fake):
    found = statistics(built("imax", SMALL))
    assert json.loads(json.dumps(found))["density"] == {"tasks_per_image": 4.1, "entries_per_image": 7.46}
    assert sum(found["images_by_tasks"].values()) == 50
    assert sum(k * n for k, n in found["images_by_entries"].items()) == 373
    assert found["cooccurrence"]["rec"]["vqa"] == found["cooccurrence"]["vqa"]["rec"] > 0
    apart = statistics(dmax("entries"))["cooccurrence"]
    assert all(apart[a][b] == 0 for a in TASKS for b in TASKS if a != b)


SPREAD = "style: decentralised\nmatch: {to: imax}\nsources: {}\n"
MISTAKES = {
    "unknown key 'imagess': did you mean 'images'": "source: phantom\nimagess: {train: 1}",
    "unknown key 'images.trian': did you mean 'images.train'": "source: phantom\nimages: {trian: 1}",
    "unknown key 'sources.vqa.sorce': did you mean 'sources.vqa.source'": SPREAD.replace(
        "{}", "{vqa: {source: fake, sorce: x}}"
    ),
    "match.changes.images": SPREAD + "images: {train: 1}",
    "unknown source 'phantomm': did you mean 'phantom'": "source: phantomm",
    "unknown task 'vqaa': did you mean 'vqa'": "source: phantom\ntask_weights: {vqaa: 1}",
    "unknown match.by 'entry': did you mean 'entries'": SPREAD.replace("imax", "imax, by: entry"),
    "unknown style 'decentralized': did you mean 'decentralised'": "style: decentralized\nsource: phantom",
    "write 1.0e-4": "source: phantom\ntask_weights: {vqa: 1e-4}",
    "seed is True": "source: phantom\nseed: yes",
    "quotes for text": "name: on\nsource: phantom",
    "images.train is 0": "source: phantom\nimages: {train: 0}",
    "entries_per_image must be at least": "source: x\ndensity: {tasks_per_image: 3, entries_per_image: 2}",
    "must sum to 1": "source: phantom\nsplit_fractions: {train: 0.5, validation: 0.1, test: 0.1}",
    "keys and values": "source: phantom\ndensity: 3",
    "key source is missing": "seed: 1",
    "must not be negative": "source: phantom\ntask_weights: {vqa: -1}",
    "shares of tasks need a density": "source: phantom\ntask_shares: {vqa: 1}",
    "one of task_weights, task_shares": "source: phantom\nshares_of: imax\ntask_weights: {vqa: 1}\n"
    "density: {tasks_per_image: 1, entries_per_image: 1}",
    "is no YAML": "source: [",
    "key: value": "- a\n- b",
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_in_a_recipe_is_one_line_that_names_the_file(tmp_path, message):
    file = tmp_path / "mine.yaml"
    file.write_text(MISTAKES[message])
    with pytest.raises(UserError) as caught:
        load_recipe(str(file))
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mistakes_outside_the_file(fake, tmp_path):
    with pytest.raises(UserError, match="unknown recipe 'imaxx': did you mean 'imax'"):
        load_recipe("imaxx")
    with pytest.raises(UserError, match=r"no recipe file .*nowhere\.yaml"):
        load_recipe("nowhere.yaml")
    with pytest.raises(UserError, match=r"images\.train\.more: train is 1000"):
        load_recipe("imax", {"images.train.more": 3})
    file = tmp_path / "all.yaml"
    file.write_text("source: fake")
    with pytest.raises(UserError, match="set `images`"):
        mixture_folder(str(file), progress=False)
    with pytest.raises(UserError, match="decentralised itself"):
        mixture_folder("dmax", {**DMAX, "match.to": "dmax"}, progress=False)
    with pytest.raises(UserError, match="matched mixture as well"):
        mixture_folder("dmax", {**DMAX, "first_patient": 0}, progress=False)
    with pytest.raises(UserError, match="raise patients_apart"):
        mixture_folder("dmax", {**DMAX, "patients_apart": 3}, progress=False)


def test_a_task_without_source(fake, tmp_path):
    home = mixture_folder("imax", SMALL, progress=False)
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"style: decentralised\nmatch: {{to: {home}}}\nsources: {{vqa: {{source: fake}}}}\nfirst_patient: 900"
    )
    with pytest.raises(UserError, match="no source for task calculation, findings"):
        mixture_folder(str(file), progress=False)


def test_a_mixture_folder_can_be_matched(fake, tmp_path):
    home = mixture_folder("imax", SMALL, progress=False)
    file = tmp_path / "mine.yaml"
    lines = "\n".join(f"  {task}: {{source: fake}}" for task in TASKS)
    file.write_text(f"style: decentralised\nmatch: {{to: {home}}}\nfirst_patient: 9000\nsources:\n{lines}")
    mixture = read_mixture(mixture_folder(str(file), progress=False))
    assert {image.split for image in mixture.images} == set(SPLITS)
    assert str(home) not in (mixture_folder(str(file), progress=False) / "README.md").read_text()


def test_workers_must_be_a_number(fake, monkeypatch):
    monkeypatch.setenv("IMAX_WORKERS", "many")
    with pytest.raises(UserError, match="IMAX_WORKERS is 'many'"):
        mixture_folder("imax", SMALL, progress=False)


def test_home(monkeypatch):
    monkeypatch.delenv("IMAX_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert recipe_module.home() == Path("/somewhere/imax-harness")
    monkeypatch.setenv("IMAX_HOME", "/else")
    assert recipe_module.home() == Path("/else")


def test_the_card_shows_no_folder_of_this_machine():
    given = {"name": "a", "volume": "/data/ct/a.nii.gz", "labels": "labels/a.nii.gz"}
    shown = {"name": "a", "volume": "a.nii.gz", "labels": "a.nii.gz"}
    written = recipe_module._without_folders({"options": {"cts": [given], "size": 224}})
    assert written == {"options": {"cts": [shown], "size": 224}}

"""The dataset card: valid for the hub's own package, loadable offline, with the terms of every source."""

from __future__ import annotations

import re

import datasets
import pytest
import yaml
from huggingface_hub import DatasetCard

from data_recipes.card import card
from data_recipes.errors import UserError
from data_recipes.licence import ACCESS, Licence, licence
from data_recipes.recipe import build, load_recipe
from data_recipes.records import SPLITS
from data_recipes.sources import SOURCES, licence_of
from data_recipes.store import read_meta, read_mixture
from data_recipes.tasks import TASKS

# The hub's size classes, https docs of dataset cards; written down here apart from the code.
SIZES = {"n<1K": (0, 1e3), "1K<n<10K": (1e3, 1e4), "10K<n<100K": (1e4, 1e5), "100K<n<1M": (1e5, 1e6),
         "1M<n<10M": (1e6, 1e7), "10M<n<100M": (1e7, 1e8), "100M<n<1B": (1e8, 1e9)}  # fmt: skip


@pytest.fixture
def folder(fake):
    recipe = {"images": {"train": 6, "validation": 2, "test": 3}, "density": None, "license": "other"}
    return build(load_recipe("imax", {"source": "fake", **recipe}), fake / "m", progress=False)


def test_the_hubs_own_package_reads_the_head(folder):
    found = DatasetCard.load(folder / "README.md", repo_type="dataset", ignore_metadata_errors=False).data
    assert found.pretty_name == "imax"
    assert found.language == ["en"]
    assert found.license == "other"
    assert found.to_dict()["license_name"] == "terms-of-the-sources"
    assert found.size_categories == ["n<1K"]
    assert set(found.task_categories) >= {"visual-question-answering", "image-to-text", "object-detection"}
    # what the package writes again is what stands there: nothing was lost or reinterpreted
    head = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert yaml.safe_load(found.to_yaml()) == head


def test_both_tables_load_offline_with_all_rows_and_the_join_gives_the_splits(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tables = {
        name: datasets.load_dataset(str(folder), name, split="mixture", cache_dir=str(tmp_path / "cache"))
        for name in ("entries", "images")
    }
    mixture = read_mixture(folder)
    assert tables["entries"]["entry_id"] == [entry.entry_id for entry in mixture.entries]
    assert tables["entries"]["boxes"][0:9] == [
        [list(box.xyxy) for box in entry.boxes] for entry in mixture.entries[:9]
    ]
    rows = tables["entries"].to_pandas().merge(tables["images"].to_pandas(), on="image_id")
    said = {name: split["entries"] for name, split in mixture.meta["counts"].items()}
    assert rows.groupby("split").size().to_dict() == said
    default = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert default.num_rows == {"mixture": len(mixture.entries)}


@pytest.mark.parametrize("entries", [0, 999, 1000, 54_321, 10**6, 10**7 - 1, 10**8])
def test_the_size_class_holds_the_number_of_entries(entries):
    per_task = dict.fromkeys(TASKS, 0)
    split = {"images": 1, "patients": 1, "entries": 0, "per_task": per_task}
    counts = {name: dict(split) for name in SPLITS} | {"train": {**split, "entries": entries}}
    low, high = SIZES[DatasetCard(card({"counts": counts})).data.size_categories[0]]
    assert low <= entries < high


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_states_licence_access_and_what_may_be_passed_on(name):
    terms = licence_of(name)
    if terms.access == "unknown":
        pytest.skip("states its licence as a line of text still")
    text = card({"licences": {name: terms.as_json()}})
    for said in (terms.name, ACCESS[terms.access], terms.share, terms.page):
        assert said in text
    if name not in ("phantom", "folder"):
        assert terms.page
        assert terms.cite is not None
        assert terms.cite.title in text
        assert str(terms.cite.year) in text
        assert re.search(r"@misc\{[a-z0-9]+,\n", text)
        assert text.count("{") == text.count("}")


def test_a_licence_given_as_text_is_kept_and_its_access_understood():
    assert licence("X agreement (registration with Y)") == Licence("X agreement", "registration")
    assert licence("rules of the competition").access == "rules"
    assert licence("that of the files") == Licence("that of the files", "unknown")
    for name in SOURCES:
        assert licence(licence_of(name).as_json()) == licence_of(name)
    with pytest.raises(ValueError, match="none of own, open"):
        Licence("x", access="free")


def test_a_mixture_has_the_licence_that_its_sources_share(fake, folder, monkeypatch):
    assert read_meta(folder)["license"] == "other"
    free = Licence("CC0 1.0", "open", hub="cc0-1.0")
    monkeypatch.setattr("fake_source_of_tests.LICENCE", free, raising=False)
    changes = {"source": "fake", "license": "other", "images": {"train": 2}, "density": None}
    meta = read_meta(build(load_recipe("imax", changes), fake / "n", progress=False))
    assert meta["license"] == "cc0-1.0"
    assert meta["licences"]["fake"]["access"] == "open"


def test_text_from_data_cannot_become_markup_of_the_card():
    hostile = "<script>alert(1)</script> | [a](http://x) ![b](http://y)\n# head `code`"
    text = card({"notes": [hostile], "funnel": []}, rejected=[hostile])
    assert "<script" not in text
    lines = [line for line in text.splitlines() if "alert" in line]
    assert len(lines) == 2
    assert not any(re.search(r"(?<!\\)[\[`|]", line) for line in lines)
    assert "\n# head" not in text


def test_an_unknown_source_has_no_licence():
    with pytest.raises(UserError, match="unknown source"):
        licence_of("nihh")

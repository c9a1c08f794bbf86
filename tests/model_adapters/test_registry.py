"""Names, folders, and every way in which a checkpoint can be bad: one line, no traceback."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from data_recipes.errors import UserError
from model_adapters.registry import FAMILIES, MODELS, load_adapter


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def one_line(error):
    return "\n" not in str(error.value)


def test_the_embedded_model_loads_and_is_small():
    adapter = load_adapter("tiny")
    assert (adapter.name, adapter.family) == ("tiny", "llava")
    adapter.load_model(dtype=torch.float32)
    size = sum(path.stat().st_size for path in Path(MODELS["tiny"]).iterdir())
    assert size <= 10_000_000


def test_every_family_has_its_module():
    folder = Path(__file__).parents[2]
    for module in FAMILIES.values():
        assert (folder / (module.replace(".", "/") + ".py")).is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("some/where/else", "no model folder"),
        ("./nowhere", "no model folder"),
        (__file__, "is a file"),
    ],
)
def test_names_that_lead_nowhere(name, message):
    with pytest.raises(UserError, match=message) as error:
        load_adapter(name)
    assert one_line(error)


def test_a_hub_id_that_cannot_be_had(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise OSError("We couldn't connect\nand more")

    monkeypatch.setattr("model_adapters.registry.cached_file", unreachable)
    with pytest.raises(UserError, match="no folder 'owner/model', and no such model on the hub") as error:
        load_adapter("owner/model")
    assert one_line(error)


def test_config_that_is_missing_broken_or_of_another_family(copy):
    edit(copy / "config.json", model_type="lava")
    with pytest.raises(UserError, match="did you mean 'llava'"):
        load_adapter(str(copy))
    (copy / "config.json").write_text("{}")
    with pytest.raises(UserError, match="names no model_type"):
        load_adapter(str(copy))
    (copy / "config.json").write_text("[1")
    with pytest.raises(UserError, match="cannot be read"):
        load_adapter(str(copy))
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json"):
        load_adapter(str(copy))


def test_a_broken_family_module_shows_its_own_error(tiny_folder, monkeypatch):
    monkeypatch.setitem(FAMILIES, "llava", "model_adapters.not_there")
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        load_adapter(str(tiny_folder))

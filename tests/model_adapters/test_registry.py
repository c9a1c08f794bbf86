"""Names, folders, and every way in which a checkpoint can be bad: one line, no traceback."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

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


def test_processor_without_template_or_image_token(copy, tmp_path):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        load_adapter(str(copy))
    edit(copy / "config.json", image_token_index=7, image_token_id=7)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UserError, match="no image token with the id"):
        load_adapter(str(copy))
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="cannot load the processor") as error:
        load_adapter(str(copy))
    assert one_line(error)


def test_weights_that_are_missing_left_over_cut_or_absent(copy):
    file = copy / "model.safetensors"
    good = load_file(file)
    adapter = load_adapter(str(copy))

    def fails(match):
        with pytest.raises(UserError, match=match) as error:
            adapter.load_model(dtype=torch.float32)
        assert one_line(error)

    name = next(key for key in good if "linear_1.weight" in key)
    save_file({key: value for key, value in good.items() if key != name}, file, metadata={"format": "pt"})
    fails("1 missing keys")
    save_file({**good, "surplus": torch.zeros(2)}, file, metadata={"format": "pt"})
    fails("1 unexpected keys")
    save_file({**good, name: torch.zeros(3, 3)}, file, metadata={"format": "pt"})
    fails("weights of")
    save_file(good, file, metadata={"format": "pt"})
    file.write_bytes(file.read_bytes()[:5000])
    fails("cannot load the weights")
    file.unlink()
    fails("cannot load the weights")


def test_a_broken_family_module_shows_its_own_error(tiny_folder, monkeypatch):
    monkeypatch.setitem(FAMILIES, "llava", "model_adapters.not_there")
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        load_adapter(str(tiny_folder))

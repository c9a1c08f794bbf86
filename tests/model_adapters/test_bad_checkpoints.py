"""Every way in which a checkpoint of each family can be bad: one line that says what and where."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_recipes.errors import UserError
from model_adapters.registry import FAMILIES, load_adapter

QUERIES = "model.language_model.layers.0.self_attn.q_proj.weight"


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def weights_cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def weights_pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    no_weights(folder)


def shard_lost(folder):
    weights = load_file(folder / "model.safetensors")
    no_weights(folder)
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    where = {key: names[n % 2] for n, key in enumerate(sorted(weights))}
    first = {key: value for key, value in weights.items() if where[key] == names[0]}
    save_file(first, folder / names[0], metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def key_missing(folder):
    change_weights(folder, lambda weights: weights.pop(stored(weights)))


def key_left_over(folder):
    change_weights(folder, lambda weights: weights.update(surplus=torch.zeros(2)))


def key_of_another_shape(folder):
    change_weights(folder, lambda weights: weights.update({stored(weights): torch.zeros(3, 3)}))


def stored(weights):
    """The queries of the first layer, by the name they are stored under."""
    return min(key for key in weights if key.endswith("q_proj.weight") and "vis" not in key)


def of_another_class(folder):
    edit(folder / "config.json", architectures=["SomethingElseForConditionalGeneration"])


def no_chat_template(folder):
    (folder / "chat_template.jinja").unlink()


def chat_template_broken(folder):
    (folder / "chat_template.jinja").write_text("{% for message in messages %}")


def chat_template_without_image(folder):
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['role'] }}: {% endfor %}")


def no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def no_image_processor(folder):
    (folder / "processor_config.json").unlink()


def no_image_token(folder):
    image_id = load_adapter(str(folder)).image_id
    path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    tokenizer = json.loads(path.read_text())
    gone = [token["content"] for token in tokenizer["added_tokens"] if token["id"] == image_id]
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] not in gone]
    for token in gone:
        tokenizer["model"]["vocab"].pop(token, None)
    path.write_text(json.dumps(tokenizer))
    kept = {key: value for key, value in json.loads(settings.read_text()).items() if value not in gone}
    settings.write_text(json.dumps(kept))


DEFECTS = {
    no_weights: r"cannot load the weights of {folder}: .*no file named model\.safetensors",
    weights_cut: r"cannot load the weights in {folder}/model\.safetensors",
    weights_pickled: r"cannot load the weights of {folder}: pytorch_model\.bin is pickled",
    shard_lost: r"cannot load the weights of {folder}: .*model-00002-of-00002\.safetensors",
    key_missing: rf"the weights of {{folder}} do not fit \w+: 1 missing key, the first is {QUERIES}",
    key_left_over: r"the weights of {folder} do not fit \w+: 1 unexpected key, the first is surplus",
    key_of_another_shape: rf"do not fit \w+: 1 mismatched key, the first is {QUERIES}, \(3, 3\) instead of",
    of_another_class: r"'{folder}' .*its weights are of SomethingElseForConditionalGeneration, not of",
    no_chat_template: r"'{folder}' has no chat template",
    chat_template_broken: r"the chat template of model '{folder}' fails: ",
    chat_template_without_image: r"the chat template of model '{folder}' writes 0 image tokens",
    no_tokenizer: r"cannot load the processor of model '{folder}': ",
    no_image_processor: r"cannot load the processor of model '{folder}': ",
    no_image_token: r"of model '{folder}'.*image.token",
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_bad_checkpoint_is_refused_in_one_line(tmp_path, flavour_folder, name, defect):
    folder = shutil.copytree(flavour_folder(name), tmp_path / "bad")
    defect(folder)
    with pytest.raises(UserError, match=DEFECTS[defect].replace("{folder}", str(folder))) as error:
        load_adapter(str(folder)).load_model(dtype=torch.float32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("other", FAMILIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_one_family_are_never_taken_for_another(tmp_path, flavour_folder, name, other):
    """config.json is that of another family, whole and consistent; the files around it are not."""
    if name == other:
        pytest.skip("the same")
    folder = shutil.copytree(flavour_folder(name), tmp_path / "bad")
    shutil.copy(flavour_folder(other) / "config.json", folder)
    with pytest.raises(UserError) as error:
        load_adapter(str(folder)).load_model(dtype=torch.float32)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)

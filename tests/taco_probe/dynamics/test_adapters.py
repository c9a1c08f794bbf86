"""Updates read from a model and from a saved adapter are one and the same, and those of PEFT's own merge."""

import json

import pytest
import torch

from data_recipes.errors import UserError
from taco_probe.dynamics import adapters, updates
from taco_probe.dynamics.lora import Group
from tests.taco_probe.dynamics.conftest import with_lora


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}])
def test_a_saved_adapter_holds_the_updates_of_the_model(llava, tmp_path, options):
    model = with_lora(llava, **options)
    before = adapters.of_model(model)
    model.save_pretrained(tmp_path)
    saved = adapters.read(tmp_path)
    assert saved.keys() == before.keys()
    assert updates.cosine(saved, before) == pytest.approx(1)
    for name, update in saved.items():
        layer = model.get_submodule(name)
        delta = layer.get_delta_weight("default")
        assert torch.allclose(update.scale * update.b @ update.a, delta, atol=1e-6)
    for parameter in model.parameters():  # copies: training on does not move them
        parameter.data.zero_()
    assert updates.cosine(saved, before) == pytest.approx(1)


def test_updates_are_grouped_by_layer_and_kind(llava):
    parts = adapters.grouped(adapters.of_model(with_lora(llava)))
    assert {group: len(part) for group, part in parts.items()} == {
        Group(layer, kind): count for layer in (0, 1) for kind, count in (("attention", 4), ("mlp", 3))
    }


def test_what_is_no_plain_saved_adapter_is_refused(llava, tmp_path):
    with pytest.raises(UserError, match="holds no readable adapter"):
        adapters.read(tmp_path)
    with_lora(llava).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    for change, message in (({"use_dora": True}, "use_dora"), ({"peft_type": "LOHA"}, "LOHA")):
        path.write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=rf"not plain LoRA \({message}\)"):
            adapters.read(tmp_path)
    path.write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cannot read .*adapter_model"):
        adapters.read(tmp_path)

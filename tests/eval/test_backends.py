"""Backends: the batches of the one in this process, and what vLLM is handed."""

from __future__ import annotations

import copy
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
from peft import LoraConfig, get_peft_model

from data_recipes.records import Box, Entry
from eval import backends
from eval.backends import Asked, Transformers
from eval.generate import make_backend
from model_adapters.registry import FAMILIES, load_adapter

COUNTS = (3, 1, 5)
LIMITS = [2 + number % 7 for number in range(sum(COUNTS))]


@pytest.fixture(scope="module")
def llava(flavour_folder):
    return load_adapter(str(flavour_folder("llava")))


@pytest.fixture(scope="module")
def asked():
    rng = np.random.default_rng(0)
    made = []
    for number, count in enumerate(COUNTS):
        picture = PIL.Image.fromarray(rng.integers(0, 256, (40 + number, 90), dtype=np.uint8))
        entries = [
            Entry(f"{number}/{k}", "i", "reg", "no " * k + "{box}?", "no", (Box(0.1, 0.1, 0.4, 0.5),), "test")
            for k in range(count)
        ]
        made.append(Asked(picture, entries))
    return made


def alone(adapter, model, asked):
    """Outputs of one question at a time by `model.generate`."""
    outputs = []
    for picture, entries in asked:
        for entry in entries:
            inputs = adapter.collate([adapter.encode(entry, picture, with_target=False)], padding_side="left")
            limit = LIMITS[len(outputs)]
            ids = model.generate(**inputs, max_new_tokens=limit, **adapter.generation)
            outputs.append(adapter.decode(ids[0, inputs["input_ids"].shape[1] :]))
    return outputs


@pytest.mark.parametrize("batch_tokens", [1, 160, 10_000])
def test_whatever_the_batches_each_question_has_its_answer(llava, asked, batch_tokens, monkeypatch):
    sizes = []
    real = backends.decode

    def watched(model, adapter, groups, limits, **kwargs):
        sizes.append(adapter.collate_shared(groups)["input_ids"].shape)
        return real(model, adapter, groups, limits, **kwargs)

    monkeypatch.setattr(backends, "decode", watched)
    model = llava.load_model(dtype=torch.float32).eval()
    outputs = dict(Transformers(model, llava, batch_tokens=batch_tokens)(asked, LIMITS))
    assert [outputs[number] for number in range(len(LIMITS))] == alone(llava, model, asked)
    assert all(rows * tokens <= batch_tokens or rows == 1 for rows, tokens in sizes)
    assert len(sizes) == {1: 3, 160: 2, 10_000: 1}[batch_tokens]


def test_a_template_with_the_question_first_is_answered_too(llava, asked):
    turned = copy.copy(llava)
    turned.processor = copy.deepcopy(llava.processor)
    template = turned.processor.chat_template
    turned.processor.chat_template = template.replace("message['content']", "message['content']|reverse", 1)
    model = llava.load_model(dtype=torch.float32).eval()
    ids = turned.encode(asked[0].entries[0], asked[0].picture, with_target=False)["input_ids"]
    text = turned.processor.tokenizer.decode(ids)
    assert text.index("?") < text.index("<image>")
    outputs = dict(Transformers(model, turned)(asked, LIMITS))
    assert [outputs[number] for number in range(len(LIMITS))] == alone(turned, model, asked)


class FakeVllm(ModuleType):
    """Records what it is called with; answers with the number of the prompt."""

    def __init__(self):
        super().__init__("vllm")
        self.engines, self.prompts, self.settings = [], [], []
        self.SamplingParams = SimpleNamespace

    def LLM(self, **options):
        self.engines.append(options)
        self.weights = load_adapter(options["model"]).load_model(dtype=torch.float32)
        return self

    def generate(self, prompts, settings, *, use_tqdm):
        self.prompts, self.settings = prompts, settings
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=(20 + n,))]) for n in range(len(prompts))]


@pytest.fixture
def vllm(monkeypatch):
    fake = FakeVllm()
    monkeypatch.setitem(sys.modules, "vllm", fake)
    return fake


@pytest.mark.parametrize("name", FAMILIES)
def test_vllm_gets_one_token_for_the_image_and_the_picture(vllm, flavour_folder, asked, name):
    adapter = load_adapter(str(flavour_folder(name)))
    outputs = dict(make_backend("vllm", adapter, None)(asked, LIMITS))
    assert [outputs[n] for n in range(9)] == [adapter.decode(torch.tensor([20 + n])) for n in range(9)]
    (engine,) = vllm.engines
    assert engine["model"] == str(flavour_folder(name))
    questions = [(picture, entry) for picture, entries in asked for entry in entries]
    tokenizer = adapter.processor.tokenizer
    for (picture, entry), prompt, wanted, limit in zip(
        questions, vllm.prompts, vllm.settings, LIMITS, strict=True
    ):
        image = prompt["multi_modal_data"]["image"]
        # What the checkpoint's own processor makes of them is what the model gets in this process.
        text = tokenizer.decode(prompt["prompt_token_ids"])
        assert text.count(adapter.processor.image_token) == 1
        theirs = adapter.processor(
            images=image,
            text=text,
            add_special_tokens=False,
            return_tensors="pt",
            **engine["mm_processor_kwargs"],
        )
        ours = adapter.encode(entry, picture, with_target=False)
        assert theirs["input_ids"][0].tolist() == ours["input_ids"].tolist()
        assert torch.equal(theirs["pixel_values"], ours["pixel_values"])
        assert (wanted.temperature, wanted.max_tokens) == (0, limit)
        assert wanted.stop_token_ids == adapter.generation["eos_token_id"]


def test_vllm_gets_the_weights_of_the_run_in_a_checkpoint(vllm, llava, asked, tmp_path):
    base = llava.load_model(dtype=torch.float32)
    before = base.get_parameter("model.language_model.layers.0.self_attn.q_proj.weight").clone()
    lora = get_peft_model(base, LoraConfig(r=2, target_modules=llava.lora_targets, init_lora_weights=False))
    lora.save_pretrained(tmp_path)
    make_backend("vllm", llava, tmp_path)
    merged = vllm.weights.get_parameter("model.language_model.layers.0.self_attn.q_proj.weight")
    expected = lora.merge_and_unload().get_parameter("model.language_model.layers.0.self_attn.q_proj.weight")
    assert torch.allclose(merged, expected, rtol=1e-2, atol=1e-2)  # stored in bfloat16
    assert not torch.allclose(merged, before, rtol=1e-2, atol=1e-2)

"""The attention of a run: what the user says, or what is faster where both can train."""

from __future__ import annotations

import pytest
import torch

from data_recipes.store import read_mixture
from harness import attention
from harness.dataset import Collator, Images, Samples
from model_adapters import block_attention
from model_adapters.registry import load_adapter

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def adapter():
    return load_adapter("tiny")


@pytest.fixture
def model(adapter):
    return adapter.load_model(dtype=torch.float32)


@pytest.fixture(scope="module")
def batches(mixture_folder, adapter):
    """Two images with all their entries, shared and not."""
    mixture = read_mixture(mixture_folder)
    cache = Images(mixture_folder, adapter, megabytes=64)
    samples = Samples(mixture, "train", cache, adapter, batching="image")
    drawn = [samples[0], samples[1]]
    return {sharing: Collator(adapter, sharing=sharing)(drawn) for sharing in ("image", "none")}


def kind(model):
    return model.config.get_text_config()._attn_implementation


@pytest.mark.parametrize(("faster", "expected"), [("sdpa", "sdpa"), ("flex", block_attention.NAME)])
def test_a_gpu_gets_what_is_faster_on_the_first_batch(adapter, model, batches, monkeypatch, faster, expected):
    spent = {"sdpa": 2.0, block_attention.NAME: 1.0 if faster == "flex" else 3.0}
    monkeypatch.setattr(attention, "seconds", lambda kind, *_: spent[kind])
    facts = attention.settle(model, adapter, "auto", batches["image"], GPU)
    assert (facts["attention"], kind(model)) == (faster, expected)
    assert facts["attention_seconds"] == {"sdpa": 2.0, "flex": spent[block_attention.NAME]}
    assert model.config.vision_config._attn_implementation == "sdpa"


@pytest.mark.parametrize(("sharing", "device"), [("image", CPU), ("none", GPU), ("none", CPU)])
def test_elsewhere_nothing_is_timed(adapter, model, batches, sharing, device):
    assert attention.settle(model, adapter, "auto", batches[sharing], device) == {"attention": "sdpa"}
    assert kind(model) == "sdpa"


def test_the_user_may_choose(adapter, model, batches):
    assert attention.settle(model, adapter, "eager", batches["image"], CPU) == {"attention": "eager"}
    assert kind(model) == "eager"


def test_attention_is_timed_there_and_back_in_the_models_shape(adapter, model, batches):
    assert attention.seconds("sdpa", model, [adapter.masks(batches["image"])], CPU) > 0

"""Models with plain LoRA of each tiny flavour, and ragged entries of one batch or several."""

from __future__ import annotations

import functools

import numpy as np
import PIL.Image
import pytest
import torch
from peft import LoraConfig, get_peft_model

from data_recipes.records import Box, Entry
from model_adapters.registry import load_adapter

_ANSWERS = (
    ("vqa", "Is there a pneumothorax?", "no", 0),
    ("report", "Report this radiograph.", "The heart is normal in size. There is no pneumothorax.", 0),
    ("rec", "Where is the nodule?", "{box}", 1),
    ("findings", "Which findings are present?", "edema, nodule", 0),
    ("severity", "What is the edema grade?", "grade 1, vascular congestion", 0),
)
SIZES = (
    (64, 64),
    (97, 70),
    (60, 90),
)  # width, height: several families make of these different numbers of tokens


def encode(adapter, count):
    """Entries of different lengths, each with an image of its own."""
    features = []
    for number in range(count):
        rng = np.random.default_rng(number)
        width, height = SIZES[number % len(SIZES)]
        image = PIL.Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
        task, prompt, target, boxes = _ANSWERS[number % len(_ANSWERS)]
        box = Box(0.1, 0.2, 0.5, 0.6 + number / 100)
        entry = Entry(f"e{number}", f"i{number}", task, prompt, target, (box,) * boxes, "test")
        features.append(adapter.encode(entry, image, with_target=True))
    return features


def batches(adapter, features, size):
    collate = functools.partial(adapter.collate, padding_side="right")
    return [collate(features[first : first + size]) for first in range(0, len(features), size)]


def with_lora(adapter, *, dtype=torch.float32, seed=0, scale_b=0.05, **options):
    """The flavour with LoRA whose B is not 0 (unless `scale_b` is)."""
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": adapter.lora_targets}
    model = get_peft_model(adapter.load_model(dtype=dtype), LoraConfig(**settings | options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale_b) if scale_b else torch.nn.init.zeros_(parameter)
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return model


def loop(model, features, adapter, losses, prefix="lora_"):
    """Gradients of entries (n, P), a batch of one at a time: what the Gram matrix is checked against."""
    weights = [p for name, p in model.named_parameters() if prefix in name]
    model.eval()
    rows = []
    for number, feature in enumerate(features):
        batch = batches(adapter, [feature], 1)[0] | {"number": torch.tensor([number])}
        grads = torch.autograd.grad(losses(model, batch).sum(), weights)
        rows.append(torch.cat([grad.flatten() for grad in grads]).double())
    model.train()
    return torch.stack(rows)


@pytest.fixture(scope="session")
def llava(flavour_folder):
    return load_adapter(str(flavour_folder("llava")))

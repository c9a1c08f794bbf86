"""The models and images that benchmarks measure on."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from data_recipes.records import Image, Mixture
from model_adapters.adapter import Adapter
from model_adapters.registry import load_adapter

SHAPES = ("llava_576", "tiny_64")


def shape(name: str, folder: Path) -> Adapter:
    """The adapter of a shape; what is not shipped is written to `folder`, with the words of `tiny`."""
    tiny = load_adapter("tiny")
    if name == "tiny_64":
        return tiny
    side = 336
    config = LlavaConfig.from_pretrained(tiny.folder)
    config.vision_config.image_size = side
    config.vision_config.hidden_size, config.vision_config.intermediate_size = 128, 512
    config.vision_config.num_hidden_layers = 2
    config.text_config.hidden_size, config.text_config.intermediate_size = 256, 688
    config.image_seq_length = (side // config.vision_config.patch_size) ** 2
    config.dtype = torch.float32
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor = tiny.processor
    processor.image_processor.size = processor.image_processor.crop_size = {"height": side, "width": side}
    processor.save_pretrained(folder)
    return load_adapter(str(folder))


def typical(mixture: Mixture, images: int, *, split: str) -> tuple[Image, ...]:
    """Neighbouring images of a split whose entries an image are nearest to the mean of the split."""
    has = Counter(entry.image_id for entry in mixture.entries)
    every = [image for image in mixture.images if image.split == split]
    mean = statistics.mean(has[image.image_id] for image in every)
    runs = [every[first : first + images] for first in range(len(every) - images + 1)]
    return tuple(min(runs, key=lambda run: abs(statistics.mean(has[one.image_id] for one in run) - mean)))

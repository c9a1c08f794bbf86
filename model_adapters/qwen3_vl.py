"""Qwen3-VL: vision features of several depths enter the language model's first layers (MedMO)."""

from __future__ import annotations

from dataclasses import replace

from transformers import (
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from model_adapters.base import Family
from model_adapters.boxes import Notation, whole
from model_adapters.qwen2_vl import flavour_of, positions
from model_adapters.tiny.flavour import SMALL

FAMILY = Family(
    name="qwen3_vl",
    model_class=Qwen3VLForConditionalGeneration,
    config_class=Qwen3VLConfig,
    processor_class=Qwen3VLProcessor,
    projector=r".*visual\.(merger|deepstack_merger_list\.\d+)\.linear_fc\d",
    codec=lambda processor: Notation("[[{x1}, {y1}, {x2}, {y2}]]", whole(1000), wrappers=("<box>", "</box>")),
    flavour=flavour_of(
        Qwen3VLConfig,
        Qwen3VLProcessor,
        lambda sizes: {
            "hidden_size": sizes.width,
            "intermediate_size": sizes.ratio * sizes.width,
            "out_hidden_size": sizes.text["hidden_size"],
            "num_position_embeddings": sizes.patches[1],
            "deepstack_visual_indexes": [0, 1],
        },
        rope={"rope_theta": 5e6, "mrope_interleaved": True},
        video_processor=Qwen3VLVideoProcessor,
        sizes=replace(SMALL, patch=16, depth=3),
    ),
    type_ids="mm_token_type_ids",
    positions=positions,
)

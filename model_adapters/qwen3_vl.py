"""Qwen3-VL: vision features of several depths enter the language model's first layers (MedMO)."""

from __future__ import annotations

from transformers import (
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from model_adapters.base import Family
from model_adapters.boxes import Notation, whole
from model_adapters.qwen2_vl import TEXT_OF_THREE_AXES, flavour_of, positions

_ROPE = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 2, 2], "mrope_interleaved": True}

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
        {
            "depth": 3,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_heads": 4,
            "out_hidden_size": 48,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        TEXT_OF_THREE_AXES | {"head_dim": 12, "rope_parameters": _ROPE},
        video_processor=Qwen3VLVideoProcessor,
        patch=16,
    ),
    type_ids="mm_token_type_ids",
    positions=positions,
)

"""Qwen2-VL: a vision tower for any resolution and three-axis rotary positions (MedVLM-R1).

Qwen2.5-VL and Qwen3-VL share its processor's way with images; `flavour_of` builds the tiny flavours of all
three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import (
    ProcessorMixin,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from model_adapters.base import Family
from model_adapters.boxes import Notation, whole
from model_adapters.tiny.flavour import CHATML_ENDS, TEXT, Flavour, chatml

TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
BOXED = ("<|box_start|>", "<|box_end|>")
# head_dim 12: two rotary frequencies for each of time, height and width
TEXT_OF_THREE_AXES = TEXT | {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 2, 2]},
}


def positions(processor: ProcessorMixin, feature: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Time, height and width (3, L) of each token: text counts on all three, an image counts its rows and
    columns from where it starts, and the text after it goes on from its longer side (Qwen2-VL, arXiv
    2409.12191, section 2.1)."""
    ids = feature["input_ids"]
    merge = processor.image_processor.merge_size
    grid = feature["image_grid_thw"][0] // torch.tensor([1, merge, merge])
    start = int((ids == processor.image_token_id).int().argmax())
    inside = torch.cartesian_prod(*(torch.arange(int(n)) for n in grid)).T
    after = torch.arange(len(ids) - start - inside.shape[1]) + int(grid.max())
    return torch.cat(
        [torch.arange(start).expand(3, -1), start + inside, (start + after).expand(3, -1)], dim=1
    )


def flavour_of(
    config_class: type[Any],
    processor_class: type[ProcessorMixin],
    vision: dict[str, Any],
    text: dict[str, Any],
    *,
    video_processor: type[Any] = Qwen2VLVideoProcessor,
    patch: int = 14,
) -> Flavour:
    """The tiny flavour of a Qwen vision-language model; images get up to 16 tokens."""

    def make(tokenizer: Any) -> tuple[Any, ProcessorMixin]:
        ids = {
            key: tokenizer.convert_tokens_to_ids(TOKENS[name])
            for key, name in (
                ("image_token_id", "image_token"),
                ("video_token_id", "video_token"),
                ("vision_start_token_id", "vision_bos_token"),
                ("vision_end_token_id", "vision_eos_token"),
            )
        }
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        config = config_class(
            vision_config=vision | {"patch_size": patch},
            text_config=text | ends | {"bos_token_id": None, "vocab_size": len(tokenizer)},
            **ids,
        )
        size = {"shortest_edge": 4 * patch**2, "longest_edge": 16 * 4 * patch**2}
        processor = processor_class(
            image_processor=Qwen2VLImageProcessor(patch_size=patch, size=size),
            tokenizer=tokenizer,
            video_processor=video_processor(patch_size=patch, size=size),
        )
        return config, processor

    return Flavour(
        tokens=TOKENS,
        template=chatml("<|vision_start|><|image_pad|><|vision_end|>"),
        ends=CHATML_ENDS,
        more=BOXED,
        make=make,
    )


def _boxed(form: str) -> Callable[[ProcessorMixin], Notation]:
    return lambda processor: Notation(form, whole(1000), wrappers=BOXED)


FAMILY = Family(
    name="qwen2_vl",
    model_class=Qwen2VLForConditionalGeneration,
    config_class=Qwen2VLConfig,
    processor_class=Qwen2VLProcessor,
    projector=r".*visual\.merger\.mlp\.[02]",
    codec=_boxed("({x1},{y1}),({x2},{y2})"),
    flavour=flavour_of(
        Qwen2VLConfig,
        Qwen2VLProcessor,
        {"depth": 2, "embed_dim": 48, "hidden_size": 48, "num_heads": 4, "mlp_ratio": 2},
        TEXT_OF_THREE_AXES,
    ),
    type_ids="mm_token_type_ids",
    positions=positions,
)

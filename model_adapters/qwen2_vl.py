"""Qwen2-VL: a vision tower for any resolution and three-axis rotary positions (MedVLM-R1).

Qwen2.5-VL and Qwen3-VL share its processor's way with images; `flavour_of` builds the tiny flavours of all
three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
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
from model_adapters.tiny.flavour import CHATML_ENDS, SMALL, Flavour, Sizes, chatml

TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
BOXED = ("<|box_start|>", "<|box_end|>")


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
    vision: Callable[[Sizes], dict[str, Any]],
    *,
    rope: Mapping[str, Any] = MappingProxyType({"rope_theta": 1e6}),
    video_processor: type[Any] = Qwen2VLVideoProcessor,
    sizes: Sizes = SMALL,
) -> Flavour:
    """The tiny flavour of a Qwen vision-language model. Its text configuration takes the rotary frequencies
    in equal parts for time, height and width."""

    def make(tokenizer: Any, sizes: Sizes) -> tuple[Any, ProcessorMixin]:
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
        of_head = sizes.text["hidden_size"] // sizes.text["num_attention_heads"]
        text = dict(sizes.text) | {
            "head_dim": of_head,
            "rope_parameters": {"rope_type": "default", "mrope_section": [of_head // 6] * 3, **rope},
        }
        config = config_class(
            vision_config=vision(sizes) | {"depth": sizes.depth, "patch_size": sizes.patch, "num_heads": 4},
            text_config=text | ends | {"bos_token_id": None, "vocab_size": len(tokenizer)},
            tie_word_embeddings=bool(text.get("tie_word_embeddings")),
            **ids,
        )
        fewest, most = (patches * sizes.patch**2 for patches in sizes.patches)
        size = {"shortest_edge": fewest, "longest_edge": most}
        processor = processor_class(
            image_processor=Qwen2VLImageProcessor(patch_size=sizes.patch, size=size),
            tokenizer=tokenizer,
            video_processor=video_processor(patch_size=sizes.patch, size=size),
        )
        return config, processor

    return Flavour(
        tokens=TOKENS,
        template=chatml("<|vision_start|><|image_pad|><|vision_end|>"),
        ends=CHATML_ENDS,
        more=BOXED,
        make=make,
        sizes=sizes,
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
        lambda sizes: {
            "embed_dim": sizes.width,
            "hidden_size": sizes.text["hidden_size"],
            "mlp_ratio": sizes.ratio,
        },
    ),
    type_ids="mm_token_type_ids",
    positions=positions,
)

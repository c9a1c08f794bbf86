"""LLaVA-OneVision: SigLIP with tiles of the image at a higher resolution, and Qwen2 (RadVLM).

The tiles hold the image with its shape kept, the first view all of it squeezed to a square: nothing is cut.
"""

from __future__ import annotations

from typing import Any

from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2Config,
    SiglipVisionConfig,
)

from model_adapters.base import Family
from model_adapters.boxes import Notation, whole
from model_adapters.tiny.flavour import CHATML_ENDS, Flavour, Sizes, chatml, text_config


def _tiny(tokenizer: Any, sizes: Sizes) -> tuple[LlavaOnevisionConfig, LlavaOnevisionProcessor]:
    one, two = sizes.side, 2 * sizes.side
    tiles = [[one, one], [one, two], [two, one], [two, two]]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**sizes.vision(), vision_use_head=False),
        text_config=text_config(Qwen2Config, tokenizer, sizes),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=tiles,
    )
    size = {"height": one, "width": one}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=tiles),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=sizes.grid**2,
        vision_feature_select_strategy="full",
    )
    return config, processor


FAMILY = Family(
    name="llava_onevision",
    model_class=LlavaOnevisionForConditionalGeneration,
    config_class=LlavaOnevisionConfig,
    processor_class=LlavaOnevisionProcessor,
    projector=r".*multi_modal_projector\.linear_\d",
    codec=lambda processor: Notation("[{x1}, {y1}, {x2}, {y2}]", whole(100), decimals=2),
    flavour=Flavour(
        tokens={"image_token": "<image>", "video_token": "<video>"},
        template=chatml("<image>\\n"),
        ends=CHATML_ENDS,
        make=_tiny,
    ),
)

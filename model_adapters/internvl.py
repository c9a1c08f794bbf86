"""InternVL: InternViT with pixel unshuffle, and Qwen2.5 (Lingshu-I).

The processor cuts an image into up to twelve tiles by default, whatever the checkpoint's own
`crop_to_patches` says; here the checkpoint decides. (3,340 prompt tokens against 268.)
"""

from __future__ import annotations

from typing import Any

from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    InternVLVisionConfig,
    Qwen2Config,
)

from model_adapters.base import Family
from model_adapters.boxes import Notation, whole
from model_adapters.tiny.flavour import CHATML_ENDS, Flavour, Sizes, chatml, text_config

BOXED = ("<box>", "</box>")


def _tiny(tokenizer: Any, sizes: Sizes) -> tuple[InternVLConfig, InternVLProcessor]:
    tokens = (sizes.grid // 2) ** 2  # four patches are shuffled into one
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**sizes.vision()),
        text_config=text_config(Qwen2Config, tokenizer, sizes),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=tokens,
        downsample_ratio=0.5,
        tie_word_embeddings=bool(sizes.text.get("tie_word_embeddings")),
    )
    size = {"height": sizes.side, "width": sizes.side}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=False),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=tokens,
    )
    return config, processor


FAMILY = Family(
    name="internvl",
    model_class=InternVLForConditionalGeneration,
    config_class=InternVLConfig,
    processor_class=InternVLProcessor,
    projector=r".*multi_modal_projector\.linear_\d",
    codec=lambda processor: Notation("[[{x1}, {y1}, {x2}, {y2}]]", whole(1000), wrappers=BOXED),
    flavour=Flavour(
        tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        template=chatml("<IMG_CONTEXT>\\n"),
        ends=CHATML_ENDS,
        more=BOXED,
        make=_tiny,
    ),
)

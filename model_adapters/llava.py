"""LLaVA: a CLIP vision tower, a two-layer projector and a language model (LLaVA-Med, HuatuoGPT-Vision,
`tiny`).

CLIP's own preprocessing crops the centre of an image and so moves boxes. LLaVA pads the image to a square
with the mean colour instead (`image_aspect_ratio: pad`); so does this adapter, whatever the checkpoint's
processor would do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import PIL.Image
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MistralConfig,
)

from model_adapters.base import Family
from model_adapters.boxes import Notation, padded
from model_adapters.tiny.flavour import SMALL, Flavour, Sizes, text_config


def frame(processor: LlavaProcessor, image: PIL.Image.Image) -> PIL.Image.Image:
    """The image padded to a square."""
    if image.width == image.height:
        return image
    side = max(image.size)
    background = tuple(round(255 * mean) for mean in processor.image_processor.image_mean)
    square = PIL.Image.new("RGB", (side, side), background)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def repair(config: LlavaConfig, processor: LlavaProcessor) -> None:
    """Some checkpoints ship null for what tells how many tokens an image has; the model's configuration is
    the authority. And a square image is neither cropped nor resized by its shorter side."""
    processor.patch_size = config.vision_config.patch_size
    processor.num_additional_image_tokens = 1  # CLIP's class token
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    side = config.vision_config.image_size
    processor.image_processor.size = {"height": side, "width": side}
    processor.image_processor.do_center_crop = False


def _tiny(tokenizer: Any, sizes: Sizes) -> tuple[LlavaConfig, LlavaProcessor]:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes.vision()),
        text_config=text_config(MistralConfig, tokenizer, sizes, sliding_window=None),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=sizes.grid**2,
        vision_feature_layer=-2,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": sizes.side}, crop_size={"height": sizes.side, "width": sizes.side}
        ),
        tokenizer=tokenizer,
        patch_size=sizes.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return config, processor


FAMILY = Family(
    name="llava",
    model_class=LlavaForConditionalGeneration,
    config_class=LlavaConfig,
    processor_class=LlavaProcessor,
    projector=r".*multi_modal_projector\.linear_\d",
    codec=lambda processor: Notation("[{x1}, {y1}, {x2}, {y2}]", padded(100), decimals=2),
    flavour=Flavour(
        tokens={"image_token": "<image>"},
        template=(
            "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] "
            "{% for part in message['content'] %}"
            "{{ '<image>\\n' if part['type'] == 'image' else part['text'] }}{% endfor %} [/INST]"
            "{% else %} {{ message['content'][0]['text'] }}{{ eos_token }}{% endif %}{% endfor %}"
        ),
        ends=("<s>", "</s>", "<pad>"),
        make=_tiny,
        sizes=replace(SMALL, depth=3),  # features are those of the last layer but one
    ),
    frame=frame,
    repair=repair,
)

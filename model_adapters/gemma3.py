"""Gemma 3: SigLIP at a fixed size; its language model alternates sliding and full attention (MedGemma).

Image tokens see each other in both directions, which the model is told by token_type_ids. Pan-and-scan,
which shows crops of wide images beside the image, stays off.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import PIL.Image
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    ProcessorMixin,
    SiglipVisionConfig,
)

from model_adapters.base import Family, Places, Vision
from model_adapters.boxes import Notation, whole
from model_adapters.tiny.flavour import SMALL, TEXT, Flavour, Sizes, text_config


def see(processor: ProcessorMixin, image: PIL.Image.Image) -> Vision:
    """pixel_values (1, 3, S, S) of the image squeezed to a square."""
    return dict(processor.image_processor(images=[image], do_pan_and_scan=False, return_tensors="pt"))


def masks(
    config: Gemma3Config, visible: torch.Tensor, queries: Places, keys: Places
) -> dict[str, torch.Tensor]:
    """Tokens of an image see each other both ways; the window slides over positions, not over places in the
    sequence."""
    pictured = queries.pictured[:, :, None]
    together = (pictured == keys.pictured[:, None, :]) & (pictured > 0)
    away = queries.positions[:, :, None] - keys.positions[:, None, :]
    near = away < config.get_text_config().sliding_window
    return {"full_attention": visible | together, "sliding_attention": (visible & near) | together}


def _tiny(tokenizer: Any, sizes: Sizes) -> tuple[Gemma3Config, Gemma3Processor]:
    tokens = (sizes.grid // 2) ** 2  # four patches are pooled to one
    heads, layers = sizes.text["num_attention_heads"], sizes.text["num_hidden_layers"]
    size = sizes.text["hidden_size"] // heads
    config = Gemma3Config(
        text_config=text_config(
            Gemma3TextConfig,
            tokenizer,
            sizes,
            head_dim=size,
            query_pre_attn_scalar=size,
            sliding_window=max(32, 2 * tokens),
            layer_types=["sliding_attention"] * (layers - 1) + ["full_attention"],
        ),
        vision_config=SiglipVisionConfig(**sizes.vision(), vision_use_head=False),
        mm_tokens_per_image=tokens,
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
    )
    images = Gemma3ImageProcessor(size={"height": sizes.side, "width": sizes.side})
    return config, Gemma3Processor(images, tokenizer, image_seq_length=tokens)


FAMILY = Family(
    name="gemma3",
    model_class=Gemma3ForConditionalGeneration,
    config_class=Gemma3Config,
    processor_class=Gemma3Processor,
    projector=r".*multi_modal_projector\.mm_input_projection_weight",
    codec=lambda processor: Notation("[{y1}, {x1}, {y2}, {x2}]", whole(1000)),
    flavour=Flavour(
        tokens={
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
        },
        template=(
            "{{ bos_token }}{% for message in messages %}"
            "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
            "{% for part in message['content'] %}"
            "{{ '<start_of_image>' if part['type'] == 'image' else part['text'] | trim }}{% endfor %}"
            "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
        ),
        ends=("<bos>", "<eos>", "<pad>"),
        more=("<start_of_turn>", "<end_of_turn>"),
        make=_tiny,
        sizes=replace(SMALL, text=TEXT | {"num_hidden_layers": 3}),
    ),
    see=see,
    type_ids="token_type_ids",
    masks=masks,
)

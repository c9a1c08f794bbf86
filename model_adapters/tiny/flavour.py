"""Tiny flavours: real configuration and processor classes of a family, small sizes, random weights.

They are written as checkpoint folders, so that tests and runs without a GPU load them by the path that a real
checkpoint takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

# What the language models of all flavours have in common; fewer key heads than query heads, as in real ones.
TEXT: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    # About 1 / sqrt(48): with the 0.02 of the real models, logits would hardly differ from each other.
    "initializer_range": 0.15,
}
# The same of their vision towers, where these have these names.
VISION: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
CHATML_ENDS = (None, "<|im_end|>", "<|endoftext|>")
_WORDS = Path(__file__).parent / "checkpoint" / "tokenizer.json"


@dataclass(frozen=True)
class Flavour:
    """A family's tiny flavour.

    Attributes:
        tokens: special tokens that the processor asks the tokenizer for, by attribute name.
        template: the chat template, in the shape of the family's own.
        ends: bos_token (or none), eos_token and pad_token.
        make: configuration and processor for a tokenizer.
        more: further special tokens.
    """

    tokens: Mapping[str, str]
    template: str
    ends: tuple[str | None, str, str]
    make: Callable[[Any], tuple[Any, ProcessorMixin]]
    more: tuple[str, ...] = ()


def chatml(image: str) -> str:
    """The ChatML template, with `image` where an image stands."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% for part in message['content'] %}"
        "{{ '" + image + "' if part['type'] == 'image' else part['text'] }}{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def text_config(config_class: type[Any], tokenizer: PreTrainedTokenizerFast, **more: Any) -> Any:
    """A small text configuration of this class for this tokenizer; `more` adds to TEXT or replaces."""
    return config_class(
        **TEXT | more,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tokenizer_of(flavour: Flavour) -> PreTrainedTokenizerFast:
    """The words and numbers of `tiny`, with the special tokens of the flavour."""
    bos, eos, pad = flavour.ends
    chat = [token for token in ("<|im_start|>",) if eos == "<|im_end|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(str(_WORDS)),
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        extra_special_tokens=dict(flavour.tokens),
        clean_up_tokenization_spaces=False,
        model_max_length=TEXT["max_position_embeddings"],
    )
    tokenizer.add_tokens([*chat, *flavour.more], special_tokens=True)
    return tokenizer


def write(flavour: Flavour, model_class: type[PreTrainedModel], folder: Path, *, seed: int = 0) -> int:
    """Writes the flavour's checkpoint to `folder`; returns its number of parameters."""
    config, processor = flavour.make(tokenizer_of(flavour))
    processor.chat_template = flavour.template
    torch.manual_seed(seed)
    model = model_class(config)
    for parameter in model.parameters():  # Gemma's projector starts as zeros: no image would be seen
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    # The end of a turn is the template's; a flavour has nothing more to say about generation.
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return int(sum(p.numel() for p in model.parameters()))

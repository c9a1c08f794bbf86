"""Tiny flavours: real configuration and processor classes of a family, small sizes, random weights.

They are written as checkpoint folders, so that tests and runs without a GPU load them by the path that a real
checkpoint takes. `pretrain` makes them of the sizes in `families` and trains them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
CHATML_ENDS = (None, "<|im_end|>", "<|endoftext|>")
WORDS = Path(__file__).parent / "checkpoint" / "tokenizer.json"


@dataclass(frozen=True)
class Sizes:
    """How large a flavour is.

    Attributes:
        side: pixels a side of an image, where the family has a fixed size.
        patch: pixels a side of what the vision tower takes as one patch.
        patches: fewest and most patches of an image, where the family keeps an image's own size.
        width, ratio, depth: of the vision tower: its width, that of its MLP as a multiple, its layers.
        text: configuration of the language model.
    """

    side: int = 56
    patch: int = 14
    patches: tuple[int, int] = (4, 64)
    width: int = 48
    ratio: int = 2
    depth: int = 2
    text: Mapping[str, Any] = field(default_factory=lambda: dict(TEXT))

    @property
    def grid(self) -> int:
        """Patches a side of an image of `side` pixels."""
        return self.side // self.patch

    def vision(self) -> dict[str, Any]:
        """The vision tower, for the families whose configurations have these names."""
        return {
            "hidden_size": self.width,
            "intermediate_size": self.ratio * self.width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": 4,
            "image_size": self.side,
            "patch_size": self.patch,
        }


SMALL = Sizes()


@dataclass(frozen=True)
class Flavour:
    """A family's tiny flavour.

    Attributes:
        tokens: special tokens that the processor asks the tokenizer for, by attribute name.
        template: the chat template, in the shape of the family's own.
        ends: bos_token (or none), eos_token and pad_token.
        make: configuration and processor for a tokenizer and sizes.
        more: further special tokens.
        sizes: of the flavour with random weights.
    """

    tokens: Mapping[str, str]
    template: str
    ends: tuple[str | None, str, str]
    make: Callable[[Any, Sizes], tuple[Any, ProcessorMixin]]
    more: tuple[str, ...] = ()
    sizes: Sizes = SMALL


def chatml(image: str) -> str:
    """The ChatML template, with `image` where an image stands."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% for part in message['content'] %}"
        "{{ '" + image + "' if part['type'] == 'image' else part['text'] }}{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def text_config(
    config_class: type[Any], tokenizer: PreTrainedTokenizerFast, sizes: Sizes, **more: Any
) -> Any:
    """A text configuration of this class for this tokenizer; `more` adds to `sizes.text` or replaces."""
    return config_class(
        **dict(sizes.text) | more,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tokenizer_of(flavour: Flavour, words: Tokenizer | None = None) -> PreTrainedTokenizerFast:
    """`words`, by default the words and numbers of `tiny`, with the special tokens of the flavour."""
    bos, eos, pad = flavour.ends
    chat = [token for token in ("<|im_start|>",) if eos == "<|im_end|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words or Tokenizer.from_file(str(WORDS)),
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
    config, processor = flavour.make(tokenizer_of(flavour), flavour.sizes)
    processor.chat_template = flavour.template
    model = random_model(model_class, config, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return int(sum(p.numel() for p in model.parameters()))


def random_model(model_class: type[PreTrainedModel], config: Any, seed: int) -> PreTrainedModel:
    """A model with random weights, its generation ended and padded as its text configuration says."""
    torch.manual_seed(seed)
    model = model_class(config)
    for parameter in model.parameters():  # Gemma's projector starts as zeros: no image would be seen
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    # The end of a turn is the template's; a flavour has nothing more to say about generation.
    text = config.get_text_config()
    model.generation_config.eos_token_id = text.eos_token_id
    model.generation_config.pad_token_id = text.pad_token_id
    return model

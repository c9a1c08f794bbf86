"""The pretrained flavours: of each family the same width, depth and vocabulary, and 64 tokens of an image.

What differs is the family's own: LLaVA's tower takes patches of 14 pixels, one for each image token. The
others take four patches of 7 pixels for one (merged, shuffled or pooled), in a tower of half the width, as
their patches are four times as many.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from data_recipes.errors import UserError, unknown
from model_adapters.registry import family as family_of
from model_adapters.tiny.build import DEVIATION, MEAN, RESAMPLE, SIDE, WIDTH, build, save
from model_adapters.tiny.flavour import WORDS, Sizes, random_model, tokenizer_of
from model_adapters.tiny.numerals import highest, with_numbers
from model_adapters.tiny.words import corpus

SIZES = Sizes(
    side=SIDE,
    patch=7,
    patches=(256, 256),
    width=WIDTH // 2,
    ratio=4,
    depth=4,
    text={
        "hidden_size": WIDTH,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
    },
)
FAMILIES = ("llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "internvl")
# Words of the chat templates, and signs of the box notations.
_MORE = ("user", "assistant", "model", "),(", "[[", "]]", "box", ">[[", "]]</")


def make(name: str, folder: Path, seed: int) -> PreTrainedModel:
    """Writes the flavour that pretraining starts from, with random weights, to `folder`.

    Raises:
        UserError: no such family, or one that is not pretrained.
    """
    if name == "llava_onevision":
        raise UserError(
            "llava_onevision is not pretrained: it shows an image twice, so its tokens lie on no one grid; "
            f"choose one of {', '.join(FAMILIES)}"
        )
    if name not in FAMILIES:
        raise unknown("model family", name, FAMILIES)
    if name == "llava":  # `tiny`
        return build(folder, corpus(seed), seed=seed)
    kind = family_of(name)
    words = Tokenizer.from_file(str(WORDS))
    _, processor = kind.flavour.make(tokenizer_of(kind.flavour, words), SIZES)
    words = with_numbers(words, highest(kind.codec(processor)), _MORE)
    config, processor = kind.flavour.make(tokenizer_of(kind.flavour, words), SIZES)
    processor.chat_template = kind.flavour.template
    images = processor.image_processor  # the same grey levels for all
    images.image_mean, images.image_std, images.resample = [MEAN] * 3, [DEVIATION] * 3, RESAMPLE
    model = random_model(kind.model_class, config, seed)
    save(folder, model, processor)
    return model

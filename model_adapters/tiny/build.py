"""Builds `tiny` from nothing: its tokenizer, its configuration and its processor, as one checkpoint folder.

A LLaVA of under five million parameters: at 112 pixels its CLIP tower gives 8 x 8 image tokens, and the
tokenizer writes each number from 0.00 to 1.00, and each word of the project, as one token, so that entries
stay short.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import PIL.Image
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)

SPECIAL = ("<pad>", "<s>", "</s>", "<image>", "USER:", "ASSISTANT:")
NUMBERS = tuple(f"{hundredths / 100:.2f}" for hundredths in range(101))
# A number, the comma before a number, a word with the space before it, other signs, white space.
PIECES = r"[01]\.\d\d(?!\d)|, (?=[01]\.)| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SUBWORDS = 480  # special tokens, 256 bytes and learnt pairs, for words the vocabulary lacks
VOCABULARY = 1152
SIDE, PATCH, WIDTH = 112, 14, 192
MEAN, DEVIATION, RESAMPLE = 0.5, 0.25, PIL.Image.Resampling.BICUBIC.value

# One token opens each turn, and no white space stands around it: entries are short, every token counts.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ 'USER:' if message['role'] == 'user' else 'ASSISTANT:' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose vocabulary holds all numbers 0.00 ... 1.00 and the most frequent words of
    `texts`.

    Words and numbers are whole entries (`ignore_merges`), not ends of merge chains, which would fill the
    vocabulary with fragments. Anything else falls back on learnt pairs and single bytes, so no text is
    unknown.
    """
    texts = list(texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SUBWORDS,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)

    spec = json.loads(tokenizer.to_str())
    vocab: dict[str, int] = spec["model"]["vocab"]
    words = Counter(word for text in texts for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    for word in [*NUMBERS, *frequent]:
        if len(vocab) < VOCABULARY:
            vocab.setdefault(word, len(vocab))
    spec["model"]["ignore_merges"] = True
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="right",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def build_images() -> CLIPImageProcessor:
    """Square images to 112 pixels, one mean and deviation for grey."""
    return CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        image_mean=[MEAN] * 3,
        image_std=[DEVIATION] * 3,
        resample=RESAMPLE,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Tokenizer, image processor and chat template."""
    return LlavaProcessor(
        image_processor=build_images(),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT_TEMPLATE,
    )


def build_config(tokenizer: PreTrainedTokenizerFast) -> LlavaConfig:
    """Six vision layers, four text layers. The vision tower is the deeper one: it runs over 65 tokens an
    image, the language model over hundreds, so depth is cheap there."""
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_act="gelu",
        projection_dim=WIDTH,
    )
    ids = {key: tokenizer.convert_tokens_to_ids(f"<{name}>") for key, name in _SPECIAL_IDS.items()}
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        **ids,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
        **ids,
    )


_SPECIAL_IDS = {"pad_token_id": "pad", "bos_token_id": "s", "eos_token_id": "/s"}


def build(folder: Path, texts: Iterable[str], *, seed: int = 0) -> LlavaForConditionalGeneration:
    """Writes a checkpoint with random weights (float16) to `folder` and returns the model (float32)."""
    processor = build_processor(build_tokenizer(texts))
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(build_config(processor.tokenizer))
    for key in _SPECIAL_IDS:
        setattr(model.generation_config, key, getattr(model.config, key))
    save(folder, model, processor)
    return model


def save(folder: Path, model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """Writes weights in float16, configuration, tokenizer and processor, and leaves `model` as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    half = type(model)(model.config).to(torch.float16)
    half.load_state_dict(model.state_dict())
    half.generation_config = model.generation_config
    half.save_pretrained(folder)
    processor.save_pretrained(folder)

"""LLaVA: a CLIP vision tower, a two-layer projector and a language model (LLaVA-Med, HuatuoGPT-Vision,
`tiny`).

CLIP's own preprocessing crops the centre of an image and so moves boxes. LLaVA pads the image to a square
with the mean colour instead (`image_aspect_ratio: pad`); so does this adapter, whatever the checkpoint's
processor would do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import PIL.Image
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedModel

from data_recipes.errors import UserError
from data_recipes.records import Entry
from model_adapters.base import (
    BoxCodec,
    end_of_turn,
    first_line,
    load_native,
    mask_labels,
    pad_batch,
    written_entry,
)
from model_adapters.boxes import PaddedFractions


class Llava:
    """See `base.Adapter`."""

    family = "llava"
    lora_targets = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
    projector = r".*multi_modal_projector\.linear_\d"

    def __init__(self, name: str, folder: str, config: LlavaConfig, processor: LlavaProcessor) -> None:
        self.name, self.folder, self.processor = name, folder, processor
        self.codec: BoxCodec = PaddedFractions()
        self.side: int = config.vision_config.image_size
        self.image_id: int = config.image_token_id
        self.end_id = end_of_turn(processor.tokenizer, folder)
        pad_id = processor.tokenizer.pad_token_id
        self.pad_id: int = self.end_id if pad_id is None else pad_id
        self.generation: dict[str, Any] = {
            "do_sample": False,
            "eos_token_id": self.end_id,
            "pad_token_id": self.pad_id,
        }
        backend = type(processor.image_processor).__name__
        self.image_backend = "pil" if backend.endswith("Pil") else "torchvision"
        patches = (self.side // config.vision_config.patch_size) ** 2
        self._image_tokens = patches + (config.vision_feature_select_strategy == "full")
        self._background = tuple(round(255 * mean) for mean in processor.image_processor.image_mean)

    def load_model(self, *, dtype: torch.dtype) -> PreTrainedModel:
        return load_native(LlavaForConditionalGeneration, self.folder, dtype=dtype)

    def pixels(self, image: PIL.Image.Image) -> torch.Tensor:
        rgb = image.convert("RGB")
        if rgb.width != rgb.height:
            side = max(rgb.size)
            square = PIL.Image.new("RGB", (side, side), self._background)
            square.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
            rgb = square
        size = {"height": self.side, "width": self.side}
        batch = self.processor.image_processor(rgb, size=size, do_center_crop=False, return_tensors="pt")
        return cast(torch.Tensor, batch["pixel_values"][0])

    def encode(
        self,
        entry: Entry,
        image: PIL.Image.Image,
        *,
        with_target: bool,
        pixels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        prompt, target = written_entry(entry, self.codec, image.width, image.height)
        ids = self.prompt_ids(prompt)
        features = {"pixel_values": (self.pixels(image) if pixels is None else pixels)[None]}
        if with_target:
            full = self.conversation_ids(prompt, target)
            what = f"entry {entry.entry_id} with {self.name}"
            labels = mask_labels(ids, full, image_id=self.image_id, end_id=self.end_id, what=what)
            features["labels"] = torch.tensor(labels)
            ids = full
        features["input_ids"] = torch.tensor(ids)
        features["attention_mask"] = torch.ones_like(features["input_ids"])
        return features

    def collate(
        self, features: Sequence[Mapping[str, torch.Tensor]], *, padding_side: str
    ) -> dict[str, torch.Tensor]:
        return pad_batch(features, pad_id=self.pad_id, padding_side=padding_side)

    def decode(self, ids: torch.Tensor) -> str:
        return str(self.processor.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def prompt_ids(self, prompt: str) -> list[int]:
        """Ids of the user's turn, image first, up to where the answer starts."""
        return self._ids([_turn("user", prompt, image=True)], add_generation_prompt=True)

    def conversation_ids(self, prompt: str, target: str) -> list[int]:
        """Ids of both turns, to the end of turn; templates that write none after the last answer get one."""
        turns = [_turn("user", prompt, image=True), _turn("assistant", target)]
        ids = self._ids(turns, add_generation_prompt=False)
        return ids if self.end_id in ids[-3:] else [*ids, self.end_id]

    def _ids(self, turns: list[dict[str, Any]], *, add_generation_prompt: bool) -> list[int]:
        """As the processor's own `apply_chat_template(tokenize=True)`, without its image work."""
        text = self.processor.apply_chat_template(turns, add_generation_prompt=add_generation_prompt)
        text = text.replace(self.processor.image_token, self.processor.image_token * self._image_tokens)
        tokenizer = self.processor.tokenizer
        begins = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        return cast(list[int], tokenizer(text, add_special_tokens=not begins)["input_ids"])


def load(name: str, folder: str) -> Llava:
    """The adapter of a LLaVA checkpoint; reads its configuration and processor, not its weights.

    Raises:
        UserError: the processor is missing or unusable: no chat template, no image token, no end of turn.
    """
    try:
        config = LlavaConfig.from_pretrained(folder)
        processor = LlavaProcessor.from_pretrained(folder)
    except Exception as error:  # OSError, ValueError, KeyError, ...: whichever file is missing or broken
        raise UserError(f"cannot load the processor of model {name!r}: {first_line(error)}") from error
    if not processor.chat_template:
        raise UserError(f"model {name!r} ({folder}) has no chat template")
    token = processor.image_token
    if processor.tokenizer.convert_tokens_to_ids(token) != config.image_token_id:
        raise UserError(f"the tokenizer of model {name!r} has no {token} with the id of config.json")
    # Some checkpoints ship null here; the model's configuration is the authority.
    processor.patch_size = config.vision_config.patch_size
    processor.num_additional_image_tokens = 1  # CLIP's class token
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    return Llava(name, folder, config, processor)


def _turn(role: str, text: str, *, image: bool = False) -> dict[str, Any]:
    content: list[dict[str, str]] = [{"type": "image"}] if image else []
    return {"role": role, "content": [*content, {"type": "text", "text": text}]}

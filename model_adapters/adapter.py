"""One checkpoint as the rest of the project sees it: its prompts, its inputs and labels, its box notation.

The token sequence is the one that the checkpoint's own processor and chat template give for the same
conversation; the image work is taken out of it, so that an image with many entries is prepared once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import PIL.Image
import torch
from transformers import GenerationConfig, PreTrainedModel, ProcessorMixin

from data_recipes.errors import UserError
from data_recipes.records import Entry
from model_adapters import packing
from model_adapters.base import (
    BoxCodec,
    Family,
    Places,
    TooLongError,
    Vision,
    end_of_turn,
    first_line,
    join_vision,
    load_native,
    mask_labels,
    pad_batch,
    written_entry,
)

_COUNTS = ("num_patches", "num_crops")  # the processor counts tokens with them; no model reads them
_ANSWER = "the answer stands here"


class Adapter:
    """A checkpoint of a family: reads its configuration and processor at once, its weights on demand.

    Args:
        name: what the user asked for.
        folder: what `from_pretrained` reads, a folder or a hub id.

    Attributes:
        family: the name of the family, the model_type of config.json.
        processor: the checkpoint's own processor (tokenizer, image processor, chat template).
        codec: its box notation.
        lora_targets: regex (full match) of the linear layers of the language model that LoRA adapts.
        projector: regex (full match) of the linear layers between vision tower and language model.
        generation: arguments of `model.generate`: greedy, with the ids that end and pad a sequence.
        dtype: of the stored weights.
        image_id, end_id, pad_id: ids of image tokens, of the end of an answer, of padding.
        image_backend: the library that resizes images; backends differ by a grey level or two.

    Raises:
        UserError: the configuration, the processor or its chat template is missing or unusable.
    """

    def __init__(self, name: str, folder: str, family: Family) -> None:
        self.name, self.folder, self._family = name, folder, family
        self.family, self.lora_targets, self.projector = family.name, family.lora_targets, family.projector
        config, self.processor = _read(name, folder, family)
        self._config = config
        self.image_id: int = config.image_token_id
        self.dtype: torch.dtype = config.dtype or torch.float32
        tokenizer = self.processor.tokenizer
        self.codec: BoxCodec = family.codec(self.processor)
        self.image_backend = (
            "pil" if type(self.processor.image_processor).__name__.endswith("Pil") else "torchvision"
        )
        # A user's text that holds a special token would end a turn, or pass for an image.
        tokens = {*tokenizer.all_special_tokens, self.processor.image_token}
        self._special = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))
        tail = self._text([_turn("user", "", image=True), _turn("assistant", _ANSWER)]).rpartition(_ANSWER)[2]
        self.end_id = end_of_turn(tokenizer, tail, folder)
        self.pad_id: int = self.end_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.generation: dict[str, Any] = {
            "do_sample": False,
            "eos_token_id": _ends(folder, self.end_id, tokenizer.eos_token_id),
            "pad_token_id": self.pad_id,
        }

    def load_model(self, **options: Any) -> PreTrainedModel:
        """The model with all its weights; `options` (dtype, quantization_config) go to `from_pretrained`.

        Raises:
            UserError: weights are missing, left over, of another shape or unreadable.
        """
        return load_native(self._family.model_class, self.folder, **options)

    def see(self, image: PIL.Image.Image) -> Vision:
        """What the vision tower gets of an image. Depends on the image only: cache it freely."""
        return self._family.see(self.processor, self.frame(image))

    def frame(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """The image in RGB as the checkpoint's image processor has to get it, whoever runs that."""
        return self._family.frame(self.processor, image.convert("RGB"))

    def encode(
        self,
        entry: Entry,
        image: PIL.Image.Image,
        *,
        with_target: bool,
        vision: Vision | None = None,
        max_length: int | None = None,
    ) -> dict[str, torch.Tensor]:
        """One entry as model inputs: input_ids (L,), attention_mask (L,), what belongs to the image, and with
        the target also labels (L,), which are IGNORE on the prompt and on image tokens. `vision` saves the
        image work.

        Raises:
            TooLongError: L would be above `max_length`. Nothing is ever cut.
            UserError: the chat template does not let prompt and answer be told apart, the target is empty, or
                a text holds a special token of the model.
        """
        what = f"entry {entry.entry_id} with {self.name}"
        prompt, target = written_entry(entry, self.codec, image.width, image.height)
        if with_target and not target.strip():
            raise UserError(f"{what}: its target is empty, so no token of the answer is left to train on")
        self._refuse_special(entry, what)
        vision = self.see(image) if vision is None else vision
        ids = self.prompt_ids(prompt, vision)
        features = {key: value for key, value in vision.items() if key not in _COUNTS}
        if with_target:
            full = self.conversation_ids(prompt, target, vision)
            labels = mask_labels(ids, full, image_id=self.image_id, end_id=self.end_id, what=what)
            features["labels"] = torch.tensor(labels)
            ids = full
        if max_length is not None and len(ids) > max_length:
            shown = ids.count(self.image_id)
            raise TooLongError(
                f"{what}: its {len(ids)} tokens, {shown} of them the image's, are more than {max_length}, "
                "and a cut would take part of the image or of the answer"
            )
        features["input_ids"] = torch.tensor(ids)
        features["attention_mask"] = torch.ones_like(features["input_ids"])
        return self.typed(features)

    def collate(
        self, features: Sequence[Mapping[str, torch.Tensor]], *, padding_side: str
    ) -> dict[str, torch.Tensor]:
        """Encoded entries as one batch: what has a value per token padded to (B, L), the rest joined."""
        return pad_batch(features, pad_id=self.pad_id, padding_side=padding_side)

    def collate_shared(
        self, groups: Sequence[Sequence[Mapping[str, torch.Tensor]]], *, row_tokens: int | None = None
    ) -> dict[str, torch.Tensor]:
        """Encoded entries, grouped by image, as one batch in which each image stands once; see `packing`.
        With targets they are for training, without for generation.

        Args:
            row_tokens: pack several images into a row of up to so many tokens; by default a row each.

        Returns:
            input_ids, labels, owner, image (B, L), position_ids, and what belongs to the images. `owner` is
            the number of the entry, counted through all groups. Goes to the model by `with_mask`.
        """
        starts = accumulate(map(len, groups), initial=0)
        sequences = [self.share(group, first=first) for group, first in zip(groups, starts, strict=False)]
        rows = packing.fill(sequences, row_tokens or 0)
        return self.typed(
            packing.batch(rows, pad_id=self.pad_id) | join_vision([group[0] for group in groups])
        )

    def typed(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """`inputs` with what tells image tokens from text, where the model wants that."""
        name = self._family.type_ids
        return inputs | {name: (inputs["input_ids"] == self.image_id).long()} if name else inputs

    def share(self, group: Sequence[Mapping[str, torch.Tensor]], *, first: int = 0) -> packing.Shared:
        """Encoded entries of one image as one sequence; see `packing.share_entries`."""
        return packing.share_entries(group, image_id=self.image_id, positions=self.positions, first=first)

    def positions(self, feature: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Positions (L,) or (axes, L) of an encoded entry, as the model counts them."""
        return self._family.positions(self.processor, feature)

    def with_mask(
        self, batch: Mapping[str, torch.Tensor], model: Any, *, keys: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, Any]:
        """A batch of `collate_shared` with its attention_mask, on the batch's device; others as they are.
        `keys` as in `masks`."""
        if "owner" not in batch:
            return dict(batch)
        inputs: dict[str, Any] = {key: batch[key] for key in batch if key not in packing.LAYOUT}
        config = model.config
        kind = config.get_text_config()._attn_implementation
        form = functools.partial(packing.for_attention, kind, config.dtype)
        masks = self.masks(batch, keys=keys)
        inputs["attention_mask"] = (
            {name: form(mask) for name, mask in masks.items()} if isinstance(masks, dict) else form(masks)
        )
        return inputs

    def masks(
        self, batch: Mapping[str, torch.Tensor], *, keys: Mapping[str, torch.Tensor] | None = None
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Who sees whom (B, L, K) in a batch of `collate_shared`, query by key, for each kind of attention
        the language model has if it has several.

        Args:
            keys: what the batch goes on from, and the batch at the end of it; by default the batch.
        """
        keys = batch if keys is None else keys
        shown = packing.visible(batch["owner"], batch["image"], keys["owner"], keys["image"])
        queries, seen = (
            Places(one["position_ids"], (one["input_ids"] == self.image_id) * one["image"])
            for one in (batch, keys)
        )
        return self._family.masks(self._config, shown, queries, seen)

    def decode(self, ids: torch.Tensor) -> str:
        """Generated ids (L,) as text, without special tokens, stripped."""
        return str(self.processor.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def prompt_ids(self, prompt: str, vision: Vision) -> list[int]:
        """Ids of the user's turn, image first, up to where the answer starts."""
        return self._ids([_turn("user", prompt, image=True)], vision, add_generation_prompt=True)

    def placeholder_ids(self, entry: Entry, image: PIL.Image.Image) -> list[int]:
        """Ids of an entry's prompt with one token for the image, as an engine takes them that does the image
        work itself.

        Raises:
            UserError: a text holds a special token of the model.
        """
        prompt, _ = written_entry(entry, self.codec, image.width, image.height)
        self._refuse_special(entry, f"entry {entry.entry_id} with {self.name}")
        return self._tokens(self._text([_turn("user", prompt, image=True)], add_generation_prompt=True))

    def conversation_ids(self, prompt: str, target: str, vision: Vision) -> list[int]:
        """Ids of both turns, to the end of turn; templates that write none after the last answer get one."""
        turns = [_turn("user", prompt, image=True), _turn("assistant", target)]
        ids = self._ids(turns, vision)
        return ids if self.end_id in ids[-3:] else [*ids, self.end_id]

    def _text(self, turns: list[dict[str, Any]], **options: Any) -> str:
        """The conversation as the chat template writes it, with one image token.

        Raises:
            UserError: the template fails, or does not write one image token for one image.
        """
        try:
            text = str(self.processor.apply_chat_template(turns, **options))
        except Exception as error:  # jinja2 and transformers raise many kinds
            raise UserError(f"the chat template of model {self.name!r} fails: {first_line(error)}") from error
        if (count := text.count(self.processor.image_token)) != 1:
            raise UserError(
                f"the chat template of model {self.name!r} writes {count} image tokens for one image"
            )
        return text

    def _ids(self, turns: list[dict[str, Any]], vision: Vision, **options: Any) -> list[int]:
        """As the processor's own `apply_chat_template(tokenize=True)`, with the image work done before."""
        shown = self.processor.replace_image_token(vision, 0)
        return self._tokens(self._text(turns, **options).replace(self.processor.image_token, shown))

    def _tokens(self, text: str) -> list[int]:
        """A conversation as ids; its template may have begun the sequence already."""
        tokenizer = self.processor.tokenizer
        begins = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        return cast(list[int], tokenizer(text, add_special_tokens=not begins)["input_ids"])

    def _refuse_special(self, entry: Entry, what: str) -> None:
        for text in (entry.prompt, entry.target):
            if found := self._special.search(text):
                raise UserError(f"{what}: its text holds {found.group()!r}, a special token of the model")


def _read(name: str, folder: str, family: Family) -> tuple[Any, ProcessorMixin]:
    try:
        config = family.config_class.from_pretrained(folder)
        processor = family.processor_class.from_pretrained(folder)
    except Exception as error:  # OSError, ValueError, KeyError, ...: whichever file is missing or broken
        raise UserError(f"cannot load the processor of model {name!r}: {first_line(error)}") from error
    if not processor.chat_template:
        raise UserError(f"model {name!r} has no chat template (chat_template.jinja)")
    family.repair(config, processor)
    known = set(processor.image_token_ids) & set(processor.tokenizer.added_tokens_decoder)
    if config.image_token_id not in known:
        raise UserError(
            f"the tokenizer of model {name!r} has no image token with the id of config.json "
            f"({config.image_token_id})"
        )
    return config, processor


def _ends(folder: str, *ids: int | None) -> list[int]:
    """The end of a turn, and whatever else the checkpoint says ends a sequence."""
    try:
        own = GenerationConfig.from_pretrained(folder).eos_token_id
    except (OSError, ValueError):
        own = None
    return sorted({i for i in (*ids, *(own if isinstance(own, list) else [own])) if i is not None})


def _turn(role: str, text: str, *, image: bool = False) -> dict[str, Any]:
    content: list[dict[str, str]] = [{"type": "image"}] if image else []
    return {"role": role, "content": [*content, {"type": "text", "text": text}]}

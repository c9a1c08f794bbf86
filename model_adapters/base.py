"""What every model family offers to the rest of the project, and the few steps that all families share.

A family is one module with `load(name, folder) -> Adapter` and one line in `registry.FAMILIES`. Families
share the functions below, not a base class, so that each adapter reads from top to bottom.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import PIL.Image
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from data_recipes.errors import UserError
from data_recipes.records import Box, Entry, fill_slots

IGNORE = -100  # a label the cross entropy of torch leaves out


class BoxCodec(Protocol):
    """Boxes (xyxy fractions of the original image) to and from the notation of a model."""

    def write(self, box: Box, width: int, height: int) -> str:
        """The box as text, for an image of `width` x `height` pixels."""
        ...

    def read(self, text: str, width: int, height: int) -> tuple[str, tuple[Box, ...]]:
        """`text` with each box replaced by `{box}`, and the boxes in order. What is no valid box stays
        text."""
        ...

    def resolution(self, width: int, height: int) -> tuple[float, float]:
        """Largest error of `read(write(box))` in x and in y, as fractions of the original image."""
        ...


class Adapter(Protocol):
    """One checkpoint of one family: its processor, its prompts, its box notation and how to load it.

    Attributes:
        name: what the user asked for.
        family: the model_type of its config.json.
        folder: what `from_pretrained` reads, a folder or a hub id.
        processor: the checkpoint's own processor (tokenizer, image processor, chat template).
        codec: its box notation.
        lora_targets: regex (full match) of the linear layers of the language model that LoRA adapts.
        projector: regex (full match) of the linear layers between vision tower and language model.
        generation: arguments of `model.generate`: greedy, with the ids that end and pad a sequence.
        image_backend: the library that resizes images; backends differ by a grey level or two.
    """

    name: str
    family: str
    folder: str
    processor: ProcessorMixin
    codec: BoxCodec
    lora_targets: str
    projector: str
    generation: dict[str, Any]
    image_backend: str

    def load_model(self, *, dtype: torch.dtype) -> PreTrainedModel:
        """The model with all its weights.

        Raises:
            UserError: weights are missing, left over, of another shape or unreadable.
        """
        ...

    def pixels(self, image: PIL.Image.Image) -> torch.Tensor:
        """What the vision tower sees of an image: (3, H, W) float32. Depends on the image only: cache it
        freely."""
        ...

    def encode(
        self,
        entry: Entry,
        image: PIL.Image.Image,
        *,
        with_target: bool,
        pixels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """One entry as model inputs: input_ids (L,), attention_mask (L,), pixel_values (1, 3, H, W), and with
        the target also labels (L,), which are IGNORE on the prompt and on image tokens. `pixels` saves the
        image work.

        Raises:
            UserError: the chat template does not let prompt and answer be told apart, or the target is empty.
        """
        ...

    def collate(
        self, features: Sequence[Mapping[str, torch.Tensor]], *, padding_side: str
    ) -> dict[str, torch.Tensor]:
        """Encoded entries as one batch: ids, mask and labels padded to (B, L), pixel_values (B, 3, H, W)."""
        ...

    def decode(self, ids: torch.Tensor) -> str:
        """Generated ids (L,) as text, without special tokens, stripped."""
        ...


def written_entry(entry: Entry, codec: BoxCodec, width: int, height: int) -> tuple[str, str]:
    """Prompt and target of an entry with its boxes in the notation of the model.

    Raises:
        ValueError: the numbers of slots and boxes differ.
    """
    prompt = fill_slots(entry.prompt, [codec.write(box, width, height) for box in entry.prompt_boxes])
    target = fill_slots(entry.target, [codec.write(box, width, height) for box in entry.target_boxes])
    return prompt, target


def mask_labels(
    prompt: Sequence[int], full: Sequence[int], *, image_id: int, end_id: int, what: str
) -> list[int]:
    """Labels of the full conversation: the answer and its end of turn; the rest is IGNORE.

    Assistant masks of chat templates come out all zero beside images in several versions of transformers, so
    the answer is what follows the encoded prompt.

    Raises:
        UserError: the prompt is no prefix of the conversation, the answer is empty or holds no end of turn.
    """
    start = len(prompt)
    if list(full[:start]) != list(prompt):
        raise UserError(f"{what}: the conversation does not start with the prompt, so no answer can be found")
    answer = [IGNORE if token == image_id else token for token in full[start:]]
    if not any(token not in (IGNORE, end_id) for token in answer):
        raise UserError(f"{what}: no token of the answer is left to train on")
    if end_id not in answer:
        raise UserError(f"{what}: the answer has no end of turn (id {end_id}), so the model would never stop")
    return [IGNORE] * start + answer


def pad_batch(
    features: Sequence[Mapping[str, torch.Tensor]], *, pad_id: int, padding_side: str
) -> dict[str, torch.Tensor]:
    """Stacks input_ids, attention_mask and labels, padded to the longest, and concatenates pixel_values."""
    assert padding_side in ("left", "right"), padding_side
    fill = {"input_ids": pad_id, "attention_mask": 0, "labels": IGNORE}
    batch: dict[str, torch.Tensor] = {}
    for key in (key for key in fill if key in features[0]):
        batch[key] = torch.nn.utils.rnn.pad_sequence(
            [feature[key] for feature in features],
            batch_first=True,
            padding_value=fill[key],
            padding_side=padding_side,
        )
    batch["pixel_values"] = torch.cat([feature["pixel_values"] for feature in features])
    return batch


def load_native(model_class: type[PreTrainedModel], folder: str, *, dtype: torch.dtype) -> PreTrainedModel:
    """`model_class.from_pretrained`, from safetensors, without remote code, and only when every weight fits.

    A class that does not match the checkpoint would otherwise give a partly random model with no more than a
    warning.

    Raises:
        UserError: weights are missing, left over, of another shape or unreadable.
    """
    try:
        model, info = model_class.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, use_safetensors=True, trust_remote_code=False
        )
    except Exception as error:  # OSError, SafetensorError, RuntimeError: one meaning for the user
        logging.getLogger(__name__).debug("loading %s", folder, exc_info=True)
        raise UserError(f"cannot load the weights of {folder}: {first_line(error)}") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(map(str, info[kind])):
            name = model_class.__name__
            raise UserError(
                f"the weights of {folder} do not fit {name}: {len(keys)} {kind.replace('_', ' ')}, "
                f"the first is {keys[0]}"
            )
    return model


def end_of_turn(tokenizer: PreTrainedTokenizerBase, folder: str) -> int:
    """The id that ends an answer.

    Raises:
        UserError: the tokenizer names none.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of {folder} has no eos_token")
    return int(tokenizer.eos_token_id)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for errors of one line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]

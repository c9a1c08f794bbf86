"""What model families share: the two protocols, and the few steps from an entry to model inputs.

A family is one file with one `Family` (what is its own) and one line in `registry.FAMILIES`;
`adapter.Adapter` is the same for all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import PIL.Image
import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from data_recipes.errors import UserError
from data_recipes.records import Box, Entry, fill_slots
from model_adapters.tiny.flavour import Flavour

IGNORE = -100  # a label the cross entropy of torch leaves out
# Anchored: the bare names also hit the attention of vision towers.
LANGUAGE_MODEL = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"

# What a vision tower gets of one image, and what its processor counts with.
Vision = Mapping[str, torch.Tensor]


class TooLongError(UserError):
    """An entry has more tokens than its model or its user allows."""


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


def see_whole(processor: ProcessorMixin, image: PIL.Image.Image) -> Vision:
    """The image as the checkpoint's own image processor gives it."""
    return dict(processor.image_processor(images=[image], return_tensors="pt"))


class Places(NamedTuple):
    """Where the tokens of a batch of shared sequences stand: positions (B, L) or (axes, B, L), and which
    image of its row a token is of (B, L), 0 for text."""

    positions: torch.Tensor
    pictured: torch.Tensor


def as_it_is(processor: ProcessorMixin, image: PIL.Image.Image) -> PIL.Image.Image:
    """The image."""
    return image


def seen(config: Any, visible: torch.Tensor, queries: Places, keys: Places) -> torch.Tensor:
    """The mask of language models with plain causal attention."""
    return visible


def in_order(processor: ProcessorMixin, feature: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Positions (L,) of language models that count tokens."""
    return torch.arange(len(feature["input_ids"]))


def leave(config: Any, processor: ProcessorMixin) -> None:
    """Nothing to repair."""


@dataclass(frozen=True)
class Family:
    """What one model family has of its own.

    Attributes:
        name: the model_type of its config.json.
        model_class, config_class, processor_class: native classes of transformers.
        projector: regex (full match) of the linear layers between vision tower and language model.
        codec: the box notation, given the checkpoint's processor.
        flavour: its tiny configuration, see `tiny.flavours`.
        frame: an RGB image as the image processor has to get it, where that would cut it.
        see: what the vision tower gets of such an image. Shows all of it, or boxes would not be true.
        repair: fills in what published processors leave out, or set so that boxes are harmed.
        type_ids: the input that is 1 on image tokens and 0 elsewhere, where the model wants one.
        lora_targets: regex (full match) of the linear layers of the language model.
        positions: positions (L,) or (axes, L) of an encoded entry, as the model itself would count them.
        masks: for shared sequences, who sees whom (B, L, K), query by key, by what the language model calls
            its kinds of attention if it has several. Given the configuration, what causal attention shows
            (B, L, K), and where queries and keys stand.
    """

    name: str
    model_class: type[PreTrainedModel]
    config_class: type[Any]
    processor_class: type[ProcessorMixin]
    projector: str
    codec: Callable[[ProcessorMixin], BoxCodec]
    flavour: Flavour
    frame: Callable[[ProcessorMixin, PIL.Image.Image], PIL.Image.Image] = field(default=as_it_is)
    see: Callable[[ProcessorMixin, PIL.Image.Image], Vision] = field(default=see_whole)
    repair: Callable[[Any, ProcessorMixin], None] = field(default=leave)
    type_ids: str | None = None
    lora_targets: str = LANGUAGE_MODEL
    positions: Callable[[ProcessorMixin, Mapping[str, torch.Tensor]], torch.Tensor] = field(default=in_order)
    masks: Callable[[Any, torch.Tensor, Places, Places], torch.Tensor | dict[str, torch.Tensor]] = field(
        default=seen
    )


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
    """Labels of the full conversation: the answer and its end of turn; the rest is IGNORE, what a template
    writes after the end of turn (a new line) too.

    Assistant masks of chat templates come out all zero beside images in several versions of transformers, so
    the answer is what follows the encoded prompt.

    Raises:
        UserError: the prompt is no prefix of the conversation, the answer is empty or holds no end of turn.
    """
    start = len(prompt)
    if list(full[:start]) != list(prompt):
        raise UserError(f"{what}: the conversation does not start with the prompt, so no answer can be found")
    answer = [IGNORE if token == image_id else token for token in full[start:]]
    if end_id not in answer:
        raise UserError(f"{what}: the answer has no end of turn (id {end_id}), so the model would never stop")
    stop = answer.index(end_id)
    if not any(token != IGNORE for token in answer[:stop]):
        raise UserError(f"{what}: no token of the answer is left to train on")
    return [IGNORE] * start + answer[: stop + 1] + [IGNORE] * (len(answer) - stop - 1)


def pad_batch(
    features: Sequence[Mapping[str, torch.Tensor]], *, pad_id: int, padding_side: str
) -> dict[str, torch.Tensor]:
    """Pads what has a value per token, to (B, L), and concatenates what belongs to images: their patches or
    tiles, one image after the other."""
    assert padding_side in ("left", "right"), padding_side
    fill = {"input_ids": pad_id, "attention_mask": 0, "labels": IGNORE}
    batch = join_vision(features)
    for key in features[0].keys() - batch.keys():
        batch[key] = torch.nn.utils.rnn.pad_sequence(
            [feature[key] for feature in features],
            batch_first=True,
            padding_value=fill.get(key, 0),
            padding_side=padding_side,
        )
    return batch


def join_vision(features: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What belongs to the images of encoded entries, one image after the other."""
    length = len(features[0]["input_ids"])
    keys = [key for key, value in features[0].items() if value.ndim != 1 or len(value) != length]
    return {key: torch.cat(_even([feature[key] for feature in features])) for key in keys}


def _even(values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors of one shape but for dimension 0: images (1, tiles, 3, H, W) of fewer tiles get empty ones."""
    most = max(value.shape[1] for value in values) if values[0].ndim == 5 else 0
    return [
        torch.cat([value, value.new_zeros(1, most - value.shape[1], *value.shape[2:])], dim=1)
        if value.ndim == 5 and value.shape[1] < most
        else value
        for value in values
    ]


def load_native(model_class: type[PreTrainedModel], folder: str, **options: Any) -> PreTrainedModel:
    """`model_class.from_pretrained`, from safetensors, without remote code, and only when every weight fits.

    A class that does not match the checkpoint would otherwise give a partly random model with no more than a
    warning.

    Args:
        options: for `from_pretrained`, such as dtype or quantization_config.

    Raises:
        UserError: weights are missing, left over, of another shape or unreadable.
    """
    if Path(folder).is_dir():
        _refuse_broken(Path(folder))
    try:
        model, info = model_class.from_pretrained(
            folder,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # reported below, with names
            **options,
        )
    except Exception as error:  # OSError, SafetensorError, RuntimeError: one meaning for the user
        logging.getLogger(__name__).debug("loading %s", folder, exc_info=True)
        raise UserError(f"cannot load the weights of {folder}: {first_line(error)}") from error
    wrong = {kind: sorted(info[f"{kind}_keys"]) for kind in ("missing", "unexpected", "mismatched")}
    if any(wrong.values()):
        raise UserError(
            f"the weights of {folder} do not fit {model_class.__name__}: "
            + "; ".join(_counted(kind, keys) for kind, keys in wrong.items() if keys)
        )
    return model


def _refuse_broken(folder: Path) -> None:
    """Looks at the files before a model is made of the good ones among them.

    Raises:
        UserError: a file of weights is cut short or no safetensors, or there are pickled ones only.
    """
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        try:
            with safe_open(file, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot load the weights in {file}: {first_line(error)}") from error
    if not files and (pickled := sorted((*folder.glob("*.bin"), *folder.glob("*.pt*")))):
        raise UserError(
            f"cannot load the weights of {folder}: {pickled[0].name} is pickled, which could run code when "
            "read; save them as safetensors"
        )


def _counted(kind: str, keys: Sequence[Any]) -> str:
    """ "2 missing keys, the first is x"; a mismatched key comes with both shapes."""
    first = keys[0]
    if not isinstance(first, str):
        name, stored, wanted = first
        first = f"{name}, {tuple(stored)} instead of {tuple(wanted)}"
    return f"{len(keys)} {kind} key{'s' * (len(keys) > 1)}, the first is {first}"


def end_of_turn(tokenizer: PreTrainedTokenizerBase, tail: str, folder: str) -> int:
    """The id that ends an answer: the first special token that the chat template writes after it (`tail`), or
    the tokenizer's eos_token if it writes none.

    Raises:
        UserError: there is neither.
    """
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= set(tokenizer.all_special_ids)
    for token in tokenizer(tail, add_special_tokens=False)["input_ids"]:
        if token in special:
            return int(token)
    if tokenizer.eos_token_id is None:
        raise UserError(f"the chat template of {folder} ends no turn, and its tokenizer has no eos_token")
    return int(tokenizer.eos_token_id)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for errors of one line; all of it where that one only opens a
    list."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join(" ".join(lines).split()) if lines[0].rstrip().endswith(":") else lines[0]

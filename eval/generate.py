"""Generation: a model answers every entry of a split, into a file that grows line by line.

Greedy, in batches of one task and similar length, so that short answers don't wait for reports. Killed and
started again it goes on where it was: whole lines stay, a half-written last one is dropped, nothing is asked
twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import PIL.Image
import torch
from peft import PeftModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PreTrainedModel

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image, Mixture, fill_slots
from data_recipes.store import open_image
from data_recipes.tasks import TASKS
from eval.predictions import drop_half_line, prediction, read_own
from eval.runs import read_json, write_json
from model_adapters.adapter import Adapter
from model_adapters.base import Vision

Pair = tuple[Image, Entry]
GREY = 128


def load_model(
    adapter: Adapter, adapter_folder: Path | None, *, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """The model ready to generate: the base, with the run's LoRA weights merged in. `dtype` is by default
    float32 on a CPU, else bfloat16.

    Raises:
        UserError: the weights are missing or unusable.
    """
    on_gpu = torch.cuda.is_available()
    model = adapter.load_model(dtype=dtype or (torch.bfloat16 if on_gpu else torch.float32))
    if adapter_folder is not None:
        if not (adapter_folder / "adapter_config.json").is_file():
            raise UserError(
                f"{adapter_folder} holds no trained adapter: did the run end? `imax train` goes on with it"
            )
        try:
            merged = PeftModel.from_pretrained(model, adapter_folder).merge_and_unload()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(f"{adapter_folder}: can't load: {str(error).splitlines()[0]}") from error
        model = cast(PreTrainedModel, merged)
    return cast(PreTrainedModel, model.to("cuda" if on_gpu else "cpu").eval())


def predict(
    model: PreTrainedModel,
    adapter: Adapter,
    folder: Path,
    pairs: Sequence[Pair],
    out: Path,
    *,
    max_new_tokens: Mapping[str, int],
    batch_size: int = 64,
    blank: bool = False,
    fingerprint: str = "",
    progress: bool = True,
) -> None:
    """Answers `pairs` (of the mixture in `folder`) into `out`, going on from what `out` already holds.

    Args:
        max_new_tokens: longest output by task, in tokens. blank: show a plain grey image in place of each
        entry's own. fingerprint: what else the outputs depend on, such as the hash of the weights. Kept
        beside `out`; outputs with another fingerprint are of no use and are started again.

    Raises:
        UserError: an image cannot be opened.
    """
    _claim(out, fingerprint)
    done = read_own(out) if out.exists() else {}
    todo = [pair for pair in pairs if pair[1].entry_id not in done]
    batches = make_batches(todo, batch_size)
    seen = _Seen(adapter, folder, blank=blank)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with bar if progress and todo else nullcontext(), out.open("a", encoding="utf-8") as file:
        line = bar.add_task("blind" if blank else "predict", total=len(todo), rate="")
        for batch in batches:
            outputs = answer(model, adapter, seen, batch, max_new_tokens[batch[0][1].task])
            for (image, entry), output in zip(batch, outputs, strict=True):
                row = prediction(entry, image, output, adapter.codec)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            rate = f"{bar.tasks[0].speed or 0:.0f} entries/s"
            bar.update(line, advance=len(batch), rate=rate)


def make_batches(pairs: Sequence[Pair], batch_size: int) -> list[list[Pair]]:
    """Batches of one task each, in which prompts of similar length stand together; the longest tasks come
    last."""
    batches = []
    for task in sorted(TASKS, key=lambda task: task == "report"):
        chosen = sorted(
            (p for p in pairs if p[1].task == task), key=lambda p: (len(p[1].prompt), p[1].entry_id)
        )
        batches += [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
    return batches


@torch.inference_mode()
def answer(
    model: PreTrainedModel, adapter: Adapter, seen: _Seen, batch: Sequence[Pair], max_new_tokens: int
) -> list[str]:
    """The greedy outputs for one batch, of at most `max_new_tokens` tokens each."""
    features = [seen.encode(image, entry) for image, entry in batch]
    inputs = {
        key: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for key, value in adapter.collate(features, padding_side="left").items()
    }
    generated = model.generate(**inputs, max_new_tokens=max_new_tokens, **adapter.generation)
    return [adapter.decode(ids) for ids in generated[:, inputs["input_ids"].shape[1] :].cpu()]


class _Seen:
    """Encodes entries; the image work is done once an image, or once a size for blank images."""

    def __init__(self, adapter: Adapter, folder: Path, *, blank: bool) -> None:
        self.adapter, self.folder, self.blank = adapter, folder, blank
        self.seen: dict[str, tuple[PIL.Image.Image, Vision]] = {}

    def encode(self, image: Image, entry: Entry) -> dict[str, torch.Tensor]:
        key = f"{image.width}x{image.height}" if self.blank else image.image_id
        if key not in self.seen:
            if len(self.seen) >= 4096:
                self.seen.clear()
            picture = grey(image) if self.blank else open_image(self.folder, image)
            # What the model sees is kept, the picture only as far as its size goes.
            self.seen[key] = (PIL.Image.new("1", picture.size), self.adapter.see(picture))
        picture, vision = self.seen[key]
        return self.adapter.encode(entry, picture, with_target=False, vision=vision)


def grey(image: Image) -> PIL.Image.Image:
    """A plain grey image of the same size."""
    return PIL.Image.new("L", (image.width, image.height), GREY)


def token_limits(adapter: Adapter, mixture: Mixture, *, sample: int = 200) -> dict[str, int]:
    """Longest output by task: half as long again as the longest of a sample of training targets, and a few
    more tokens; targets of another split are looked at where a task has no training entries."""
    tokenizer = adapter.processor.tokenizer
    images = mixture.image_by_id()
    limits = {}
    for task in TASKS:
        entries = [entry for entry in mixture.entries if entry.task == task]
        train = [entry for entry in entries if images[entry.image_id].split == "train"]
        entries = train or entries
        texts = [
            _target(adapter, entry, images[entry.image_id])
            for entry in entries[:: len(entries) // sample + 1]
        ]
        longest = max((len(ids) for ids in tokenizer(texts)["input_ids"]), default=0) if texts else 0
        limits[task] = longest * 3 // 2 + 8
    return limits


def _target(adapter: Adapter, entry: Entry, image: Image) -> str:
    boxes = [adapter.codec.write(box, image.width, image.height) for box in entry.target_boxes]
    return fill_slots(entry.target, boxes)


def blind_pairs(pairs: Iterable[Pair], *, limit: int) -> dict[str, Pair]:
    """What a model that sees only grey has to be asked: without the image the greedy output depends on the
    prompt, its boxes and the image's size alone, so one entry stands for all that share them. entry_id -> the
    pair that stands for it, for at most `limit` different prompts a task."""
    first: dict[tuple[object, ...], Pair] = {}
    asked = dict.fromkeys(TASKS, 0)
    standing = {}
    for image, entry in pairs:
        key = (entry.task, entry.prompt, entry.prompt_boxes, image.width, image.height)
        if key not in first and asked[entry.task] < limit:
            first[key] = (image, entry)
            asked[entry.task] += 1
        if key in first:
            standing[entry.entry_id] = first[key]
    return standing


def fingerprint(*parts: str, files: Iterable[Path] = ()) -> str:
    """A hash of texts and of the contents of files."""
    digest = hashlib.sha256(json.dumps(parts).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _claim(out: Path, fingerprint: str) -> None:
    """Makes `out` ours to go on with: whole lines of the same fingerprint, or nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    mark = out.with_suffix(".meta.json")
    if not mark.exists() or read_json(mark).get("fingerprint") != fingerprint:
        if out.exists():  # outputs of something else: set aside, not lost
            out.replace(out.with_suffix(".old.jsonl"))
        write_json(mark, {"fingerprint": fingerprint})
    drop_half_line(out)

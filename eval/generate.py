"""Generation: a model answers every entry of a split, into a file that can be gone on with after a kill.

Greedy, image by image with all its questions (`prefix`), several images in a batch, shared out over the
processes that accelerate started (`team`), written line by line (`outputs`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from eval.backends import BATCH_SIZES, BATCH_TOKENS, Asked, Backend, Transformers
from eval.outputs import Outputs
from eval.predictions import BoxNotation, prediction
from eval.team import Team
from model_adapters.adapter import Adapter

Pair = tuple[Image, Entry]
GREY = 128
ROW_ENTRIES = 16  # more questions about an image (a blank one has hundreds) are cheaper in several rows
ALONE = Team()


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


def write_merged(
    adapter: Adapter, adapter_folder: Path | None, folder: Path, *, dtype: torch.dtype
) -> PreTrainedModel:
    """Writes an ordinary checkpoint of the base with the run's LoRA weights folded in, the sum taken in
    float32; returns the model.

    Raises:
        UserError: as `load_model`.
    """
    model = load_model(adapter, adapter_folder, dtype=torch.float32).to(dtype)
    model.save_pretrained(folder)
    adapter.processor.save_pretrained(folder)
    return model


def make_backend(
    name: str, adapter: Adapter, adapter_folder: Path | None, *, batch_tokens: int | None = None
) -> Backend:
    """One of `backends.BATCH_SIZES` with the base, or with the run's LoRA weights in it.

    Raises:
        UserError: as `load_model`.
    """
    if name == "vllm":
        from eval.vllm_backend import Vllm

        return Vllm(adapter, adapter_folder)
    model = load_model(adapter, adapter_folder)
    return Transformers(model, adapter, batch_tokens=batch_tokens or BATCH_TOKENS)


def predict(
    backend: Callable[[], Backend],
    codec: BoxNotation,
    folder: Path,
    pairs: Sequence[Pair],
    out: Path,
    *,
    max_new_tokens: Mapping[str, int],
    batch_size: int = BATCH_SIZES["transformers"],
    blank: bool = False,
    fingerprint: str = "",
    progress: bool = True,
    team: Team = ALONE,
) -> None:
    """Answers `pairs` (of the mixture in `folder`) into `out`, in their order, going on from what was written
    before.

    Args:
        backend: makes what answers; not called if all is answered. codec: writes and reads its boxes.
        max_new_tokens: longest output by task, in tokens. batch_size: entries handed over at a time.
        blank: show a plain grey image in place of each entry's own. fingerprint: see `Outputs`.
        team: the processes that share the images; each calls this.

    Raises:
        UserError: an image cannot be opened.
    """
    outputs = Outputs(out, fingerprint, (entry.entry_id for _, entry in pairs), team)
    rows = make_rows([pair for pair in pairs if pair[1].entry_id not in outputs.done], blank=blank)
    rows = rows[team.rank :: team.size]
    bar = progress_bar()
    with bar if progress and team.leads and rows else nullcontext(), outputs:
        what = ("blind" if blank else "predict") + f", 1 of {team.size} processes" * (team.size > 1)
        line = bar.add_task(what, total=sum(map(len, rows)), rate="")
        answer = backend() if rows else None
        for batch in make_batches(rows, batch_size):
            assert answer is not None
            asked = [
                Asked(_picture(folder, row[0][0], blank=blank), [entry for _, entry in row]) for row in batch
            ]
            flat = [pair for row in batch for pair in row]
            for number, output in answer(asked, [max_new_tokens[entry.task] for _, entry in flat]):
                image, entry = flat[number]
                outputs.add(prediction(entry, image, output, codec))
                bar.update(line, advance=1, rate=f"{bar.tasks[0].speed or 0:.1f} entries/s")


def progress_bar() -> Progress:
    """A bar with the number done, a field `rate` and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )


def make_rows(pairs: Iterable[Pair], *, blank: bool = False) -> list[list[Pair]]:
    """The questions of each image, those of more than ROW_ENTRIES in several rows; blank images are one for
    each size. Rows of similar length stand together."""
    of_image: dict[object, list[Pair]] = {}
    for pair in pairs:
        image = pair[0]
        of_image.setdefault((image.width, image.height) if blank else image.image_id, []).append(pair)
    rows = [
        all_of[first : first + ROW_ENTRIES]
        for all_of in of_image.values()
        for first in range(0, len(all_of), ROW_ENTRIES)
    ]
    return sorted(rows, key=lambda row: (row[0][0].width * row[0][0].height, len(row), row[0][1].entry_id))


def make_batches(rows: Iterable[list[Pair]], batch_size: int) -> Iterator[list[list[Pair]]]:
    """Rows in batches of at most `batch_size` entries; a row that is longer alone is cut."""
    batch: list[list[Pair]] = []
    used = 0
    for whole in rows:
        for row in (whole[first : first + batch_size] for first in range(0, len(whole), batch_size)):
            if used + len(row) > batch_size:
                yield batch
                batch, used = [], 0
            batch.append(row)
            used += len(row)
    if batch:
        yield batch


def _picture(folder: Path, image: Image, *, blank: bool) -> PIL.Image.Image:
    return grey(image) if blank else open_image(folder, image)


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

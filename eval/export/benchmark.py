"""What an export holds whatever its format: one split of a mixture, prompts in canonical box notation, rows
that carry an entry there and back, and what a model must be told about the form of an answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.pixels import safe_name
from data_recipes.recipe import mixture_folder
from data_recipes.records import SPLITS, Box, Entry, Image, Mixture, fill_slots
from data_recipes.scene import EDEMA_GRADES
from data_recipes.store import open_image, read_mixture
from data_recipes.tasks import TASKS
from data_recipes.tasks.findings import NONE
from eval.answers import truth_of
from eval.predictions import CanonicalBoxes
from eval.scores import held_out_hash, spread

Pair = tuple[Image, Entry]

BOXES = (
    "Boxes are written as [x1, y1, x2, y2]: left, top, right and bottom edge as fractions of the image's "
    "width and height, from 0 to 1 with three decimals."
)
# The form of answer that each task's `parse` reads. `findings` names its labels, see `instructions_for`.
FORMS = {
    "calculation": "Answer with the ratio as a number with two decimals.",
    "report": "Answer with the findings section of the report only, in sentences.",
    "severity": "Answer with one of: "
    + "; ".join(f"grade {grade}, {name}" for grade, name in enumerate(EDEMA_GRADES))
    + ".",
    "findings": f"Answer with labels separated by commas, or with {NONE!r}. The labels are: {{labels}}.",
    "rec": "Answer with the box only; where there are several, with all of them.",
    "reg": "Answer with a short phrase.",
    "vqa": "Answer with yes, no, a number or a few words.",
}
# Room for an answer; models that were not trained on the form need more than the target's length.
MAX_NEW_TOKENS = {task: 512 if task == "report" else 128 for task in TASKS}


@dataclass(frozen=True)
class Benchmark:
    """One split of a mixture, ready to be exported. `instructions` holds a sentence or two for each task, or
    "" each."""

    name: str
    folder: Path
    mixture: Mixture
    split: str
    pairs: tuple[Pair, ...]
    instructions: Mapping[str, str]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that occur, in the order of TASKS."""
        present = {entry.task for _, entry in self.pairs}
        return tuple(task for task in TASKS if task in present)

    @property
    def images(self) -> tuple[Image, ...]:
        return tuple({image.image_id: image for image, _ in self.pairs}.values())

    @property
    def facts(self) -> dict[str, Any]:
        """What tells this benchmark from others, in JSON."""
        return {
            "mixture": self.mixture.meta.get("name"),
            "mixture_hash": self.mixture.meta.get("mixture_hash"),
            "split": self.split,
            "test_hash": held_out_hash(entry for _, entry in self.pairs),
            "license": self.mixture.meta.get("license", "other"),
        }

    def of_task(self, task: str) -> list[Pair]:
        return [pair for pair in self.pairs if pair[1].task == task]


def read_benchmark(
    mixture: str,
    *,
    split: str = "test",
    limit: int | None = None,
    instructions: bool = True,
    progress: bool = True,
) -> Benchmark:
    """The split of a mixture that is to be exported; see `export`.

    Raises:
        UserError: no such mixture or split, the split is empty, or images have no pixels.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: it is one of {', '.join(SPLITS)}")
    folder = mixture_folder(mixture, progress=progress)
    content = read_mixture(folder)
    pairs = tuple(spread(list(content.of_split(split)), limit))
    if not pairs:
        raise UserError(f"{folder}: the {split} split has no entries")
    if bare := sum(not image.path for image in {image.image_id: image for image, _ in pairs}.values()):
        raise UserError(
            f"{folder}: {bare} images of the {split} split have no pixels, so there is nothing to show a "
            "model: build the mixture with --pixels copy or link"
        )
    name = _name(str(content.meta.get("name") or folder.name), split)
    texts = instructions_for(content, pairs) if instructions else dict.fromkeys(TASKS, "")
    return Benchmark(name, folder, content, split, pairs, texts)


def _name(mixture: str, split: str) -> str:
    """A name that is a Python identifier, whatever the mixture is called; "_bench" keeps it from being the
    name of a task that the other harness has already."""
    slug = re.sub(r"[^a-z0-9]+", "_", mixture.lower()).strip("_")
    slug = slug if slug[:1].isalpha() else f"imax_{slug}".strip("_")
    return f"{slug}_bench" + (f"_{split}" if split != "test" else "")


def instructions_for(mixture: Mixture, pairs: Iterable[Pair]) -> dict[str, str]:
    """What a prompt of each task ends with: the form of its answer, and the notation of boxes where the
    task's prompts or targets hold some. The labels of `findings` are those of the whole mixture, so that they
    do not give the split's truth away."""
    labels = {label for e in mixture.entries if e.task == "findings" for label in truth_of(e)}
    with_boxes = {entry.task for _, entry in pairs if entry.boxes}
    return {
        task: f"{BOXES} {form}" if task in with_boxes else form
        for task, form in ((t, f.replace("{labels}", ", ".join(sorted(labels)))) for t, f in FORMS.items())
    }


def to_row(image: Image, entry: Entry) -> dict[str, Any]:
    """An entry with what scoring needs of its image, as plain JSON. `question` and `answer` are for models
    and people, boxes written out in canonical notation; `prompt`, `target` and `boxes` restore the entry."""
    codec = CanonicalBoxes()

    def filled(text: str, boxes: tuple[Box, ...]) -> str:
        return fill_slots(text, [codec.write(box, image.width, image.height) for box in boxes])

    return {
        "entry_id": entry.entry_id,
        "image_id": image.image_id,
        "patient_id": image.patient_id,
        "task": entry.task,
        "question": filled(entry.prompt, entry.prompt_boxes),
        "answer": filled(entry.target, entry.target_boxes),
        "image_file": image_file(image),
        "width": image.width,
        "height": image.height,
        "prompt": entry.prompt,
        "target": entry.target,
        "boxes": [list(box.xyxy) for box in entry.boxes],
        "provenance": entry.provenance,
    }


def from_row(row: Mapping[str, Any]) -> Pair:
    """Inverse of `to_row`, as far as scoring goes: split, source and view of the image are not carried.

    Raises:
        KeyError, ValueError: `row` was not written by `to_row`.
    """
    image = Image(
        row["image_id"], row["patient_id"], "test", "", row["image_file"], row["width"], row["height"], ""
    )
    boxes = tuple(Box(*box) for box in row["boxes"])
    entry = Entry(
        row["entry_id"], row["image_id"], row["task"], row["prompt"], row["target"], boxes, row["provenance"]
    )
    return image, entry


def image_file(image: Image) -> str:
    """The name of the image's PNG file in an export."""
    return f"{safe_name(image.image_id)}.png"


def write_images(benchmark: Benchmark, folder: Path) -> None:
    """Each image once, as the 8-bit grey PNG that this project's own models see.

    Raises:
        UserError: an image cannot be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for image in benchmark.images:
        open_image(benchmark.folder, image).save(folder / image_file(image))


def readme(benchmark: Benchmark, how_to: str) -> str:
    """The README of an export; `how_to` is the part that differs between formats."""
    facts = benchmark.facts
    counts = Counter(entry.task for _, entry in benchmark.pairs)
    patients = len({image.patient_id for image, _ in benchmark.pairs})
    asked = "".join(
        f"- `{task}` ({counts[task]}): {benchmark.instructions[task] or 'nothing is added to the prompt'}\n"
        for task in benchmark.tasks
    )
    note = (
        "Images and texts stay under the terms of the sources they come from: pass this folder on only where "
        "those terms allow it."
    )
    return (
        f"# {benchmark.name}\n\n"
        f"The {benchmark.split} split of mixture `{facts['mixture']}`: {len(benchmark.pairs)} entries about "
        f"{len(benchmark.images)} images of {patients} patients, exported by imax-harness.\n\n"
        f"- mixture hash `{facts['mixture_hash']}`\n"
        f"- test hash `{facts['test_hash']}` (entries with prompts, targets and boxes; `imax eval` writes it "
        "into `scores.json`)\n"
        f"- licence: {facts['license']}. {note}\n\n"
        f"{how_to.strip()}\n\n"
        "## Prompts and answers\n\n"
        "Outputs are read and scored by imax-harness itself. An answer that cannot be read counts as wrong. "
        "Boxes in prompts and answers are `[x1, y1, x2, y2]` in fractions of the image. What each task's "
        f"prompts end with (entries in brackets):\n\n{asked}"
    )

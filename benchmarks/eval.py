"""How many questions a second are answered: an image encoded once for all its questions, which are decoded
together, against the same model answering one question at a time, and against lmms-eval.

    python -m benchmarks.eval [--runs 5] [--images 16]

Two models: LLaVA's shape at 336 pixels (576 image tokens) with few and narrow layers and random weights, and
the default `tiny` (64 image tokens). The questions are those of neighbouring test images of the phantom's
IMAX mixture, about 7.46 an image; each answer may be as long as its target. Greedy, float32, and all outputs
must be the same. Each contender gets the open image and the question's text; loading is not timed.

    ours                 eval.backends.Transformers
    one at a time        model.generate on each question; the image work on pixels is done once an image
    batched              model.generate on 64 questions of similar length, padded at the left
    lmms-eval            its backend for LLaVA checkpoints of transformers, `llava_hf`, from chat messages

Needs lmms-eval and decord, which it imports: pip install -e '.[benchmarks]'.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch

from benchmarks.alternating import alternate, conclude, ratio, show
from benchmarks.shapes import SHAPES, shape, typical
from data_recipes.recipe import mixture_folder
from data_recipes.records import Entry
from data_recipes.store import open_image, read_mixture
from eval.backends import Asked, Transformers
from harness import be_quiet
from model_adapters.adapter import Adapter
from model_adapters.base import written_entry

OURS, ALONE, BATCHED, LMMS = "ours", "one at a time", "batched", "lmms-eval"
BATCH = 64


class Bench:
    """One model, and the questions about some images with the longest answer of each."""

    def __init__(self, adapter: Adapter, asked: Sequence[Asked]) -> None:
        self.adapter, self.asked = adapter, asked
        self.model = adapter.load_model(dtype=torch.float32).eval()
        self.questions = [(one.picture, entry) for one in asked for entry in one.entries]
        targets = [self._written(picture, entry)[1] for picture, entry in self.questions]
        tokenized = adapter.processor.tokenizer(targets, add_special_tokens=False)["input_ids"]
        self.limits = [len(ids) + 1 for ids in tokenized]  # with the end of the turn

    def _written(self, picture: PIL.Image.Image, entry: Entry) -> tuple[str, str]:
        return written_entry(entry, self.adapter.codec, picture.width, picture.height)

    def ours(self) -> list[str]:
        outputs = dict(Transformers(self.model, self.adapter)(self.asked, self.limits))
        return [outputs[number] for number in range(len(self.questions))]

    def alone(self) -> list[str]:
        return [
            output
            for feature, limit in zip(self._encoded(), self.limits, strict=True)
            for output in self._generate([feature], [limit])
        ]

    def batched(self) -> list[str]:
        features = self._encoded()
        order = sorted(range(len(features)), key=lambda n: (self.limits[n], len(features[n]["input_ids"])))
        outputs: dict[int, str] = {}
        for numbers in chunks(order):
            answers = self._generate([features[n] for n in numbers], [self.limits[n] for n in numbers])
            outputs |= dict(zip(numbers, answers, strict=True))
        return [outputs[number] for number in range(len(features))]

    def _encoded(self) -> list[dict[str, torch.Tensor]]:
        features = []
        for picture, entries in self.asked:
            vision = self.adapter.see(picture)
            features += [self.adapter.encode(e, picture, with_target=False, vision=vision) for e in entries]
        return features

    def _generate(self, features: Sequence[dict[str, torch.Tensor]], limits: Sequence[int]) -> list[str]:
        inputs = self.adapter.collate(features, padding_side="left")
        ids = self.model.generate(**inputs, max_new_tokens=max(limits), **self.adapter.generation)
        answers = ids[:, inputs["input_ids"].shape[1] :]
        return [self.adapter.decode(one[:limit]) for one, limit in zip(answers, limits, strict=True)]

    def lmms_eval(self) -> Callable[[], list[str]]:
        """lmms-eval's own way from its requests to texts."""
        from lmms_eval.api.instance import Instance
        from lmms_eval.models.chat.llava_hf import LlavaHf

        theirs = LlavaHf(pretrained=self.adapter.folder, device="cpu", device_map="cpu", dtype="float32")
        theirs.task_dict["phantom"] = {"test": self.questions}

        def messages(question: tuple[PIL.Image.Image, Entry]) -> list[dict[str, Any]]:
            picture, entry = question
            text = {"type": "text", "text": self._written(picture, entry)[0]}
            return [{"role": "user", "content": [{"type": "image", "url": picture.convert("RGB")}, text]}]

        def run() -> list[str]:
            requests = [
                Instance(
                    request_type="generate_until",
                    arguments=("", messages, {"max_new_tokens": limit}, number, "phantom", "test"),
                    idx=0,
                    metadata={"task": "phantom", "doc_id": number, "repeats": 1},
                )
                for number, limit in enumerate(self.limits)
            ]
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                return [result.text.strip() for result in theirs.generate_until(requests)]

        return run


def chunks(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[first : first + BATCH] for first in range(0, len(numbers), BATCH)]


def compare(bench: Bench, name: str, runs: int) -> dict[str, float]:
    """Times the contenders on one shape, once their outputs are the same."""
    works = {OURS: bench.ours, ALONE: bench.alone, BATCHED: bench.batched}
    if importlib.util.find_spec("lmms_eval"):
        works[LMMS] = bench.lmms_eval()
    else:
        print("lmms-eval is not installed, so it is left out: pip install -e '.[benchmarks]'")
    outputs = {contender: work() for contender, work in works.items()}
    for contender, theirs in outputs.items():
        different = sum(a != b for a, b in zip(outputs[OURS], theirs, strict=True))
        if different:
            raise SystemExit(f"{name}: {different} of {len(theirs)} outputs of {contender} are not ours")
    spent = alternate(works, runs)
    print(
        f"\n{name}: {len(bench.questions)} questions about {len(bench.asked)} images, answers of "
        f"{statistics.mean(bench.limits):.1f} tokens on average and {max(bench.limits)} at most; all outputs "
        f"are the same, {len(set(outputs[OURS]))} of them different from each other"
    )
    show(spent, dict.fromkeys(works, len(bench.questions)), "questions")
    found = {}
    for peer in works.keys() - {OURS}:
        wall = statistics.median(spent[peer].wall) / statistics.median(spent[OURS].wall)
        found[f"{name}: ours over {peer}"] = round(wall, 2)
        found[f"{name}: ours over {peer}, by processor time"] = ratio(spent[peer], spent[OURS])
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each contender, alternating")
    parser.add_argument("--images", type=int, default=16, help="test images, with all their questions")
    asked = parser.parse_args()
    be_quiet()
    folder = mixture_folder("imax")
    mixture = read_mixture(folder)
    kept = typical(mixture, asked.images, split="test")
    entries: dict[str, list[Entry]] = {image.image_id: [] for image in kept}
    for entry in mixture.entries:
        if entry.image_id in entries:
            entries[entry.image_id].append(entry)
    questions = [Asked(open_image(folder, image), entries[image.image_id]) for image in kept]
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in SHAPES:
            ratios |= compare(Bench(shape(name, Path(scratch) / name), questions), name, asked.runs)
    targets = {f"{SHAPES[0]}: ours over {peer}": ">= 4" for peer in (ALONE, LMMS)}
    a_image = sum(map(len, entries.values())) / len(kept)
    conclude("eval", ratios, targets, n=asked.runs, questions_an_image=round(a_image, 2))


if __name__ == "__main__":
    main()

"""Trivial baselines: what can be had without looking at the image. Each knows the training entries and the
prompts of the test entries, nothing else; each is scored with the metrics of its task on the same test
entries."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from data_recipes.records import Box
from data_recipes.tasks import task
from data_recipes.tasks.calculation import TOLERANCE, Ratio
from eval.answers import Answer
from eval.metrics import FloatArray, rouge_l
from eval.tasks import metrics

Guess = Callable[[Sequence[Answer]], Any]  # training answers -> the answer to give
Key = Callable[[Answer], Hashable]
# Training and test answers -> the test answers with guesses; several times where chance plays a part.
Baseline = Callable[[Sequence[Answer], Sequence[Answer]], Iterator[list[Answer]]]

_SEED = 0
_SAMPLE = 60  # candidates and references of a medoid: 3,600 comparisons, a second or two
_DRAWS = 20  # of a random baseline, whose score is the mean


def baselines(train: Sequence[Answer], test: Sequence[Answer]) -> dict[str, dict[str, float]]:
    """Headline of every trivial baseline: {task: {baseline: value}}, for the tasks that both sets hold."""
    found = {}
    for name, recipes in BASELINES.items():
        seen = [answer for answer in train if answer.entry.task == name]
        asked = [answer for answer in test if answer.entry.task == name]
        if seen and asked:
            headline = metrics(name, asked)[0]
            found[name] = {
                label: float(np.mean([headline.value(guessed) for guessed in baseline(seen, asked)]))
                for label, baseline in recipes.items()
            }
    return found


def best(values: Mapping[str, float]) -> str:
    """The name of the highest baseline; of equal ones the first."""
    return max(values, key=lambda name: values[name])


def everything(answer: Answer) -> None:
    """The key that all answers share."""


def lookup(guess: Guess, *keys: Key) -> Baseline:
    """Answers each test entry with `guess` of the training answers that share the first key they know: the
    finest key first, all training answers last."""

    def predict(train: Sequence[Answer], test: Sequence[Answer]) -> Iterator[list[Answer]]:
        tables: list[tuple[Key, dict[Hashable, Any]]] = []
        for key in (*keys, everything):
            groups: dict[Hashable, list[Answer]] = defaultdict(list)
            for answer in train:
                groups[key(answer)].append(answer)
            tables.append((key, {name: guess(group) for name, group in groups.items()}))
        yield [
            replace(
                answer, predicted=next(table[key(answer)] for key, table in tables if key(answer) in table)
            )
            for answer in test
        ]

    return predict


def at_random(train: Sequence[Answer], test: Sequence[Answer]) -> Iterator[list[Answer]]:
    """Answers drawn from the training answers: each as often as it is frequent."""
    rng = np.random.default_rng(_SEED)
    for _ in range(_DRAWS):
        drawn = rng.integers(len(train), size=len(test))
        yield [replace(answer, predicted=train[i].truth) for answer, i in zip(test, drawn, strict=True)]


def kind(answer: Answer) -> str:
    return answer.entry.kind


def subject(answer: Answer) -> str:
    """What the prompt asks about, whatever template asks: the phrase, the question."""
    for pattern in _patterns(answer.entry.task):
        if found := pattern.fullmatch(answer.entry.prompt):
            return found.group(1)
    return answer.entry.prompt


@lru_cache
def _patterns(task_name: str) -> list[re.Pattern[str]]:
    """Patterns of the task's templates with one slot other than a box, the most specific first."""
    templates = [template for group in task(task_name).PROMPTS.values() for template in group]
    slots = [re.split(r"\{(?!box\})\w+\}", template) for template in templates]
    parts = sorted((part for part in slots if len(part) == 2), key=lambda part: -len("".join(part)))
    return [re.compile("(.+)".join(map(re.escape, part)), re.DOTALL) for part in parts]


def most_frequent(answers: Sequence[Answer]) -> Any:
    return Counter(answer.truth for answer in answers).most_common(1)[0][0]


def mean_ratio(answers: Sequence[Answer]) -> Ratio:
    return Ratio("", float(np.mean([answer.truth.value for answer in answers])))


def median_ratio(answers: Sequence[Answer]) -> Ratio:
    return Ratio("", float(np.median([answer.truth.value for answer in answers])))


def safest_ratio(answers: Sequence[Answer]) -> Ratio:
    """The constant that is within the tolerance of most training ratios: the hardest constant to beat."""
    values = np.array([answer.truth.value for answer in answers])
    candidates = np.arange(0, 2.005, 0.01)
    near = np.abs(candidates[:, None] - values[None, :]) <= TOLERANCE + 1e-9
    best_ones = near.sum(axis=1) == near.sum(axis=1).max()
    return Ratio("", float(candidates[best_ones].mean()))


def medoid(answers: Sequence[Answer]) -> Any:
    """The training text with the highest mean ROUGE-L to others; both sides are samples."""
    rng = np.random.default_rng(_SEED)
    texts = [answers[i].truth for i in rng.permutation(len(answers))[: 2 * _SAMPLE]]
    frequent = [text for text, _ in Counter(answer.truth for answer in answers).most_common(5)]
    candidates = list(dict.fromkeys([*frequent, *texts[:_SAMPLE]]))
    references = texts[_SAMPLE:] or texts
    return max(candidates, key=lambda text: float(np.mean([rouge_l(truth, text) for truth in references])))


def best_label_set(answers: Sequence[Answer]) -> frozenset[str]:
    """The constant set of labels with the highest micro-F1 on the training answers. For any size the most
    frequent labels are best, so only the size is searched."""
    frequency = Counter(label for answer in answers for label in answer.truth)
    ranked = [label for label, _ in frequency.most_common()]
    hits = np.cumsum([0, *(frequency[label] for label in ranked)])
    sizes = np.arange(len(ranked) + 1)
    f1 = 2 * hits / np.maximum(1, sizes * len(answers) + frequency.total())
    return frozenset(ranked[: int(np.argmax(f1))])


def mean_boxes(answers: Sequence[Answer]) -> tuple[Box, ...]:
    """Mean boxes, from left to right, of the answers with the most frequent number of boxes."""
    return tuple(Box(*map(float, box)) for box in _aligned(answers).mean(axis=0).clip(0, 1))


def median_boxes(answers: Sequence[Answer]) -> tuple[Box, ...]:
    """As `mean_boxes`, with the median of each side (a median of x1 < x2 keeps the order)."""
    return tuple(Box(*map(float, box)) for box in np.median(_aligned(answers), axis=0))


def _aligned(answers: Sequence[Answer]) -> FloatArray:
    """(answers, boxes, 4), of the answers with the most frequent number of boxes, sorted from left to
    right."""
    count = Counter(len(answer.truth) for answer in answers).most_common(1)[0][0]
    return np.array([sorted(box.xyxy for box in a.truth) for a in answers if len(a.truth) == count])


# The blind model, which costs a pass of generation, is added by `eval.evaluation`.
BASELINES: dict[str, dict[str, Baseline]] = {
    "calculation": {
        "train_mean": lookup(mean_ratio, kind),
        "train_median": lookup(median_ratio, kind),
        "safest_constant": lookup(safest_ratio, kind),
    },
    "report": {"most_typical": lookup(medoid), "most_frequent": lookup(most_frequent)},
    "severity": {"majority": lookup(most_frequent), "random_by_frequency": at_random},
    "findings": {"best_constant_set": lookup(best_label_set), "most_frequent": lookup(most_frequent)},
    "rec": {
        "mean_box": lookup(mean_boxes),
        "mean_box_of_phrase": lookup(mean_boxes, subject),
        "median_box_of_phrase": lookup(median_boxes, subject),
    },
    "reg": {"most_typical": lookup(medoid), "most_frequent": lookup(most_frequent)},
    "vqa": {
        "most_frequent": lookup(most_frequent),
        "most_frequent_of_question": lookup(most_frequent, subject, kind),
    },
}

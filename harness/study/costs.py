"""What a run was fed and what it cost, by the files of its folder; of a staged run summed over its stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from data_recipes.errors import UserError
from data_recipes.recipe import mixture_folder
from data_recipes.store import read_mixture
from harness.runs import RunFolder
from harness.study.state import read_record


@dataclass(frozen=True)
class Costs:
    """None where the files do not say.

    Attributes:
        images, entries: of the training data, each counted once.
        drawn: entries that training drew, over all epochs and stages.
        tokens_fed: tokens of the entries drawn, each in a sequence of its own.
        tokens_computed: tokens that went through the model in training; fewer, where entries share their
            image. Those of annotation are not counted.
        steps: of the optimizer.
        trainable: parameters.
        train_seconds, annotation_seconds: wall clock, wherever it was done: a stage taken from the cache
            counts as if trained.
        full_seconds: both, which is what the run costs on its own.
        seconds, processor_seconds: of all steps of the run as this study ran it; what a killed attempt took
            is not known.
        killed: attempts of which nothing is known.
        commits: of the code that made the run, and each of its stages.
    """

    images: int | None
    entries: int | None
    drawn: int | None
    tokens_fed: float
    tokens_computed: float
    steps: int
    trainable: int | None
    train_seconds: float
    annotation_seconds: float
    full_seconds: float
    seconds: float
    processor_seconds: float
    killed: int
    commits: tuple[str | None, ...]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]


class Data(NamedTuple):
    """Ids of training images and entries, and the entries' tasks."""

    images: frozenset[str]
    entries: Mapping[str, tuple[str, str]]


def costs(folder: Path) -> Costs:
    """Of the finished run in a folder.

    Raises:
        UserError: it holds no run.
    """
    stages = sorted(path for path in (folder / "stages").glob("*") if (path / "run.yaml").is_file())
    parts = [RunFolder(path) for path in stages or [folder]]
    run = RunFolder(folder)
    data = [_data(part.settings()) for part in parts]
    known = [one for one in data if one]
    whole = len(known) == len(data)
    logs = [part.log() for part in parts]
    attempts = read_record(folder).get("attempts", [])
    drawn = [_drawn(part, one) for part, one in zip(parts, data, strict=True)]
    facts = run.provenance()
    trained = sum(float(part.provenance().get("wall_seconds") or 0) for part in parts)
    annotated = sum(float(stage.get("annotation_seconds") or 0) for stage in facts.get("stages", []))
    return Costs(
        images=len(frozenset().union(*(one.images for one in known))) if whole else None,
        entries=len({entry for one in known for entry in one.entries}) if whole else None,
        drawn=round(sum(one or 0 for one in drawn)) if None not in drawn else None,
        tokens_fed=_sum(logs, "tokens_unshared"),
        tokens_computed=_sum(logs, "tokens"),
        steps=sum(_steps(part) for part in parts),
        trainable=facts.get("parameters", {}).get("trainable"),
        train_seconds=trained,
        annotation_seconds=annotated,
        full_seconds=trained + annotated,
        seconds=sum(one.get("seconds") or 0 for one in attempts),
        processor_seconds=sum(one.get("processor_seconds") or 0 for one in attempts),
        killed=sum(one.get("seconds") is None for one in attempts),
        commits=tuple(dict.fromkeys(one.provenance().get("commit") for one in (run, *parts))),
        settings=run.settings(),
        provenance=facts,
    )


def _sum(logs: Sequence[Sequence[Mapping[str, Any]]], key: str) -> float:
    return sum(float(line.get(key, 0)) for log in logs for line in log)


def _steps(run: RunFolder) -> int:
    sessions = run.provenance().get("sessions") or [{}]
    return int(sessions[-1].get("to_step", 0))


def _data(settings: Mapping[str, Any]) -> Data | None:
    """What a run trained on, with what was mixed in; None where a mixture is gone."""
    try:
        found = _read(str(settings.get("mixture")))
        for name in settings.get("mix") or ():
            more = _read(str(mixture_folder(name, progress=False)))
            found = Data(found.images | more.images, {**found.entries, **more.entries})
    except UserError:
        return None
    tasks = settings.get("tasks")
    if not tasks:
        return found
    entries = {name: one for name, one in found.entries.items() if one[1] in tasks}
    return Data(frozenset(image for image, _ in entries.values()), entries)


@lru_cache(maxsize=64)
def _read(folder: str) -> Data:
    pairs = list(read_mixture(Path(folder)).of_split("train"))
    return Data(
        frozenset(image.image_id for image, _ in pairs),
        {entry.entry_id: (entry.image_id, entry.task) for _, entry in pairs},
    )


def _drawn(run: RunFolder, data: Data | None) -> float | None:
    """Entries that training drew: its steps as a share of those of an epoch, times the entries."""
    if data is None or not data.entries:
        return None
    said = run.settings()
    images = said.get("batching") == "image"
    # What is left to TrainingArguments' defaults is not written down.
    samples = said.get("per_device_train_batch_size", 8) * said.get("gradient_accumulation_steps", 1)
    samples *= run.provenance().get("world_size") or 1
    epoch = math.ceil((len(data.images) if images else len(data.entries)) / samples)
    return float(_steps(run) / epoch * len(data.entries))

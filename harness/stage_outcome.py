"""What the stages of a run leave in the folder of the whole: one log, one series of measurements, one
adapter, the facts of each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_recipes.records import Mixture
from data_recipes.store import read_meta
from data_recipes.tables import write_text
from harness import provenance
from harness.config import Settings
from harness.processes import say
from harness.runs import RunFolder
from harness.stage_plan import Planned
from taco_probe.dynamics import measurement

# Of the last stage's provenance, what also holds for the whole.
_SHARED = ("parameters", "image_backend", "attention")


def join(whole: RunFolder, done: Sequence[Planned], total: int, settings: Settings) -> None:
    """Takes the log and the measurements of the stages that are done into the folder of the whole."""
    join_logs(whole, done)
    folder = whole.path / measurement.FOLDER
    there = measurement.steps(folder)
    for one in done:
        for step in measurement.steps(one.folder / measurement.FOLDER):
            if one.before + step in there:
                continue
            found = measurement.read(one.folder / measurement.FOLDER, step)
            lora = measurement.read_lora(one.folder / measurement.FOLDER, step)
            own = {"step": one.before + step, "max_steps": total, "recipe": settings.data.recipe}
            named = {"stage": one.stage.name, "stage_step": step}
            measurement.write(replace(found, lora=lora, facts={**found.facts, **own, **named}), folder)


def join_logs(whole: RunFolder, done: Sequence[Planned]) -> None:
    """Writes train.jsonl of the whole: the stages' lines in order, `step` counted through."""
    lines = []
    for one in done:
        for line in RunFolder(one.folder).log():
            own = {"step": one.before + line["step"], "stage": one.stage.name, "stage_step": line["step"]}
            lines.append(json.dumps({**own, **{key: line[key] for key in line if key != "step"}}))
    if lines:
        write_text("".join(f"{line}\n" for line in lines), whole.log_file)


def facts(one: Planned, known: Mapping[str, Any], source: Mixture) -> dict[str, Any]:
    """What provenance.json of the whole says about a finished stage.

    Args:
        known: what it said before; the seconds of annotation are nowhere else.
        source: the mixture that the stage names.
    """
    run = RunFolder(one.folder)
    own, annotated = run.provenance(), {}
    if one.stage.annotate:
        meta = read_meta(one.made)
        annotated = {
            "annotated": source.meta.get("name"),
            "annotated_hash": source.meta.get("mixture_hash"),
            "annotation": one.stage.annotate.model_dump(exclude={"mixture"}),
            "annotation_seconds": known.get("annotation_seconds", 0.0),
            "counts": meta.get("counts", {}).get("train"),
        }
    settings = run.settings()
    return {
        "name": one.stage.name,
        "folder": f"{one.folder.parent.name}/{one.folder.name}",
        "mixture": settings["mixture"],
        "mixture_hash": (read_meta(one.made) if one.stage.annotate else source.meta)["mixture_hash"],
        **annotated,
        **{key: own[key] for key in ("mix",) if key in own},
        "start": settings.get("start"),
        "start_hash": own.get("start_hash"),
        "adapter_hash": provenance.hash_weights(str(run.adapter)),
        "steps": one.steps,
        "learning_rate": one.learning_rate,
        "from_cache": own.get("from_cache"),
        **{key: own.get(key) for key in ("started", "finished", "wall_seconds")},
    }


def seconds(stages: Iterable[Mapping[str, Any]]) -> float:
    """What stages took, training and annotation, wherever they were done."""
    return sum((s.get("wall_seconds") or 0.0) + (s.get("annotation_seconds") or 0.0) for s in stages)


def last_facts(one: Planned) -> dict[str, Any]:
    """What the last stage says that holds for the whole run."""
    own = RunFolder(one.folder).provenance()
    return {key: own[key] for key in _SHARED if key in own}


def copy_adapter(adapter: Path, whole: Path) -> None:
    """Makes adapter/ of the whole that of a stage, whole or not at all."""
    partial = whole / "adapter.partial"
    for old in (partial, whole / "adapter"):  # of a run killed right here
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(adapter, partial)
    partial.replace(whole / "adapter")


def summarise(whole: RunFolder) -> None:
    """Prints a line for each stage, where things are, and what to do next."""
    ends = {line["stage"]: line for line in whole.log()}
    for number, stage in enumerate(whole.provenance()["stages"], start=1):
        parts = [f"{stage['steps']} steps in {stage['wall_seconds'] or 0:.0f} s"]
        if "annotation_seconds" in stage:
            parts.append(f"annotation in {stage['annotation_seconds']:.0f} s")
        if stage["from_cache"]:
            parts.append("from the cache")
        if end := ends.get(stage["name"]):
            parts.append(f"last loss {end['loss']:.4f}")
        say(f"  {number} {stage['name']}: {', '.join(parts)}")
    say(f"  weights: {whole.adapter}   log: {whole.log_file}\n  next: imax eval {whole.path}")

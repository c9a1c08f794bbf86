"""What was held equal between arms, what came out, and warnings where arms differ in what should be equal."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from data_recipes.errors import UserError
from data_recipes.store import read_meta
from harness.config import presets
from harness.study.arms import DENSITY, MAIN, TRANSFER, Arm
from harness.study.results import Result, Results

CLOSE = 0.01  # relative difference up to which a matched quantity counts as equal
COLUMNS = (
    "images", "entries", "drawn", "tokens_fed", "tokens_computed", "steps", "trainable", "train_seconds",
    "annotation_seconds", "full_seconds", "seconds", "processor_seconds",
)  # fmt: skip

# What each rule holds equal, as a column of the table, and in words.
_HELD = {"entries": "entries", "images": "images", "steps": "drawn", "tokens": "tokens_fed"}
_WORDS = {
    "entries": "training entries", "images": "training images", "drawn": "entries drawn",
    "tokens_fed": "tokens fed",
}  # fmt: skip

# Settings in which arms differ by design, or that do not touch the numbers.
_FREE = frozenset({
    "recipe", "recipe_hash", "seed", "output_dir", "mixture", "mixture_hash", "mix", "mix_hashes", "model",
    "model_hash", "tasks", "stages", "stage_cache", "start", "start_hash", "dynamics_mixture", "image_cache",
    "batching", "sharing", "num_train_epochs",
})  # fmt: skip
_OF_BATCHING = ("per_device_train_batch_size", "gradient_accumulation_steps")
_BLOCKS = {MAIN: "", DENSITY: " (density)", TRANSFER: " (transfer)"}


@dataclass(frozen=True)
class Row:
    """An arm with a model: means over its finished runs. `matched` says what was held equal to what."""

    arm: str
    label: str
    model: str
    runs: int
    matched: str
    values: Mapping[str, float | None]


def rows(results: Results) -> list[Row]:
    """A row for each arm and model with a finished run."""
    return [
        Row(
            arm.name,
            arm.label,
            model.name,
            len(found),
            f"{arm.match[0]}, to {arm.match[1]}" if arm.match else "",
            {name: _mean([getattr(one.costs, name) for one in found]) for name in COLUMNS},
        )
        for arm in results.plan.arms
        for model in results.plan.study.models
        if (found := results.of(arm.name, model.name))
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def warnings(results: Results, table: Sequence[Row]) -> list[str]:
    """Where arms differ in what should be equal, in words."""
    found = []
    by = {(row.arm, row.model): row for row in table}
    for model in (one.name for one in results.plan.study.models):
        arms = [arm for arm in results.plan.arms if (arm.name, model) in by]
        for arm in arms:
            found += _unmatched(arm, arms, model, by)
        for block, where in _BLOCKS.items():
            among = [arm for arm in arms if arm.block == block]
            found += _drawn(among, results.plan.reference, model, by)
            found += _seeds(among, f"{model}{where}", results, model)
            runs = {one.run.name: one for arm in among for one in results.of(arm.name, model)}
            found += _different(list(runs.values()), f"{model}{where}")
    return [*dict.fromkeys([*found, *_short(results)])]


def _unmatched(arm: Arm, arms: Sequence[Arm], model: str, by: Mapping[tuple[str, str], Row]) -> list[str]:
    """Whether the quantity that an arm was matched in came out equal."""
    if not arm.match:
        return []
    rule, to = arm.match
    other = next((one for one in arms if _stem(one) == to and not one.match and not one.trained), None)
    if other is None or (arm.staged and rule in ("entries", "steps")):  # of stages see `_drawn`
        return []
    column = _HELD[rule]
    mine, theirs = (by[one.name, model].values[column] for one in (arm, other))
    if not mine or not theirs or abs(mine / theirs - 1) <= CLOSE:
        return []
    return [
        f"{arm.label} ({model}) was matched to {other.label} in {rule}, yet has {mine:,.0f} {_WORDS[column]} "
        f"against {theirs:,.0f}."
    ]


def _drawn(arms: Sequence[Arm], reference: str, model: str, by: Mapping[tuple[str, str], Row]) -> list[str]:
    """Arms of a block that drew more or fewer entries than its reference, and were to draw as many."""
    free = [
        arm for arm in arms if arm.block == TRANSFER or (arm.match and arm.match[0] in ("images", "tokens"))
    ]
    held = [arm for arm in arms if arm not in free]
    named = next((arm for arm in arms if arm.name == reference), None)
    first = named or next(iter(held), None)
    if first is None or first in free or not (theirs := by[first.name, model].values["drawn"]):
        return []
    return [
        f"{arm.label} ({model}) drew {mine:,.0f} entries in training against {theirs:,.0f} of {first.label}."
        for arm in held
        if (mine := by[arm.name, model].values["drawn"]) and abs(mine / theirs - 1) > CLOSE
    ]


def _stem(arm: Arm) -> str:
    return arm.recipe.rsplit("/", 1)[-1].removesuffix(".yaml")


def _seeds(arms: Sequence[Arm], where: str, results: Results, model: str) -> list[str]:
    """Arms of a block whose finished runs have other seeds than most."""
    seeds = {arm.label: sorted(one.run.seed for one in results.of(arm.name, model)) for arm in arms}
    if len({tuple(one) for one in seeds.values()}) < 2:
        return []
    said = "; ".join(f"{label}: {', '.join(map(str, one))}" for label, one in seeds.items())
    return [f"Arms with {where} have different seeds so far ({said})."]


def _different(found: Sequence[Result], where: str) -> list[str]:
    """Facts and settings that all runs of a block with a model should share."""
    lines = []
    for name, values in (
        ("trainable parameters", [one.costs.trainable for one in found]),
        ("base weights", [one.costs.provenance.get("model_hash") for one in found]),
        ("code (commit)", [commit for one in found for commit in one.costs.commits]),
        ("processes", [one.costs.provenance.get("world_size") for one in found]),
        ("hardware", [one.costs.provenance.get("machine", {}).get("device") for one in found]),
    ):
        if len(different := _distinct(values)) > 1:
            lines.append(f"Runs with {where} differ in {name}: {', '.join(different)}.")
    keys = dict.fromkeys(key for one in found for key in one.costs.settings)
    for key in keys:
        if key in _FREE or key.startswith(("dynamics_", "save_", "log", "dataloader_", "report")):
            continue
        if len(different := _distinct([_setting(one.costs.settings, key) for one in found])) > 1:
            lines.append(f"Runs with {where} differ in {key}: {', '.join(different)}.")
    return lines


def _setting(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a setting; what `batching` brings along is no difference of its own."""
    value, batching = settings.get(key), settings.get("batching")
    if key not in _OF_BATCHING or not batching:
        return value
    standard = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}[key]
    usual = presets(str(settings.get("model")), "", batching=batching)[key]
    return "by batching" if (standard if value is None else value) == usual else value


def _distinct(values: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys("the default" if value is None else str(value)[:12] for value in values))


def _short(results: Results) -> list[str]:
    """Decentralised mixtures with less than they were to have, and tokens that a match did not reach."""
    lines = []
    for arm in results.plan.arms:
        found = [one for model in results.plan.study.models for one in results.of(arm.name, model.name)]
        if not arm.match or arm.staged or arm.block == DENSITY or not found:
            continue
        try:
            match = read_meta(Path(str(found[0].costs.settings.get("mixture")))).get("match") or {}
        except UserError:
            continue
        lines += [f"{arm.label}: task {task} has less than its volume." for task in match.get("short", {})]
        mine, theirs = (match.get(key, {}).get("tokens") for key in ("this", "matched"))
        if arm.match[0] == "tokens" and mine and theirs and abs(mine / theirs - 1) > CLOSE:
            lines.append(f"{arm.label} was matched in tokens, yet has {mine:,} against {theirs:,}.")
    return lines

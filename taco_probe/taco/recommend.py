"""What follows from a ranking: public datasets, what to pretrain on, and what may be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taco_probe.taco.table import TABLE, Row
from taco_probe.taco.tasks import TASKS


def public(modalities: Sequence[str], task: str | None) -> list[Row]:
    """Public datasets of these modalities that the task can be made of (any with masks for none), in the
    order of the modalities, then the most images. Modalities are alike where they agree up to a comma."""
    places = {name.partition(",")[0]: place for place, name in reversed(list(enumerate(modalities)))}
    feeding = [
        row
        for row in TABLE
        if row.modality.partition(",")[0] in places
        and (task in row.feeds if task in TASKS else row.labels != "none")
    ]
    return sorted(feeding, key=lambda row: (places[row.modality.partition(",")[0]], -row.images))


def told(row: Row) -> dict[str, Any]:
    """A public dataset as JSON."""
    return {
        "name": row.name, "collection": row.collection, "modality": row.modality, "labels": row.labelled,
        "images": row.images, "licence": row.licence, "where": row.where,
    }  # fmt: skip


def pretrain_on(
    tasks: Sequence[Mapping[str, Any]], transfer: Mapping[str, Any] | None, top: int
) -> dict[str, Any] | None:
    """Sources by the gain that was measured for the nearest task of the study; None without another task."""
    target = next((one["task"] for one in tasks if transfer and one["task"] in transfer["tasks"]), None)
    if target is None or transfer is None:
        return None
    column = transfer["tasks"].index(target)

    def at(key: str, row: int) -> float | None:
        return None if transfer[key] is None else float(transfer[key][row][column])

    sources = [
        {
            "task": task,
            "gain": {
                "value": at("gain", row), "low": at("gain_low", row), "high": at("gain_high", row),
                "n": transfer["settings"]["seeds"],
            },
        }
        for row, task in enumerate(transfer["tasks"])
        if row != column
    ]  # fmt: skip
    if not sources:
        return None
    sources.sort(key=lambda one: -one["gain"]["value"])
    return {"target": target, "nearest_task": tasks[0]["task"], "sources": sources[:top]}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What may be said of the ranking."""
    said = []
    n = found["images"]
    left_out = "left-out datasets" if found.get("threshold_held_out", True) else "known datasets"
    if found["tasks"]:
        best = found["tasks"][0]
        sure = (
            ""
            if best["first"] is None
            else f", first in {best['first']:.0%} of resamples of the {n} images and the known datasets"
        )
        said.append(f"Nearest task: {best['task']} (distance {_interval(best['distance'])}{sure}).")
    if found["unlike"]:
        said.append(
            f"Unlike anything known: {best['distance']['value']:.2f} is farther than 95 % of the tasks of "
            f"{left_out} lie from their own ({found['threshold']:.2f}); do not rely on the ranking."
        )
    if right := found["right"]:
        said.append(
            f"Of the {right['n']} tasks on {left_out} whose lead over the next was most like this one "
            f"({right['lead']:.3f}), the nearest was the right one in {right['value']:.0%}."
        )
    if found["tasks"] and (accuracy := found["accuracy"]):
        first, fifth = accuracy["top1"], accuracy["top5"]
        number = len(accuracy["by_dataset"])
        held_out = found["threshold_held_out"]
        where = (
            f"On {number} left-out dataset{'s' * (number != 1)}"
            if held_out
            else f"On the {number} datasets that it was trained on"
        )
        flatters = "" if held_out else ", each left out of the centres in turn, which flatters"
        said.append(
            f"{where} this run names the task right in {first['value']:.0%} of {accuracy['folders']} cases "
            f"(chance {accuracy['chance1']:.0%}), and has it among the first five in {fifth['value']:.0%}"
            f"{flatters}."
        )
    if found["readings"]:
        one = found["readings"][0]
        said.append(
            f"Drawn as each semantic task in turn, the masks agree best with what is known as {one['task']} "
            f"(distance {_interval(one['distance'])}; of all tasks it is the {_place(one['rank'])} nearest)."
        )
    if found["datasets"]:
        one = found["datasets"][0]
        sure = "" if one["first"] is None else f", first in {one['first']:.0%} of resamples"
        said.append(f"Nearest dataset: {one['dataset']}, {one['modality']} "
                    f"(distance {_interval(one['distance'])}{sure}).")  # fmt: skip
    if on := found["pretrain_on"]:
        other = "" if on["target"] == on["nearest_task"] else ", the nearest task that was studied"
        said.append(f"For {on['target']}{other}, {_helped(on['sources'][0])}.")
    return said


def _helped(best: Mapping[str, Any]) -> str:
    """What may be said of the best source, by its gain and its interval."""
    gain, low, high = (best["gain"][key] for key in ("value", "low", "high"))
    size = f"{abs(gain):.0%} {'less' if gain > 0 else 'more'} error than from scratch"
    sure = "(one seed, so no interval)" if low is None else f"(95 % interval {low:.0%} to {high:.0%})"
    if gain > 0 and (low is None or low > 0):
        return f"pretraining on {best['task']} helped most in the transfer study: {size} {sure}"
    clearly = "clearly " if gain > 0 else ""
    return f"no source {clearly}helped in the transfer study; the best was {best['task']}: {size} {sure}"


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None:
        return f"{estimate['value']:.2f}"
    return f"{estimate['value']:.2f}, {estimate['low']:.2f} to {estimate['high']:.2f}"


def _place(rank: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th") if rank not in (11, 12, 13) else "th"
    return f"{rank}{ending}"

"""Updates s B A of a model in memory and of a saved adapter, by module, ready for `updates`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from data_recipes.errors import UserError
from taco_probe.dynamics.lora import Group, find, group_of
from taco_probe.dynamics.updates import Update

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Keys of PEFT's configuration under which s B A is not the update, or s is not one number.
_OTHER = ("use_dora", "lora_bias", "rank_pattern", "alpha_pattern", "modules_to_save", "target_parameters")


def of_model(model: nn.Module, *, leave_out: str | None = None) -> dict[str, Update]:
    """Copies of the updates of a model's plain LoRA modules, by name; they stay while training goes on.

    Raises:
        UserError: see `lora.find`.
    """
    return {
        one.name: Update(one.a.weight.detach().clone(), one.b.weight.detach().clone(), one.scale)
        for one in find(model, leave_out=leave_out).modules
    }


def read(folder: Path) -> dict[str, Update]:
    """Updates of a saved adapter (a run's `adapter/`, or a checkpoint), by the names that `of_model` gives.

    Raises:
        UserError: no adapter is there, it cannot be read, or is not plain LoRA.
    """
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no readable adapter ({_CONFIG}): {error}") from error
    if config.get("peft_type") != "LORA" or (odd := [key for key in _OTHER if config.get(key)]):
        what = odd[0] if config.get("peft_type") == "LORA" else config.get("peft_type")
        raise UserError(f"the adapter in {folder} is not plain LoRA ({what}): its update is not s B A")
    root = math.sqrt(config["r"]) if config.get("use_rslora") else config["r"]
    factors: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(folder / _WEIGHTS, "pt") as file:
            for key in file.keys():  # noqa: SIM118
                name, _, part = key.removesuffix(".weight").rpartition(".lora_")
                factors.setdefault(name, {})[part] = file.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {folder / _WEIGHTS}: {error}") from error
    for name, parts in factors.items():
        if parts.keys() != {"A", "B"}:
            raise UserError(f"{folder / _WEIGHTS}: {name} has {', '.join(sorted(parts))} instead of A and B")
    return {
        name: Update(parts["A"], parts["B"], config["lora_alpha"] / root) for name, parts in factors.items()
    }


def grouped(
    updates: Mapping[str, Update], group: Callable[[str], Group] = group_of
) -> dict[Group, dict[str, Update]]:
    """Updates by the group of their module, each a part that `updates.cosine` takes."""
    parts: dict[Group, dict[str, Update]] = {}
    for name, update in updates.items():
        parts.setdefault(group(name), {})[name] = update
    return parts

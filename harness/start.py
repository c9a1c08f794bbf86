"""`--start`: training goes on from the weights of a saved adapter. Weights only: the optimizer is new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import set_peft_model_state_dict
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from data_recipes.errors import UserError
from model_adapters.adapter import Adapter

_WEIGHTS, _SETTINGS = "adapter_model.safetensors", "adapter_config.json"
# What the weights depend on, in PEFT's words -> ours. Dropout is not among them: it may change.
_MUST_AGREE = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "target_modules": "lora_targets (or train_projector)",
    "target_parameters": "train_projector",
    "bias": "bias",
    "use_rslora": "use_rslora",
    "use_dora": "use_dora",
}


def adapter_folder(start: str) -> Path:
    """The adapter's folder in a run folder, or the folder itself.

    Raises:
        UserError: there is no adapter, or its run is not finished.
    """
    path = Path(start)
    found = path / "adapter" if (path / "run.yaml").is_file() else path
    if missing := [name for name in (_SETTINGS, _WEIGHTS) if not (found / name).is_file()]:
        hint = ": the run is not finished" if found != path else ": name a run folder or an adapter folder"
        raise UserError(f"--start {start}: no {missing[0]} there{hint}")
    return found


def load_weights(model: Any, start: str, adapter: Adapter) -> None:
    """Puts the weights of the adapter in `start` into a model with LoRA.

    Raises:
        UserError: there is no adapter, it is broken, of another model, or its LoRA settings are others.
    """
    folder = adapter_folder(start)
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        weights = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"--start {start}: the adapter is broken ({' '.join(str(error).split())})") from None
    if (base := settings.get("base_model_name_or_path")) != adapter.name:
        raise UserError(f"--start {start}: it is an adapter of {base}, not of {adapter.name} (--model)")
    here = model.peft_config["default"].to_dict()
    for key, name in _MUST_AGREE.items():
        there, ours = _plain(settings.get(key)), _plain(here.get(key))
        if there != ours:
            raise UserError(
                f"--start {start}: {name} is {there!r} there and {ours!r} here: give the same settings"
            )
    shapes = {
        key: tuple(value.shape)
        for key, value in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    if wrong := [key for key in {**shapes, **weights} if shapes.get(key) != _shape(weights, key)]:
        raise UserError(
            f"--start {start}: {len(wrong)} of its weights are not those of {adapter.name} with these LoRA "
            f"settings, such as {wrong[0]}"
        )
    set_peft_model_state_dict(model, weights)


def _plain(value: Any) -> Any:
    """Settings as JSON keeps them: sets as lists in order, absent as None, 16.0 as 16."""
    if isinstance(value, set | list | tuple):
        return sorted(value)
    return value or None


def _shape(weights: dict[str, Any], key: str) -> tuple[int, ...] | None:
    return tuple(weights[key].shape) if key in weights else None

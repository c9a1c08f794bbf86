"""From what a user calls a model to its adapter. A new family is one file and one line in FAMILIES."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any, cast

from transformers.utils import cached_file

from data_recipes.errors import UserError, unknown
from model_adapters import models
from model_adapters.adapter import Adapter
from model_adapters.base import Family, first_line

# model_type of config.json -> module with a `FAMILY`
FAMILIES = {
    name: f"model_adapters.{name}"
    for name in ("llava", "llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "internvl")
}

# short name -> folder or hub id
MODELS = {model.name: model.checkpoint for model in models.MODELS}

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_adapter(name: str) -> Adapter:
    """The adapter of a model: a short name of MODELS, a local folder, or a hub id.

    The family is read from the checkpoint's own `config.json`, never guessed from its name.

    Raises:
        UserError: no such model, or its files do not make a checkpoint of a known family.
    """
    folder = located(name)
    config = _config(name, folder)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise UserError(f"config.json of model {name!r} names no model_type")
    if model_type not in FAMILIES:
        raise unknown(
            "model family", model_type, FAMILIES, f"It is the model_type in config.json of {folder}"
        )
    found = family(model_type)
    wanted = found.model_class.__name__
    if (saved := config.get("architectures")) and wanted not in saved:
        raise UserError(
            f"model {name!r} is of model_type {model_type!r}, but config.json says that its weights are of "
            f"{saved[0]}, not of {wanted}"
        )
    return Adapter(name, folder, found)


def located(name: str) -> str:
    """The folder or hub id of a model by any name that `load_adapter` takes; what is there is not looked at.

    Raises:
        UserError: this can be no model's name.
    """
    return MODELS.get(name) or _folder_or_hub_id(name)


def family(name: str) -> Family:
    """The family of a model_type.

    Raises:
        UserError: no such family.
    """
    if name not in FAMILIES:
        raise unknown("model family", name, FAMILIES)
    return cast(Family, importlib.import_module(FAMILIES[name]).FAMILY)


def _folder_or_hub_id(name: str) -> str:
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name in MODELS:  # without a hub id
        access = next(model.access for model in models.MODELS if model.name == name)
        raise UserError(f"model {name!r} is on no hub: {access}")
    if path.is_file():
        raise UserError(f"model {name!r} is a file: give the folder of the checkpoint")
    if _HUB_ID.fullmatch(name):
        return name
    if "/" in name:
        raise UserError(f"no model folder {name!r}")
    raise unknown("model", name, MODELS, "A checkpoint folder or a hub id (owner/name) is accepted too")


def _config(name: str, folder: str) -> dict[str, Any]:
    if Path(folder).is_dir():
        path: str | None = str(Path(folder) / "config.json")
    else:
        try:
            path = cached_file(folder, "config.json")
        except OSError as error:
            raise UserError(
                f"no folder {name!r}, and no such model on the hub: {first_line(error)}"
            ) from error
    try:
        config = json.loads(Path(cast(str, path)).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"model folder {folder} has no config.json") from error
    except (OSError, ValueError) as error:
        raise UserError(f"config.json of model {name!r} cannot be read: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise UserError(f"config.json of model {name!r} is not an object")
    return config

"""Files of keys and values, held to a pydantic model: read, and each mistake told in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from data_recipes.errors import UserError, unknown

# What pydantic adds to the place of a value for which several types are tried.
_TRIED = re.compile(r"(literal|list|dict|tuple|function-\w+)\[.*|float|int|str|bool")


# Of the models of such files: no unknown keys, no guessing of types, no changes afterwards.
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


def read_keys(path: Path, what: str) -> dict[str, Any]:
    """The keys of a YAML file.

    Args:
        what: what the file is, for errors: "a recipe".

    Raises:
        UserError: it can't be read, is no YAML, or no mapping with text for keys.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: it is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise UserError(f"{path}: {what} has lines of the form 'key: value'")
    return raw


def explained(error: ValidationError, model: type[BaseModel], where: str, *, hint: str = "") -> UserError:
    """The first of pydantic's errors as one line of ours.

    Args:
        hint: what to add where a key is unknown.
    """
    # A misspelt key also leaves the right one missing: what stands there comes first.
    first = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    return UserError(f"{where}: {_told(first, model, hint)}")


def place(error: ErrorDetails) -> list[str]:
    """The keys that lead to the value."""
    keys = [str(key) for key in error["loc"]]
    while len(keys) > 1 and _TRIED.fullmatch(keys[-1]):
        keys.pop()
    return keys


def _told(error: ErrorDetails, model: type[BaseModel], hint: str) -> str:
    keys, value = place(error), error["input"]
    dotted = ".".join(keys)
    if error["type"] == "extra_forbidden":
        known = (".".join([*keys[:-1], name]) for name in _fields(model, keys[:-1]))
        return str(unknown("key", dotted, known, hint))
    if error["type"] == "missing":
        return f"key {dotted} is missing"
    if error["type"] == "literal_error" and isinstance(value, str):
        legal = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
        return str(unknown(dotted, value, legal))
    if error["type"] in ("model_type", "dict_type"):
        return f"{dotted} is {value!r}: give it keys and values, indented below"
    trap = ""
    if isinstance(value, bool):
        trap = "; YAML reads yes, no, on, off as true and false: write a number, or quotes for text"
    elif isinstance(value, str) and error["type"] in ("float_type", "int_type"):
        trap = "; write a number without quotes (YAML reads 1e-4 as text: write 1.0e-4)"
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    shown = f"{dotted} is {value!r}: " if dotted and not isinstance(value, Mapping) else ""
    return f"{shown}{message}{trap}"


def _fields(model: type[BaseModel], keys: list[str]) -> Iterator[str]:
    """Names of the keys that may stand below `keys`; names that the file chooses itself are passed over."""
    for key in keys:
        if key in model.model_fields:
            model = _inner(model.model_fields[key].annotation) or model
    yield from model.model_fields


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The schema inside an annotation such as `list[Annotated[Arm, ...]]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inner(part))), None)

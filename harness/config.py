"""Settings of a training run: four dataclasses, read from a YAML file and the command line; the latter wins.

Both go through the same argument parser, so a YAML `learning_rate: 1e-4` (a string to PyYAML) means the same
as `--learning_rate 1e-4`. Presets fill in what the user left open; see `presets`.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
from transformers import HfArgumentParser, TrainingArguments

from data_recipes.errors import UserError, unknown
from data_recipes.recipe import is_image_centric
from data_recipes.schema import read_keys
from data_recipes.tasks import TASKS
from harness.arguments import CHOICES, DataArguments, DynamicsArguments, ModelArguments
from model_adapters.models import is_tiny
from taco_probe.dynamics.schedule import parse_steps

T = TypeVar("T")
CLASSES = (DataArguments, ModelArguments, DynamicsArguments, TrainingArguments)

# Bounds of what TrainingArguments does not check itself: (lowest, whether that value is allowed, highest).
_BOUNDS: dict[str, tuple[float, bool, float]] = {
    "max_length": (1, True, float("inf")),
    "max_shared_length": (1, True, float("inf")),
    "row_tokens": (1, True, float("inf")),
    "schedule_steps": (0, True, float("inf")),
    "schedule_before": (0, True, float("inf")),
    "image_cache": (0, True, float("inf")),
    "threads": (0, True, float("inf")),
    "lora_r": (1, True, float("inf")),
    "lora_alpha": (0, False, float("inf")),
    "lora_dropout": (0, True, 0.99),
    "learning_rate": (0, True, float("inf")),
    "per_device_train_batch_size": (1, True, float("inf")),
    "per_device_eval_batch_size": (1, True, float("inf")),
    "gradient_accumulation_steps": (1, True, float("inf")),
    "num_train_epochs": (0, False, float("inf")),
    "logging_steps": (0, False, float("inf")),
    "save_steps": (0, False, float("inf")),
    "label_smoothing_factor": (0, True, 1),
    "dynamics_entries": (2, True, float("inf")),
    "dynamics_seed": (0, True, 2**32 - 1),
    "dynamics_disk": (0, True, float("inf")),
    "dynamics_sketch": (0, True, float("inf")),
    "seed": (0, True, 2**32 - 1),
}

# What every run starts from, and what depends on the model. The tiny model was measured on two CPU cores; the
# values for real models are the usual ones for LoRA on a 2-8 B model.
_COMMON: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.05,  # below 1: a fraction of all steps
    "logging_steps": 10,
    "save_steps": 50,
    "save_total_limit": 2,
    "report_to": "none",
    "remove_unused_columns": False,
}
_TINY: dict[str, Any] = {
    "learning_rate": 3e-3,
    "num_train_epochs": 1.5,
    "lora_r": 64,
    "lora_alpha": 64,
    "lora_dropout": 0.0,
    "train_projector": True,
}
_REAL: dict[str, Any] = {
    "learning_rate": 1e-4,
    "save_steps": 200,
}


# (model is tiny, batching) -> samples of a micro-batch, and micro-batches of a step. About 16 entries a step
# for `tiny`, because a short run needs many steps, and about 32 for real models; an IMAX image has 7.46.
_SAMPLES = {
    (True, "entry"): (8, 2),  # in parts of similar length, for less padding
    (True, "image"): (2, 1),
    (False, "entry"): (2, 16),
    (False, "image"): (1, 4),
}


def presets(model: str, recipe: str, *, batching: str = "") -> dict[str, Any]:
    """Defaults for this model, mixture and machine, for the settings the user leaves open.

    Raises:
        UserError: no such recipe.
    """
    batching = batching or ("image" if is_image_centric(recipe) else "entry")
    samples, parts = _SAMPLES[is_tiny(model), batching]
    drawn = {
        "batching": batching,
        "sharing": "image" if batching == "image" else "none",
        "per_device_train_batch_size": samples,
        "gradient_accumulation_steps": parts,
    }
    gpu = torch.cuda.is_available()
    device: dict[str, Any] = {"dataloader_pin_memory": gpu}
    if gpu:
        device |= {"bf16": torch.cuda.is_bf16_supported(), "dataloader_num_workers": 2}
    elif not torch.backends.mps.is_available():
        device["use_cpu"] = not os.environ.get("ACCELERATE_USE_DEEPSPEED")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # Several processes without a GPU find each other only so; else each would train alone.
            device["ddp_backend"] = "gloo"
    name = re.sub(r"\.ya?ml$", "", Path(recipe).name) or "mixture"
    mode = _TINY if is_tiny(model) else _REAL
    return _COMMON | mode | drawn | device | {"output_dir": f"runs/{name}"}


class Settings(NamedTuple):
    """The four parts, and what the user set (on the command line or in the YAML file), by name."""

    data: DataArguments
    model: ModelArguments
    dynamics: DynamicsArguments
    training: TrainingArguments
    chosen: Mapping[str, Any]


class _Parser(HfArgumentParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        # "argument --lora_r/--lora-r: invalid ..." names the flag twice
        raise UserError(re.sub(r"^argument (--\w+)[^:]*", r"\1", " ".join(message.split())))


_UNSET: Any = object()


def parse(argv: Sequence[str]) -> Settings:
    """Settings from `[config.yaml] --flag value ...`; flags override the file, the file the presets.

    Raises:
        UserError: an unknown flag or key, a value of the wrong type or out of range.
        SystemExit: after --help.
    """
    parser = _parser()
    chosen: dict[str, Any] = {}
    arguments = list(argv)
    if arguments and Path(arguments[0]).suffix in (".yaml", ".yml"):
        path = arguments.pop(0)
        content = read_keys(Path(path), "a file of settings")
        try:
            chosen |= _read(parser, _as_arguments(content))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    chosen |= _read(parser, arguments)
    _check_choices(chosen)
    return _settled(chosen)


def check_said(content: Mapping[str, Any]) -> None:
    """Checks settings as a file gives them, as far as the machine has no part in it: names, types, bounds.

    Raises:
        UserError: an unknown key, a value of the wrong type or out of range.
    """
    chosen = _read(_parser(), _as_arguments(content))
    _check_choices(chosen)
    _check(chosen | {"use_cpu": False})


def derive(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings as if the user had also said `changes`; None takes back what was said. Presets follow.

    Raises:
        UserError: as `parse`.
    """
    chosen = {**settings.chosen, **changes}
    return _settled({name: value for name, value in chosen.items() if value is not None})


def _settled(chosen: Mapping[str, Any]) -> Settings:
    model, recipe = chosen.get("model", ModelArguments.model), chosen.get("recipe", DataArguments.recipe)
    values = presets(model, recipe, batching=chosen.get("batching", "")) | dict(chosen)
    _check(values)
    try:
        return Settings(
            _build(DataArguments, values),
            _build(ModelArguments, values),
            _build(DynamicsArguments, values),
            _build(TrainingArguments, values),
            dict(chosen),
        )
    except (ValueError, TypeError, ImportError) as error:  # TrainingArguments checks its own flags
        raise UserError(" ".join(str(error).split())) from None


def _parser() -> _Parser:
    usage = "%(prog)s [config.yaml] [--flag value ...]"
    return _Parser(CLASSES, prog="harness/train.py", usage=usage, allow_abbrev=False)


def _check_choices(chosen: Mapping[str, Any]) -> None:
    for name, choices in CHOICES.items():
        if (value := chosen.get(name)) is not None and value not in choices:
            raise unknown(name, value, choices)


def flags() -> list[str]:
    """Every flag's name, without the dashes."""
    return [name for cls in CLASSES for name in _names(cls)]


def _names(cls: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(cls) if f.init]


def _build(cls: type[T], values: Mapping[str, Any]) -> T:
    return cls(**{key: value for key, value in values.items() if key in _names(cls)})


def _read(parser: _Parser, arguments: Sequence[str]) -> dict[str, Any]:
    """Only what `arguments` set, typed."""
    namespace = argparse.Namespace(**dict.fromkeys(flags(), _UNSET))
    _, rest = parser.parse_known_args(list(arguments), namespace)
    if rest:
        raise _unknown_flag(rest[0])
    return {key: value for key, value in vars(namespace).items() if value is not _UNSET}


def _unknown_flag(argument: str) -> UserError:
    if not argument.startswith("-"):
        return UserError(f"unexpected argument {argument!r}: give --flag value, or a .yaml file first")
    name = argument.split("=")[0]
    close = difflib.get_close_matches(name.lstrip("-").replace("-", "_"), flags(), n=1, cutoff=0.6)
    guess = f"did you mean '--{close[0]}'? " if close else ""
    return UserError(f"unknown flag {name!r}: {guess}--help lists all flags")


def _as_arguments(content: Mapping[str, Any]) -> list[str]:
    """A file's keys as command line arguments, so that both are typed by the same rules.

    Raises:
        UserError: an unknown key, or a value that cannot be of its flag's type.
    """
    known, arguments = flags(), []
    for key, value in content.items():
        if key in FACTS or value is None or value == []:
            continue
        if key not in known:
            raise _unknown_key(key, known)
        if isinstance(value, bool) and key in _TEXT:
            raise UserError(f"{key}: YAML reads the value as {str(value).lower()}; write it in quotes")
        if isinstance(value, list):
            arguments += [f"--{key}", *map(str, value)]
        else:
            arguments.append(f"--{key}={json.dumps(value) if isinstance(value, dict) else value}")
    return arguments


# Keys of run.yaml that record facts rather than settings; a run.yaml can serve as a config file all the same.
FACTS = (
    "mixture", "mixture_hash", "model_hash", "world_size", "mix_hashes", "start_hash", "recipe_hash",
    "stages",
)  # fmt: skip
_TEXT = (
    "recipe", "model", "output_dir", "start", "stage_cache", "lora_targets", "dynamics_steps",
    "dynamics_mixture", "dynamics_split", "dynamics_leave_out", "dynamics_folder",
    *CHOICES,
)  # fmt: skip


def _unknown_key(key: str, known: Iterable[str]) -> UserError:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return UserError(f"unknown key {key!r}: {guess}The keys are the flags of harness/train.py --help")


def _check(values: Mapping[str, Any]) -> None:
    for name, (low, closed, high) in _BOUNDS.items():
        value = values.get(name)
        if value is None or ((low <= value if closed else low < value) and value <= high):
            continue
        bound = (
            f"{'at least' if closed else 'above'} {low}" if high == float("inf") else f"from {low} to {high}"
        )
        raise UserError(f"--{name} must be {bound}, not {value}")
    if values.get("fp16") and values.get("use_cpu"):
        raise UserError("--fp16 needs a GPU: a CPU would train in float32 all the same. --bf16 works on both")
    if values.get("attention") == "flex":
        if values.get("use_cpu"):
            raise UserError("--attention flex needs a GPU: torch cannot train with it on a CPU")
        if values.get("sharing") == "none":
            raise UserError("--attention flex is for shared sequences: it needs --sharing image")
    for task in values.get("tasks") or ():
        if task not in TASKS:
            raise unknown("task", task, TASKS)
    parse_steps(values.get("dynamics_steps", ""))
    for name in ("lora_targets", "dynamics_leave_out"):
        if (pattern := values.get(name)) is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(f"--{name} {pattern!r} is not a regular expression: {error}") from None


def as_dict(settings: Settings) -> dict[str, Any]:
    """Every setting as plain values. TrainingArguments appear where they differ from the library's defaults
    (its version is in provenance.json); tokens and other secrets never do."""
    training = settings.training.to_dict()
    standard = {f.name: f.default for f in dataclasses.fields(TrainingArguments)}
    moved = {
        key: value
        for key, value in training.items()
        if key in standard and value != standard[key] and key not in _DERIVED and not key.endswith("_token")
    }
    ours = dataclasses.asdict(settings.data) | dataclasses.asdict(settings.model)
    ours = {key: value for key, value in ours.items() if key not in _RARE or value is not None}
    if settings.dynamics.dynamics_steps:
        ours |= dataclasses.asdict(settings.dynamics)
    return {key: value for key, value in (ours | moved).items() if key not in _DERIVED}


_RARE = ("mix", "start")  # in run.yaml where they were given
# Said to one command only, set by the launcher, or filled in by TrainingArguments itself.
_DERIVED = frozenset({
    "overwrite", "stage_cache", "threads", "disable_tqdm", "local_rank", "accelerator_config",
    "activation_checkpointing", "gradient_checkpointing", "fsdp_config", "include_for_metrics", "debug",
})  # fmt: skip

"""Measures the optimisation dynamics of a run while it trains: `--dynamics_steps`.

Training does not notice: weights, gradients, modes and random states are as they were afterwards, and the
time does not count in the rates of train.jsonl.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled

from data_recipes.errors import UserError
from data_recipes.recipe import mixture_folder
from data_recipes.records import Mixture
from data_recipes.store import need_pixels, read_mixture
from data_recipes.tables import write_text
from eval.plan import adapter_model, trained_on
from eval.runs import read_run
from harness import peft_model, provenance
from harness.arguments import DynamicsArguments
from harness.checkpoints import is_whole, step_of
from harness.config import Settings, parse
from harness.runs import RunFolder
from model_adapters.adapter import Adapter
from model_adapters.registry import load_adapter
from taco_probe.dynamics import measurement
from taco_probe.dynamics.losses import FISHERS
from taco_probe.dynamics.probe import choose
from taco_probe.dynamics.schedule import steps_of
from taco_probe.dynamics.take import Plan, Probed

if TYPE_CHECKING:
    from harness.trainer import HarnessTrainer


def prepare(
    arguments: DynamicsArguments, mixture: Mixture, folder: Path, adapter: Adapter, device: torch.device
) -> Probed:
    """The probe set of a run, encoded.

    Args:
        mixture, folder: the run's own, for where `--dynamics_mixture` names no other.

    Raises:
        UserError: the mixture of probe entries cannot be used, or has too few.
    """
    if arguments.dynamics_mixture is not None:
        folder, mixture = _named(arguments.dynamics_mixture)
    probe = choose(
        mixture,
        arguments.dynamics_entries,
        split=arguments.dynamics_split,
        seed=arguments.dynamics_seed,
    )
    fishers = FISHERS if arguments.dynamics_fisher == "both" else (arguments.dynamics_fisher,)
    plan = Plan(
        fishers=fishers,
        affinity=arguments.dynamics_affinity,
        leave_out=arguments.dynamics_leave_out,
        scratch=Path(arguments.dynamics_folder) if arguments.dynamics_folder else None,
        disk=int(arguments.dynamics_disk * 1e9) or None,
        sketch=arguments.dynamics_sketch or None,
    )
    return Probed(probe, adapter, folder, plan, device=device)


def _named(name: str) -> tuple[Path, Mixture]:
    """A mixture that probe entries come from."""
    folder = mixture_folder(name, progress=False)
    mixture = read_mixture(folder)
    need_pixels(mixture, name)
    return folder, mixture


class Dynamics(TrainerCallback):  # type: ignore[misc]
    """Takes a measurement at the chosen steps, unless the run folder has it already."""

    def __init__(self, run: RunFolder, steps: str, probed: Probed | None, facts: dict[str, Any]) -> None:
        """
        Args:
            steps: as in `--dynamics_steps`.
            probed: None on processes that wait for the main one to measure.
            facts: about the run, for the record.

        Raises:
            UserError: the weights are spread over processes.
        """
        if is_deepspeed_zero3_enabled():
            raise UserError(
                "--dynamics_steps needs whole weights, and DeepSpeed's stage 3 spreads them: train without, "
                "then imax dynamics measure RUN"
            )
        self._folder, self._said, self._probed = run.path / measurement.FOLDER, steps, probed
        self._facts = facts
        self._steps: list[int] = []
        self.trainer: HarnessTrainer | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures step 0."""
        self._steps = steps_of(self._said, state.max_steps)
        self._maybe(state, **kwargs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measures the step that was just done."""
        self._maybe(state, **kwargs)

    def _maybe(self, state: TrainerState, *, model: Any, optimizer: Any = None, **kwargs: Any) -> None:
        step = state.global_step
        if step not in self._steps:
            return
        begun = time.perf_counter()
        if self._probed is not None and step not in measurement.steps(self._folder):
            facts = self._facts | {"max_steps": state.max_steps, "epoch": round(float(state.epoch or 0), 4)}
            with torch.random.fork_rng(_gpus()):
                found = self._probed.take(model, step=step, optimizer=_adam(optimizer), facts=facts)
            measurement.write(found, self._folder)
            print(
                f"dynamics of step {step} measured in {time.perf_counter() - begun:.1f} s",
                file=sys.stderr,
                flush=True,
            )
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        if self.trainer is not None:
            self.trainer.pause(time.perf_counter() - begun)


def _adam(optimizer: Any) -> torch.optim.Optimizer | None:
    """The optimizer under the wrappers of accelerate, if it is one of the Adam family."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return inner if isinstance(inner, torch.optim.Adam | torch.optim.AdamW) else None


def _gpus() -> list[int]:
    """The GPU whose random state measuring might move."""
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []


def measure_run(
    run: RunFolder, said: Mapping[str, Any], *, checkpoints: bool = False, overwrite: bool = False
) -> list[Path]:
    """Measures the adapter of a finished run, and the checkpoints it kept if asked for; returns the files.

    Args:
        said: values of DynamicsArguments in place of those that the run was trained with.
        overwrite: measure again what is there already.

    Raises:
        UserError: no run is there, it has no adapter, or as `prepare`.
    """
    content = run.settings()
    if not run.finished():
        raise UserError(f"{run.path} is not finished: `imax train` goes on with it")
    last = int(run.provenance()["sessions"][-1]["to_step"])
    saved = {last: run.adapter}
    if checkpoints:
        found = {step_of(path): path for path in run.checkpoints.glob("checkpoint-*") if is_whole(path)}
        saved = found | saved
    folder = run.path / measurement.FOLDER
    there = [] if overwrite else measurement.steps(folder)
    missing = {step: path for step, path in sorted(saved.items()) if step not in there}
    if not missing:
        return []
    settings = parse([str(run.settings_file)])
    device = settings.training.device
    adapter = load_adapter(settings.model.model)
    own = trained_on(read_run(run.path))
    probed = prepare(replace(settings.dynamics, **said), read_mixture(own), own, adapter, device)
    base = peft_model.load_base(adapter, settings.model, settings.training)
    facts = described(settings, content) | {"max_steps": last}
    model = PeftModel.from_pretrained(base, run.adapter, is_trainable=True).to(device)
    written = []
    for step, path in missing.items():
        set_peft_model_state_dict(model, load_file(path / "adapter_model.safetensors"))
        written.append(measurement.write(probed.take(model, step=step, facts=facts), folder))
    return written


def measure_adapter(adapter_folder: Path, said: Mapping[str, Any], *, out: Path, step: int) -> Path:
    """Measures a PEFT adapter that no run of ours saved, on entries of a named mixture; returns the file.
    `out` becomes a folder that `imax dynamics` compares.

    Args:
        said: values of DynamicsArguments; `dynamics_mixture` among them.
        step: what step to record it as.

    Raises:
        UserError: no mixture is named, the adapter does not say which model it adapts or cannot be loaded, or
            as `prepare`.
    """
    if said.get("dynamics_mixture") is None:
        raise UserError(
            f"{adapter_folder} is an adapter without a run: say what to measure it on with "
            "--dynamics_mixture NAME"
        )
    name = adapter_model(adapter_folder)
    settings = parse(["--model", name, "--output_dir", str(out)])
    adapter = load_adapter(name)
    folder, mixture = _named(said["dynamics_mixture"])
    arguments = replace(settings.dynamics, **{**said, "dynamics_mixture": None})  # it is `mixture`
    probed = prepare(arguments, mixture, folder, adapter, settings.training.device)
    base = peft_model.load_base(adapter, settings.model, settings.training)
    try:
        model = PeftModel.from_pretrained(base, adapter_folder, is_trainable=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"{adapter_folder}: can't load: {str(error).splitlines()[0]}") from error
    what = {
        "recipe": adapter_folder.resolve().name,
        "model": name,
        "mixture": str(folder.resolve()),
        "mixture_hash": mixture.meta["mixture_hash"],
    }
    facts = {"recipe": what["recipe"], "model": name, "model_hash": provenance.hash_weights(adapter.folder)}
    found = probed.take(model.to(settings.training.device), step=step, facts=facts | {"max_steps": None})
    written = measurement.write(found, out / measurement.FOLDER)
    if not (out / "run.yaml").exists():
        write_text(yaml.safe_dump(what | {"measured_only": True}, sort_keys=False), out / "run.yaml")
    return written


def described(settings: Settings, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a measurement says about its run."""
    model = {"recipe": settings.data.recipe, "model": settings.model.model, "seed": settings.training.seed}
    return model | {key: facts.get(key) for key in ("mixture_hash", "model_hash")}
